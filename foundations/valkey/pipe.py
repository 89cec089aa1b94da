"""Everybody's commands on one connection: those of one turn of the event loop leave in one write.

Replies come in the order of the commands; of many at once each costs 7 µs, through redis-py's pool 120 µs. It
is not for commands that block or that change the connection, such as BLPOP, MULTI or SELECT.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import hiredis
from redis.asyncio import ConnectionPool

from foundations.errors import Overloaded, Unavailable
from foundations.telemetry import Histogram
from foundations.valkey.wire import Argument, Reply, Wire, WireLost, packed

MOST_UNANSWERED = 100_000
"""Commands on the way at once; one more is refused."""
_ASKING = packed(("ASKING",))


@dataclass(slots=True)
class Figures:
    """How long commands took from here to there and back, and how many got no reply in time, or no connection."""

    round_trips: Histogram = field(default_factory=Histogram)
    failures: int = 0


class Pipe:
    """Sends commands in the order asked, and hands back their replies, an error reply as a `hiredis.ReplyError`.

    A command that is not answered ``seconds`` after it was asked for fails. The connection is then left to
    those who still wait on it, and what comes later takes a new one: a deaf connection fails nobody else.
    """

    def __init__(self, pool: ConnectionPool, *, seconds: float, figures: Figures | None = None) -> None:
        self.figures = figures or Figures()
        self._pool = pool
        self._seconds = seconds
        self._line: _Line | None = None
        self._lines: set[_Line] = set()
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
        clock = asyncio.get_running_loop().time
        began = clock()
        if deadline is None:
            deadline = began + self._seconds
        try:
            line = self._line
            if line is None or not line.is_open or self._entering:
                line = await self._open(deadline)
            if imported:
                line.ask(_ASKING, deadline).add_done_callback(_ignored)
            reply = await line.ask(packed(tuple(command)), deadline)
        except Unavailable:
            self.figures.failures += 1
            raise
        self.figures.round_trips.observe(clock() - began)
        return reply

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

    async def _open(self, deadline: float) -> _Line:
        """A connection for all who wait for one; they come one by one, and each has its own deadline."""
        self._entering += 1
        try:
            async with asyncio.timeout_at(deadline), self._opening:
                if self._is_closed:
                    raise WireLost("this client is closed")
                if self._line is None or not self._line.is_open:
                    self._line = await _Line.open(self._pool, self._seconds, self._lines)
                return self._line
        except TimeoutError:
            raise Unavailable(f"Valkey let nobody in within {self._seconds} s") from None
        except WireLost as error:
            raise Unavailable(f"Valkey cannot be reached: {error}") from error
        finally:
            self._entering -= 1


class _Line:
    """One connection and those who wait for replies on it, in the order in which they asked."""

    def __init__(self) -> None:
        self.is_open = True
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[tuple[float, asyncio.Future[Reply]]] = deque()
        self._unsent: list[bytes] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._wire: Wire

    @classmethod
    async def open(cls, pool: ConnectionPool, seconds: float, lines: set[_Line]) -> _Line:
        """Opens one, which stands in ``lines`` as long as it has a connection."""
        line = cls()
        line._wire = await Wire.open(pool, line._received, seconds=seconds, name="smart-city")
        line._wire.lost.add_done_callback(lambda lost: line.end(lost.result()))
        lines.add(line)
        line._wire.closed.add_done_callback(lambda _: lines.discard(line))
        return line

    def ask(self, command: bytes, deadline: float) -> asyncio.Future[Reply]:
        if len(self._unanswered) >= MOST_UNANSWERED:
            raise Overloaded(f"{MOST_UNANSWERED} commands wait for Valkey already", retry_after=1)
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(command)
        reply: asyncio.Future[Reply] = self._loop.create_future()
        self._unanswered.append((deadline, reply))
        if self._alarm is None:
            self._alarm = self._loop.call_at(deadline, self._check)
        return reply

    def last(self) -> asyncio.Future[Reply] | None:
        """The last command that somebody still waits for."""
        return next((waiting for _, waiting in reversed(self._unanswered) if not waiting.done()), None)

    def end(self, reason: str) -> None:
        """Closes the connection and fails everybody who waits."""
        self.is_open = False
        self._wire.abort(reason)
        if self._alarm is not None:
            self._alarm.cancel()
        while self._unanswered:
            _fail(self._unanswered.popleft()[1], f"Valkey's connection ended: {reason}")

    async def close(self, reason: str) -> None:
        self.end(reason)
        await self._wire.close(reason)

    def _send(self) -> None:
        commands, self._unsent = self._unsent, []
        self._wire.write(b"".join(commands))

    def _received(self, reply: Reply) -> None:
        if isinstance(reply, hiredis.PushNotification):
            return
        if not self._unanswered:
            self.end(f"it answered without being asked: {reply}")
            return
        _, waiting = self._unanswered.popleft()
        if not waiting.done():
            waiting.set_result(reply)
        if not self.is_open and not self._unanswered:
            self.end("all have their replies")

    def _check(self) -> None:
        """Fails those whose time is up. New commands then take a new line, as this one may have gone deaf."""
        self._alarm = None
        now = self._loop.time() + 0.001  # a timer may fire a little early
        late = [waiting for deadline, waiting in self._unanswered if deadline <= now and not waiting.done()]
        for waiting in late:
            _fail(waiting, "Valkey did not answer in time")
        self.is_open = self.is_open and not late
        still = [deadline for deadline, waiting in self._unanswered if not waiting.done()]
        if still:
            self._alarm = self._loop.call_at(min(still), self._check)
        elif not self.is_open:
            self.end("nobody waits any more")


def _fail(waiting: asyncio.Future[Reply], reason: str) -> None:
    if not waiting.done():
        waiting.set_exception(Unavailable(reason))


def _ignored(reply: asyncio.Future[Reply]) -> None:
    """Takes the outcome of what only prepares the next command; that one tells."""
    if not reply.cancelled():
        reply.exception()
