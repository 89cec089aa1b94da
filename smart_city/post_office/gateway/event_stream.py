"""One reader of one channel as server-sent events: a subscriber of the hub as a connection on a socket is.

Beside `Connection` it is the gateway's other kind of guest. It says nothing and is only fed: live as long as it keeps
up, from the log at its own pace when it does not. How bytes reach the reader is the business of who runs it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from random import randrange

from websockets.frames import CloseCode

from smart_city.post_office.channels import is_private
from smart_city.post_office.envelopes import timestamp
from smart_city.post_office.gateway import events
from smart_city.post_office.gateway.events import Rendering
from smart_city.post_office.gateway.feed import Feed, Subscription
from smart_city.post_office.gateway.joining import Joined, Joining
from smart_city.post_office.gateway.messages import encode
from smart_city.post_office.gateway.pages import Passage
from smart_city.post_office.gateway.server_frames import Close, Opened
from smart_city.vocabulary import Identity, Position

SPREAD_MS = 1000
"""Over so long the readers of a draining instance spread their coming back."""
Write = Callable[[bytes], Awaitable[None]]
"""Gives bytes to the reader, and returns once there is room for more."""


class EventStream:
    """A reader between its first event and its last. ``limit`` bounds the unsent bytes as it does for a socket."""

    def __init__(
        self, joining: Joining, rendering: Rendering, identity: Identity, channel: str, connection_id: str, *,
        limit: int, heartbeat_seconds: float,
    ) -> None:  # fmt: skip
        self.connection_id = connection_id
        self.identity = identity
        self.channel = channel
        self.connected_at = timestamp()
        self.last_heartbeat = self.connected_at
        self.fence = 1
        self.heard_offset = 0
        self.may_return = False
        self.over = asyncio.Event()
        """Set when the stream is to end: after what is queued comes its last event."""
        self.address = ""
        self.unsent_bytes = 0
        self.is_lagging = False
        """Whether it has missed frames, and will be fed from the log once it has taken what waits."""
        self.position = Position(0)
        self._joining = joining
        self._rendering = rendering
        self._lags_at = limit // 2
        self._heartbeat_seconds = heartbeat_seconds
        self._has_beaten = False
        self._why = (int(CloseCode.NORMAL_CLOSURE), "")
        self._place: tuple[Feed, Subscription] | None = None
        self._queued: list[bytes] = []
        self._is_writing = False
        self._wanted = asyncio.Event()
        self._taken = asyncio.Event()

    # What the gateway sees

    @property
    def user_id(self) -> str:
        return self.identity.subject

    @property
    def subscriptions(self) -> Collection[str]:
        return (self.channel,)

    @property
    def channels(self) -> Sequence[str]:
        return () if is_private(self.channel) else (self.channel,)

    @property
    def sent_to(self) -> Collection[str]:
        return ()

    @property
    def is_working(self) -> bool:
        return False

    @property
    def consumes(self) -> Sequence[str]:
        return ()

    def close(self, code: int, reason: str) -> None:
        """Ends the stream once what is queued has been written; its last event tells why."""
        if not self.over.is_set():
            self._why = (code, reason)
            self.over.set()
            self.leave()
            self._wanted.set()

    # What the hub sees

    def send(self, frame: bytes) -> None:
        """Queues frames; one that is too far behind gets what the log has later, and ephemeral parts not at all."""
        found = self._rendering(frame)
        if found.passing:
            self.is_lagging = self.is_lagging or self.unsent_bytes > self._lags_at
            if self.is_lagging:
                return
        self._queue(found)

    deliver = send
    """The same for what many are given."""

    @property
    def has_room(self) -> bool:
        """Whether it keeps up."""
        return not self.is_lagging

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """It has one log only, and that is to be read once the reader has taken what came before."""
        await self._room()
        yield

    async def replay(self, frames: bytes) -> None:
        """Queues old frames when the reader has taken what came before."""
        await self._room()
        self._queue(self._rendering(frames))

    async def _room(self) -> None:
        while self._queued or self._is_writing:
            self._taken.clear()
            await self._taken.wait()

    def _queue(self, found: events.Events) -> None:
        if found.position is not None:
            self.position = found.position
        self._put(found.data)

    def _put(self, data: bytes) -> None:
        self._queued.append(data)
        self.unsent_bytes += len(data)
        self._wanted.set()

    # From its first event to its last

    def begin(self, feed: Feed, passage: Passage | None, since: Position | None) -> None:
        """Takes its place in a feed that is prepared: the first event tells where, and what follows begins there."""
        joined = self._joining.decide(feed, passage, self, since)
        self._place = (feed, joined.subscription)
        self.position = joined.subscription.position
        self._put(events.retry(events.RETRY_MS) + self._ack(joined))
        self._joining.begin(feed, joined)

    def _ack(self, joined: Joined) -> bytes:
        return events.event(encode(Opened.of(self.channel, joined.told)), "ack", self.position)

    async def run(self, write: Write) -> None:
        """Writes what there is to write until the stream has ended."""
        self._beats = asyncio.get_running_loop().call_later(self._heartbeat_seconds, self._beat)
        try:
            while self._queued or not self.over.is_set():
                data = await self._next()
                self._is_writing = True
                await write(data)
                self.unsent_bytes -= len(data)
                self._is_writing = False
                self._taken.set()
                if not self._queued:
                    self._go_on()
            await write(self._farewell(*self._why))
        finally:
            self._beats.cancel()

    def _beat(self) -> None:
        """A heartbeat, whatever else is sent; none to who has not taken what was sent before."""
        self._beats = asyncio.get_running_loop().call_later(self._heartbeat_seconds, self._beat)
        if not (self._queued or self._is_writing):
            self._has_beaten = True
            self._put(events.HEARTBEAT)

    async def _next(self) -> bytes:
        await self._wanted.wait()
        self._wanted.clear()
        queued, self._queued = self._queued, []
        return b"".join(queued)

    def _go_on(self) -> None:
        """All is written: a reader that has missed something is fed from the log."""
        if self._has_beaten:
            self._has_beaten = False
            self.last_heartbeat = timestamp()
        if self.is_lagging and self._place is not None:
            self.is_lagging = False
            self._joining.rejoin(*self._place, self.position)

    def _farewell(self, code: int, reason: str) -> bytes:
        again = events.retry(randrange(SPREAD_MS)) if code == CloseCode.SERVICE_RESTART else b""  # noqa: S311  # no secret
        return again + events.event(encode(Close(code=code, reason=reason)), "close")

    def leave(self) -> None:
        """Gives its place in the feed back; nothing more is sent to it."""
        place, self._place = self._place, None
        if place is not None:
            self._joining.end(*place)
