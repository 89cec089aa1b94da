"""Where the store is, as SMART_CITY_VALKEY_URL says it: one server, or a cluster of which some nodes are named.

It reads and shows URLs and makes the recipe of a connection to each node; it opens none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit

from redis.asyncio import ConnectionPool

from foundations.valkey.refusals import WrongStore

USUAL_PORT = 6379


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One server's host and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Address:
    """A URL that was understood. Credentials, database and TLS hold for every node of a cluster.

    ``pool`` is redis-py's, of which never a connection is opened: it only knows how.
    """

    pool: ConnectionPool
    is_cluster: bool
    urls: Sequence[str]
    """One for each server that the URL names."""
    seeds: Sequence[Endpoint]
    """The same servers. Of a cluster they tell what else there is."""

    @classmethod
    def read(cls, url: str) -> Address:
        """Understands a URL.

        Raises:
            WrongStore: it cannot be used; the sentence shows no secret.
        """
        try:
            parts = urlsplit(url)
            options = dict(parse_qsl(parts.query))
            is_cluster = options.pop("cluster", "false").lower() == "true"
            each = _each_server(parts, options, is_cluster=is_cluster)
            pools = [ConnectionPool.from_url(one, protocol=3, decode_responses=False) for one in each]
            seeds = [_endpoint(pool.connection_kwargs) for pool in pools]
        except (ValueError, TypeError):
            raise WrongStore(
                f"SMART_CITY_VALKEY_URL is {shown_url(url)}, which cannot be read as redis://HOST:6379, "
                "rediss://HOST:6379 or unix:///PATH, or for a cluster as redis://HOST:6379,HOST:6379/?cluster=true; "
                "a user and a password stand once, as USER:PASSWORD@ before the first host, and in a password "
                "every character but letters and digits is written as %XX."
            ) from None  # the cause may show a part of the password
        if is_cluster and parts.scheme == "unix":
            raise WrongStore(
                f"SMART_CITY_VALKEY_URL is {shown_url(url)}, but the nodes of a cluster are reached by "
                "redis:// or rediss://."
            )
        if len(pools) > 1 and not is_cluster:
            raise WrongStore(
                f"SMART_CITY_VALKEY_URL is {shown_url(url)}, which names several servers: "
                "add ?cluster=true if they are one cluster, or name one."
            )
        return cls(pools[0], is_cluster, each, seeds)

    def pool_of(self, endpoint: Endpoint) -> ConnectionPool:
        """The recipe of connections to another node of the same cluster."""
        options = {**self.pool.connection_kwargs, "host": endpoint.host, "port": endpoint.port}
        return ConnectionPool(connection_class=self.pool.connection_class, **options)


def _each_server(parts: SplitResult, options: Mapping[str, str], *, is_cluster: bool) -> list[str]:
    """A URL for each server that one names.

    Raises:
        ValueError: one of several has no name, or credentials of its own.
    """
    login, at, hosts = parts.netloc.rpartition("@")
    named = hosts.split(",")
    if len(named) > 1 and not all(named):
        raise ValueError
    if "@" in login and "," in login and is_cluster:
        raise ValueError
    rest = f"{parts.path}?{urlencode(options)}" if options else parts.path
    return [f"{parts.scheme}://{login}{at}{host}{rest}" for host in named]


def _endpoint(options: Mapping[str, Any]) -> Endpoint:
    return Endpoint(str(options.get("host", "localhost")), int(options.get("port", USUAL_PORT)))


def shown_url(url: str) -> str:
    """The URL without what is secret in it.

    A password in which ``/``, ``?`` or ``#`` is not written as ``%XX`` may stand anywhere: then only the scheme
    is shown, and nothing where it has brackets that make it no URL at all.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "…"
    hosts = parts.netloc.rpartition("@")[2]
    if "@" in parts.path + parts.query + parts.fragment or not all(map(_has_readable_port, hosts.split(","))):
        return f"{parts.scheme}://…"
    return parts._replace(netloc=hosts, query="", fragment="").geturl()


def _has_readable_port(host: str) -> bool:
    try:
        _ = urlsplit(f"//{host}").port
    except ValueError:
        return False
    return True
