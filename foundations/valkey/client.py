"""The store behind one bounded pool: commands and scripts, each with a deadline, failing in our own errors.

It never retries: whether a command may be sent twice is known only to whoever sends it. Hearing the bus is
`subscriptions`' work.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from foundations.errors import CityError, Overloaded, Unavailable
from foundations.valkey.scripts import Script

Argument = bytes | str | int | float

MAX_CONNECTIONS = 64
"""Of one instance; a command beyond waits its turn inside its own deadline."""
OLDEST_VALKEY = (9, 0)
OLDEST_REDIS = (7, 4)

_TIMED_OUT = (exceptions.TimeoutError, TimeoutError)
_AWAY = (exceptions.ConnectionError, exceptions.TimeoutError, OSError)
_REFUSED_FOR_NOW = (
    exceptions.ReadOnlyError,
    exceptions.MasterDownError,
    exceptions.ClusterDownError,
    exceptions.TryAgainError,
)
_REFUSED_FOR_NOW_CODES = ("MISCONF", "NOREPLICAS", "BUSY", "UNBLOCKED")
"""Refusals that pass: the disk is full, replicas are missing, a script runs too long, a failover goes on."""


class WrongStore(Exception):
    """A store that the platform must not run on; the sentence names what to set."""


class Valkey:
    """The store, over one connection pool that never retries; replies are bytes."""

    def __init__(self, client: redis.asyncio.Redis, *, url: str, prefix: str, timeout: float) -> None:
        self.client = client
        self.url = url
        self.prefix = prefix
        self.timeout = timeout
        self.incarnation = secrets.token_hex(8)
        self._send: Callable[..., Awaitable[Any]] = client.execute_command

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
            WrongStore: too old, evicting, full, or a URL that cannot be used.
            Unavailable: nobody answers there within ``timeout`` seconds.
        """
        valkey = cls(_client(url, timeout), url=url, prefix=prefix, timeout=timeout)
        try:
            await valkey.command("PING")  # unlike INFO it is refused by a store that still loads its data
            _check(await valkey.command("INFO"))
        except exceptions.ResponseError as error:
            await valkey.close()
            raise WrongStore(f"The store at {_shown(url)} refuses INFO: {error}.") from error
        except BaseException as error:
            await valkey.close()
            if isinstance(error.__cause__, exceptions.AuthenticationError | exceptions.AuthorizationError):
                raise WrongStore(
                    f"The store at {_shown(url)} refuses this user name or password: {error.__cause__}. "
                    "Put the right ones into SMART_CITY_VALKEY_URL."
                ) from error
            raise
        return valkey

    def key(self, name: str) -> str:
        """The name as it stands in the store."""
        return self.prefix + name

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Runs a script, teaching it to the server first when that does not know it (yet, or any more).

        Raises:
            Unavailable: no answer within the deadline; the script may have run or may still run.
            Overloaded: the store is full and nothing was changed.
        """
        try:
            return await self.command("EVALSHA", script.sha, len(keys), *keys, *args)
        except exceptions.NoScriptError:
            return await self.command("EVAL", script.source, len(keys), *keys, *args)

    async def command(self, *args: Argument) -> Any:
        """Sends one plain command; errors as with `run`. A defect of ours passes as redis-py's error."""
        try:
            async with asyncio.timeout(self.timeout):
                return await self._send(*args)
        except (exceptions.RedisError, OSError) as error:
            if isinstance(error, _TIMED_OUT):
                await self._drop_idle_connections()
            if (translated := _translated(error)) is None:
                raise
            raise translated from error

    async def ping(self) -> float:
        """How long the store takes to answer, in seconds."""
        began = time.perf_counter()
        await self.command("PING")
        return time.perf_counter() - began

    async def _drop_idle_connections(self) -> None:
        """One has gone deaf, so the idle ones may have, too, and each would cost somebody a deadline."""
        with suppress(exceptions.RedisError, OSError):
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def close(self) -> None:
        """Closes every connection of the pool."""
        await self.client.aclose(close_connection_pool=True)


def _client(url: str, seconds: float) -> redis.asyncio.Redis:
    """A client that gives each command one try, each read and connect a deadline, and the pool a bound."""
    if parse_qs(urlsplit(url).query).get("cluster", ["false"])[0].lower() == "true":
        raise WrongStore(
            f"SMART_CITY_VALKEY_URL is {_shown(url)}, but clusters are not supported yet: "
            "name one server, or leave the variable unset for the embedded one."
        )
    try:
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            url, protocol=3, decode_responses=False, retry=Retry(NoBackoff(), 0), client_name="smart-city",
            max_connections=MAX_CONNECTIONS, timeout=seconds, socket_timeout=seconds,
            socket_connect_timeout=seconds,
        )  # fmt: skip
    except (ValueError, TypeError) as error:
        raise WrongStore(f"SMART_CITY_VALKEY_URL is {_shown(url)}: {error}.") from error
    return redis.asyncio.Redis(connection_pool=pool)


def _translated(error: Exception) -> CityError | None:
    """The driver's error in the city's words; ``None`` for what is a defect of ours.

    From inside a script an error has no class of its own: its code is only its first word.
    """
    text = str(error)
    if isinstance(error, exceptions.OutOfMemoryError) or text.startswith("OOM"):
        return _full()
    if isinstance(error, _REFUSED_FOR_NOW) or text.startswith(_REFUSED_FOR_NOW_CODES):
        return Unavailable(f"Valkey takes no writes at the moment: {text}")
    if isinstance(error, _AWAY):
        return Unavailable(f"Valkey does not answer: {text or 'timed out'}")
    return None


def _full() -> Overloaded:
    return Overloaded("Valkey has reached its maxmemory and takes no more writes", retry_after=1)


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
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if 0 < most <= used:
        raise WrongStore(f"The store is full ({used} of {most} bytes): raise its maxmemory, or set it to 0.")


def _numbers(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major) if major.isdigit() else 0, int(minor) if minor.isdigit() else 0)


def _shown(url: str) -> str:
    """The URL without what is secret in it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
