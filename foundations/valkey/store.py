"""What a client asks of the servers behind it: `Store`, and the simple one of the two, a single `Server`.

It moves commands and replies as they are; what they mean, and what a refusal is called, the client knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from redis.asyncio import ConnectionPool

from foundations.valkey.line import Figures
from foundations.valkey.pipe import Pipe
from foundations.valkey.replicas import Copies
from foundations.valkey.wire import Argument, Reply


class Store(Protocol):
    """The servers."""

    figures: Figures

    @property
    def is_cluster(self) -> bool:
        """Whether keys lie in slots, on several servers."""
        ...

    @property
    def moved(self) -> list[Callable[[], None]]:
        """Whom to call when a slot has another home than before."""
        ...

    async def open(self) -> None:
        """Finds the servers; raises `Unavailable` or `WrongStore`."""
        ...

    def ask(self, command: Sequence[Argument]) -> Awaitable[Reply]:
        """The reply of the server that the command's key lies on, or of any for a command without."""
        ...

    def ask_copied(self, command: Sequence[Argument]) -> Awaitable[Reply]:
        """The same, once the replicas that are wanted have what was written; in no order with what `ask` sends."""
        ...

    def begin(
        self, command: Sequence[Argument], seconds: float, *, copied: bool = False
    ) -> asyncio.Future[Reply] | None:
        """The first reply, of `ask` or `ask_copied`, if the command can leave at once; a redirection is not followed.

        It is ``None`` where a connection must be opened first, or a slot is moving; raises `Overloaded`.
        """
        ...

    async def ask_each(self, command: Sequence[Argument]) -> list[Reply]:
        """The replies of all servers that keep something; raises `Unavailable` when one of them is away."""
        ...

    def homes(self) -> Sequence[ConnectionPool]:
        """How to connect to each server that keeps something."""
        ...

    def home_of(self, name: bytes) -> ConnectionPool | None:
        """How to connect to where a key or shard channel lies; `None` while nobody serves it."""
        ...

    def redirected(self, refusal: str, asked: ConnectionPool) -> None:
        """Somebody else's connection got a MOVED."""
        ...

    def look_again(self) -> None:
        """Somebody found a server away."""
        ...

    async def close(self) -> None:
        """Closes every connection."""
        ...


class Server:
    """One server, which has everything."""

    is_cluster = False

    def __init__(self, pool: ConnectionPool, *, seconds: float, copies: Copies | None = None) -> None:
        self.figures = Figures()
        self.moved: list[Callable[[], None]] = []
        self._pool = pool
        self._pipe = Pipe(pool, seconds=seconds, figures=self.figures)
        self._copied = Pipe(pool, seconds=seconds, figures=self.figures, copies=copies)

    async def open(self) -> None:
        """The first command connects."""

    def ask(self, command: Sequence[Argument]) -> Awaitable[Reply]:
        return self._pipe.ask(command)

    def ask_copied(self, command: Sequence[Argument]) -> Awaitable[Reply]:
        return self._copied.ask(command)

    def begin(
        self, command: Sequence[Argument], seconds: float, *, copied: bool = False
    ) -> asyncio.Future[Reply] | None:
        return (self._copied if copied else self._pipe).begin(command, seconds)

    async def ask_each(self, command: Sequence[Argument]) -> list[Reply]:
        return [await self._pipe.ask(command)]

    def homes(self) -> Sequence[ConnectionPool]:
        return (self._pool,)

    def home_of(self, name: bytes) -> ConnectionPool | None:
        return self._pool

    def redirected(self, refusal: str, asked: ConnectionPool) -> None:
        """A single server redirects nobody."""

    def look_again(self) -> None:
        """There is nowhere else to look."""

    async def close(self) -> None:
        await self._copied.close()
        await self._pipe.close()
