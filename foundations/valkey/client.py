"""The store: commands and scripts over one connection, each with a deadline, failing in the city's errors.

It never retries: whether a command may be sent twice is known only to whoever sends it. Hearing the bus is
`subscriptions`' work.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import parse_qs, urlsplit

import hiredis
import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from foundations.errors import Overloaded, Unavailable
from foundations.telemetry import Histogram
from foundations.valkey.pipe import Pipe
from foundations.valkey.scripts import Script
from foundations.valkey.wire import Argument

__all__ = ["Argument", "Valkey", "WrongStore"]

Item = TypeVar("Item")

POOLED_CONNECTIONS = 16
OLDEST_VALKEY = (9, 0)
OLDEST_REDIS = (7, 4)

_PASSING = frozenset(("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY"))
"""Refusals that pass: it starts, fails over, lacks replicas or disk, or a script runs too long."""
_CLOSED = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))


class WrongStore(Exception):
    """A store that the platform must not run on; the sentence names what to set."""


class Valkey:
    """The store. Replies are as redis-py gives them, with bytes for text.

    `command` and `run` share one connection, on which what is asked for in one turn of the event loop goes
    together. ``client`` is redis-py's own, for what blocks or needs a connection to itself.
    """

    def __init__(self, client: redis.asyncio.Redis, *, url: str, prefix: str, timeout: float) -> None:
        self.client = client
        self.url = url
        self.prefix = prefix
        self.timeout = timeout
        self.incarnation = secrets.token_hex(8)
        self._pipe = Pipe(client.connection_pool, seconds=timeout)
        self._read = cast(Mapping[str, Callable[[Any], Any]], client.response_callbacks)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str = "",
        timeout: float = 1.0,  # noqa: ASYNC109  # of every command to come
    ) -> Valkey:
        """Opens the store and makes sure that it can be trusted with what the platform keeps.

        Raises:
            WrongStore: too old, evicting, full, closed to us, or a URL that cannot be used.
            Unavailable: nobody answers there within ``timeout`` seconds.
        """
        valkey = cls(_client(url, timeout), url=url, prefix=prefix, timeout=timeout)
        try:
            _check(await valkey.command("INFO"))
        except BaseException as error:
            await valkey.close()
            refusal = str(error.__cause__ or error)
            if refusal.partition(" ")[0] in _CLOSED:
                raise WrongStore(
                    f"The store at {shown_url(url)} does not let us in ({refusal}): put a user name and "
                    "a password that may do everything into SMART_CITY_VALKEY_URL."
                ) from error
            raise
        return valkey

    def key(self, name: str) -> str:
        """The name as it stands in the store."""
        return self.prefix + name

    def slot_of(self, key: str) -> int:
        """The slot of a key, as far as calls must not mix slots: on a single server all keys lie in one, 0."""
        return 0

    def by_slot(self, items: Iterable[Item], key: Callable[[Item], str]) -> list[list[Item]]:
        """Groups items whose keys may be touched by one call, in order; no items make no group."""
        return [group] if (group := list(items)) else []

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Runs a script, teaching it to the server first when that does not know it (yet, or any more).

        Raises:
            Unavailable: no answer within the deadline; the script may have run or may still run.
            Overloaded: the store is full and nothing was changed.
        """
        reply = await self._pipe.ask(("EVALSHA", script.sha, len(keys), *keys, *args))
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            reply = await self._pipe.ask(("EVAL", script.source, len(keys), *keys, *args))
        if isinstance(reply, hiredis.ReplyError):
            raise _translated(str(reply))
        return reply

    async def command(self, *args: Argument) -> Any:
        """Sends one plain command that does not block; errors as with `run`.

        Raises:
            redis.exceptions.ResponseError: a refusal that only a defect of ours explains.
        """
        reply = await self._pipe.ask(args)
        if isinstance(reply, hiredis.ReplyError):
            raise _translated(str(reply))
        read = self._read.get(str(args[0]))
        return reply if read is None else read(reply)

    @property
    def round_trips(self) -> Histogram:
        """How long commands and scripts took from here to there and back, those that were answered."""
        return self._pipe.round_trips

    @property
    def failures(self) -> int:
        """How many commands and scripts were not answered."""
        return self._pipe.failures

    async def ping(self) -> float:
        """How long the store takes to answer, in seconds."""
        began = time.perf_counter()
        await self.command("PING")
        return time.perf_counter() - began

    async def is_full(self) -> bool:
        """Whether the store has reached its ``maxmemory`` and takes no more writes."""
        most, used = _memory(await self.command("INFO", "memory"))
        return 0 < most <= used

    async def close(self) -> None:
        """Closes every connection."""
        await self._pipe.close()
        await self.client.aclose(close_connection_pool=True)


