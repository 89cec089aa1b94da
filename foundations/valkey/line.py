"""One connection with its replies in order: who asks, who still waits, and whose time is up.

It writes what one turn of the event loop brings at once. It neither opens another one when it ends nor knows what
replies mean.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field

import hiredis
from redis.asyncio import ConnectionPool

from foundations.errors import Overloaded, Unavailable
from foundations.telemetry import Histogram
from foundations.valkey.wire import Reply, Wire

MOST_UNANSWERED = 100_000
"""Commands on the way at once; one more is refused."""


@dataclass(slots=True)
class Figures:
    """How long commands took from here to there and back, and how many got no reply in time, or no connection."""

    round_trips: Histogram = field(default_factory=Histogram)
    failures: int = 0


class Line:
    """One connection and those who wait for replies on it, in the order in which they asked."""

    def __init__(self, figures: Figures) -> None:
        """Must be made within a running event loop, and be opened before anything is asked."""
        self.is_open = True
        self._figures = figures
        self._loop = asyncio.get_running_loop()
        self._unanswered: deque[tuple[float, float, asyncio.Future[Reply]]] = deque()
        """Until when, and since when, who waits."""
        self._unsent: list[bytes] = []
        self._alarm: asyncio.TimerHandle | None = None
        self._wire: Wire

    async def open(self, pool: ConnectionPool, seconds: float, lines: set[Line]) -> None:
        """Connects; it stands in ``lines`` as long as it has a connection.

        Raises:
            WireLost: it could not be done.
        """
        self._wire = await Wire.open(pool, self._received, seconds=seconds, name="smart-city")
        self._wire.lost.add_done_callback(lambda lost: self.end(lost.result()))
        lines.add(self)
        self._wire.closed.add_done_callback(lambda _: lines.discard(self))

    def ask(self, command: bytes, deadline: float) -> asyncio.Future[Reply]:
        """The reply to a packed command, or `Unavailable` after ``deadline`` on the loop's clock.

        Raises:
            Overloaded: too many commands wait already.
        """
        if len(self._unanswered) >= MOST_UNANSWERED:
            raise Overloaded(f"{MOST_UNANSWERED} commands wait for Valkey already", retry_after=1)
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(command)
        reply: asyncio.Future[Reply] = self._loop.create_future()
        self._unanswered.append((deadline, self._loop.time(), reply))
        if self._alarm is None:
            self._alarm = self._loop.call_at(deadline, self._check)
        elif deadline < self._alarm.when():  # it has waited elsewhere before, as what a cluster redirects
            self._alarm.cancel()
            self._alarm = self._loop.call_at(deadline, self._check)
        return reply

    def last(self) -> asyncio.Future[Reply] | None:
        """The last command that somebody still waits for."""
        return next((waiting for _, _, waiting in reversed(self._unanswered) if not waiting.done()), None)

    def end(self, reason: str) -> None:
        """Closes the connection and fails everybody who waits."""
        self.is_open = False
        self._wire.abort(reason)
        if self._alarm is not None:
            self._alarm.cancel()
        while self._unanswered:
            self._fail(self._unanswered.popleft()[2], f"Valkey's connection ended: {reason}")

    async def close(self, reason: str) -> None:
        """Ends it and waits until its socket is closed."""
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
        _, asked_at, waiting = self._unanswered.popleft()
        if not waiting.done():
            self._figures.round_trips.observe(self._loop.time() - asked_at)
            waiting.set_result(reply)
        if not self.is_open and not self._unanswered:
            self.end("all have their replies")

    def _check(self) -> None:
        """Fails those whose time is up. New commands then take a new line, as this one may have gone deaf.

        It is that also where those who asked have given up before.
        """
        self._alarm = None
        now = self._loop.time() + 0.001  # a timer may fire a little early
        late = [waiting for deadline, _, waiting in self._unanswered if deadline <= now]
        for waiting in late:
            self._fail(waiting, "Valkey did not answer in time")
        self.is_open = self.is_open and not late
        still = [deadline for deadline, _, waiting in self._unanswered if self.is_open or not waiting.done()]
        if still:
            self._alarm = self._loop.call_at(min(still), self._check)
        elif not self.is_open:
            self.end("nobody waits any more")

    def _fail(self, waiting: asyncio.Future[Reply], reason: str) -> None:
        if not waiting.done():
            self._figures.failures += 1
            waiting.set_exception(Unavailable(reason))
