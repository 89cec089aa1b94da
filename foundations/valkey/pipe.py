"""Everybody's commands on one connection: those of one turn of the event loop leave in one write.

Replies come in the order of the commands; of many at once each costs 7 µs, through redis-py's pool 120 µs. It
is not for commands that block or that change the connection, such as BLPOP, MULTI or SELECT.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from redis.asyncio import ConnectionPool

from foundations.errors import Unavailable
from foundations.valkey.line import Figures, Line
from foundations.valkey.replicas import CopiedLine, Copies
from foundations.valkey.wire import Argument, Reply, WireLost, packed

_ASKING = packed(("ASKING",))


class Pipe:
    """Sends commands in the order asked, and hands back their replies, an error reply as a `hiredis.ReplyError`.

    A command that is not answered ``seconds`` after it was asked for fails. The connection is then left to
    those who still wait on it, and what comes later takes a new one: a deaf connection fails nobody else. With
    ``copies`` a reply comes once replicas have what was written.
    """

    def __init__(
        self, pool: ConnectionPool, *, seconds: float, figures: Figures | None = None, copies: Copies | None = None
    ) -> None:
        self.figures = figures or Figures()
        self._copies = copies
        self._pool = pool
        self._seconds = seconds
        self._line: Line | None = None
        self._lines: set[Line] = set()
        """The present one, and those on which some still wait."""
        self._opening = asyncio.Lock()
        self._entering = 0
        """Those who wait for a connection. As long as there are any, who comes later queues behind them."""
        self._is_closed = False

    async def ask(self, command: Sequence[Argument], deadline: float | None = None, *, imported: bool = False) -> Reply:
        """Sends one command and waits for its reply, until ``deadline`` on the loop's clock if one is given.

        With ``imported`` the server carries it out although it is only about to take over the key's slot.

        Raises:
            Unavailable: no connection or no reply in time; the command may have been carried out.
            Overloaded: too many commands wait already.
        """
        if deadline is None:
            deadline = asyncio.get_running_loop().time() + self._seconds
        line = self._line
        if line is None or not line.is_open or self._entering:
            line = await self._open(deadline)
        if imported:
            line.ask(_ASKING, deadline).add_done_callback(_ignored)
        return await line.ask(packed(tuple(command)), deadline)

    def begin(self, command: Sequence[Argument], seconds: float) -> asyncio.Future[Reply] | None:
        """Sends one command at once, where a connection stands: its reply within ``seconds``, as of `ask`.

        Raises:
            Overloaded: too many commands wait already.
        """
        line = self._line
        if line is None or not line.is_open or self._entering:
            return None
        deadline = asyncio.get_running_loop().time() + min(seconds, self._seconds)
        return line.ask(packed(tuple(command)), deadline)

    @property
    def is_open(self) -> bool:
        """Whether it has a connection that answers, as far as one knows."""
        return self._line is not None and self._line.is_open

    def unanswered(self) -> list[asyncio.Future[Reply]]:
        """The last command on each connection that still waits for its reply."""
        return [last for line in self._lines if (last := line.last()) is not None]

    async def close(self) -> None:
        """Ends the connection for good; whoever still waits, or comes later, gets `Unavailable`."""
        self._is_closed = True
        for line in tuple(self._lines):
            await line.close("closed")

    async def _open(self, deadline: float) -> Line:
        """A connection for all who wait for one; they come one by one, and each has its own deadline."""
        self._entering += 1
        try:
            async with asyncio.timeout_at(deadline), self._opening:
                if self._is_closed:
                    raise WireLost("this client is closed")
                if self._line is None or not self._line.is_open:
                    line = CopiedLine(self.figures, self._copies) if self._copies else Line(self.figures)
                    await line.open(self._pool, self._seconds, self._lines)
                    self._line = line
                return self._line
        except TimeoutError:
            self.figures.failures += 1
            raise Unavailable(f"Valkey let nobody in within {self._seconds} s") from None
        except WireLost as error:
            self.figures.failures += 1
            raise Unavailable(f"Valkey cannot be reached: {error}") from error
        finally:
            self._entering -= 1


def _ignored(reply: asyncio.Future[Reply]) -> None:
    """Takes the outcome of what only prepares the next command; that one tells."""
    if not reply.cancelled():
        reply.exception()