def _client(url: str, seconds: float) -> redis.asyncio.Redis:
    """redis-py's client, with one try for each command, a deadline for each step and a bound on the pool."""
    if parse_qs(urlsplit(url).query).get("cluster", ["false"])[0].lower() == "true":
        raise WrongStore(
            f"SMART_CITY_VALKEY_URL is {shown_url(url)}, but clusters are not supported yet: "
            "name one server, or leave the variable unset for the embedded one."
        )
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, protocol=3, decode_responses=False, retry=Retry(NoBackoff(), 0), client_name="smart-city",
            max_connections=POOLED_CONNECTIONS, timeout=seconds, socket_timeout=seconds,
            socket_connect_timeout=seconds,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise WrongStore(
            f"SMART_CITY_VALKEY_URL is {shown_url(url)}, which cannot be read as redis://HOST:6379, rediss://HOST:6379 "
            "or unix:///PATH; in a password, every character but letters and digits is written as %XX."
        ) from error
    return redis.asyncio.Redis(connection_pool=pool)


def _translated(refusal: str) -> Exception:
    """A refusal in the city's words, or in redis-py's when only a defect of ours explains it."""
    code = refusal.partition(" ")[0]
    if code == "OOM":
        return Overloaded("Valkey has reached its maxmemory and takes no more writes", retry_after=1)
    if code in _PASSING:
        return Unavailable(f"Valkey cannot do this at the moment: {refusal}")
    return exceptions.ResponseError(refusal.removeprefix("ERR "))


def _check(info: Mapping[str, Any]) -> None:
    """Refuses a store that would forget what was acknowledged.

    Raises:
        WrongStore: too old, evicting, or full.
    """
    name, version, oldest = "Redis", str(info.get("redis_version", "0")), OLDEST_REDIS
    if "valkey_version" in info:
        name, version, oldest = "Valkey", str(info["valkey_version"]), OLDEST_VALKEY
    if _numbers(version) < oldest:
        raise WrongStore(
            f"SMART_CITY_VALKEY_URL names a {name} {version}, which is too old: "
            "the platform needs Valkey 9.0 or Redis 7.4, or newer ones."
        )
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise WrongStore(
            f"The store evicts keys (its maxmemory-policy is {policy}) and would forget what it has "
            "acknowledged: set maxmemory-policy to noeviction."
        )
    most, used = _memory(info)
    if 0 < most <= used:
        raise WrongStore(f"The store is full ({used} of {most} bytes): raise its maxmemory, or set it to 0.")


def _memory(info: Mapping[str, Any]) -> tuple[int, int]:
    """How much memory the store may use, 0 for as much as there is, and how much it uses; in bytes."""
    return int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))


def _numbers(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major) if major.isdigit() else 0, int(minor) if minor.isdigit() else 0)


def shown_url(url: str) -> str:
    """The URL without what is secret in it.

    A password in which ``/``, ``?`` or ``#`` is not written as ``%XX`` may stand anywhere: then only the scheme
    is shown.
    """
    parts = urlsplit(url)
    if "@" in parts.path + parts.query + parts.fragment or not _has_readable_port(url):
        return f"{parts.scheme}://…"
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _has_readable_port(url: str) -> bool:
    try:
        _ = urlsplit(url).port
    except ValueError:
        return False
    return True
