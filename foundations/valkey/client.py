"""The store: commands and scripts for one server or a cluster, each with a deadline, failing in the city's errors.

It never retries: whether a command may be sent twice is known only to whoever sends it. Hearing the bus is
`subscriptions`' work.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar, cast

import hiredis
import redis.asyncio

from foundations.errors import Overloaded
from foundations.telemetry import Histogram
from foundations.valkey import slots
from foundations.valkey.address import Address, shown_url
from foundations.valkey.cluster import Cluster
from foundations.valkey.refusals import WrongStore, check, memory, translated
from foundations.valkey.replicas import Copies
from foundations.valkey.scripts import Script
from foundations.valkey.store import Server, Store
from foundations.valkey.wire import Argument, Reply

__all__ = ["Argument", "Valkey", "WrongStore"]

Item = TypeVar("Item")
Then = Callable[[Any], None]
"""Told a reply, or an exception."""

WAIT_SHARE = 0.4
"""Of a command's time, for one WAIT: a command may have to let the batch before it pass."""

_CLOSED = frozenset(("NOAUTH", "WRONGPASS", "NOPERM"))


class Valkey:
    """The store. Replies are as redis-py gives them, with bytes for text.

    Everybody's commands and scripts share one connection to each server, on which what is asked for in one turn of
    the event loop goes together. Nothing that blocks, or that changes its connection, may be asked here.
    """

    def __init__(self, store: Store, *, url: str, prefix: str, timeout: float) -> None:
        self.store = store
        self.url = url
        self.prefix = prefix
        self.timeout = timeout
        self.incarnation = secrets.token_hex(8)
        self.acknowledged = self
        """For writes that somebody is told of: the same store, which answers once ``ack_replicas`` have them."""
        self._ask = store.ask
        self._begin = store.begin
        # How redis-py reads the replies to each command; nothing is asked through it.
        self._read = cast(Mapping[str, Callable[[Any], Any]], redis.asyncio.Redis().response_callbacks)

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str = "",
        timeout: float = 1.0,  # noqa: ASYNC109  # of every command to come
        ack_replicas: int = 0,
    ) -> Valkey:
        """Opens the store and makes sure that it can be trusted with what the platform keeps.

        Raises:
            WrongStore: too old, evicting, full, closed to us, or a URL that cannot be used.
            Unavailable: nobody answers there within ``timeout`` seconds.
        """
        address = Address.read(url)
        copies = Copies(ack_replicas, WAIT_SHARE * timeout) if ack_replicas else None
        valkey = cls(_store(address, timeout, copies), url=url, prefix=prefix, timeout=timeout)
        if copies:
            valkey.acknowledged = cls(valkey.store, url=url, prefix=prefix, timeout=timeout)
            valkey.acknowledged._ask = valkey.store.ask_copied
            valkey.acknowledged._begin = partial(valkey.store.begin, copied=True)
        try:
            await valkey.store.open()
            for info in await valkey._each("INFO"):
                check(info, as_cluster=address.is_cluster)
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
        return slots.slot_of(key) if self.store.is_cluster else 0

    def by_slot(self, items: Iterable[Item], key: Callable[[Item], str]) -> list[list[Item]]:
        """Groups items whose keys may be touched by one call, in order; no items make no group."""
        if self.store.is_cluster:
            return slots.by_slot(items, lambda item: slots.slot_of(key(item)))
        return [group] if (group := list(items)) else []

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Runs a script, teaching it to the server first when that does not know it (yet, or any more).

        Raises:
            Unavailable: no answer within the deadline; the script may have run or may still run.
            Overloaded: the store is full and nothing was changed.
        """
        reply = await self._ask(("EVALSHA", script.sha, len(keys), *keys, *args))
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            reply = await self._ask(("EVAL", script.source, len(keys), *keys, *args))
        if isinstance(reply, hiredis.ReplyError):
            raise translated(str(reply))
        return reply

    def begin(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], then: Then, *, seconds: float
    ) -> bool:
        """Sends a script at once where a connection stands; ``then`` is told its reply, or an error within ``seconds``.

        It needs no task of its own, and teaches the server nothing: whoever is told an error, or false because there
        is no connection, goes on with `run` if the script may be sent twice.
        """
        try:
            reply = self._begin(("EVALSHA", script.sha, len(keys), *keys, *args), seconds)
        except Overloaded:
            return False
        if reply is None:
            return False
        reply.add_done_callback(partial(_hand_on, then))
        return True

    async def command(self, *args: Argument) -> Any:
        """Sends one plain command that does not block; errors as with `run`.

        Raises:
            redis.exceptions.ResponseError: a refusal that only a defect of ours explains.
        """
        reply = await self._ask(args)
        if isinstance(reply, hiredis.ReplyError):
            raise translated(str(reply))
        return self._as_read(args[0], reply)

    async def _each(self, *args: Argument) -> list[Any]:
        """Sends a command to every server that keeps something."""
        replies = await self.store.ask_each(args)
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise translated(str(reply))
        return [self._as_read(args[0], reply) for reply in replies]

    def _as_read(self, command: Argument, reply: Reply) -> Any:
        read = self._read.get(str(command))
        return reply if read is None else read(reply)

    @property
    def round_trips(self) -> Histogram:
        """How long commands and scripts took from here to there and back, those that were answered."""
        return self.store.figures.round_trips

    @property
    def failures(self) -> int:
        """How many commands and scripts were not answered."""
        return self.store.figures.failures

    async def ping(self) -> float:
        """How long the store takes to answer, in seconds.

        Raises:
            Unavailable: it does not, or a part of it does not.
        """
        began = time.perf_counter()
        await self._each("PING")
        return time.perf_counter() - began

    async def is_full(self) -> bool:
        """Whether the store, or a server of it, has reached its ``maxmemory`` and takes no more writes."""
        return any(0 < most <= used for most, used in map(memory, await self._each("INFO", "memory")))

    async def close(self) -> None:
        """Closes every connection."""
        await self.store.close()


def _hand_on(then: Then, waited: asyncio.Future[Reply]) -> None:
    """Tells of a reply, of an error in the city's words."""
    error = waited.exception()
    if error is not None:
        then(error)
        return
    reply = waited.result()
    then(translated(str(reply)) if isinstance(reply, hiredis.ReplyError) else reply)


def _store(address: Address, seconds: float, copies: Copies | None) -> Store:
    if address.is_cluster:
        return Cluster(address, seconds=seconds, copies=copies)
    return Server(address.pool, seconds=seconds, copies=copies)
