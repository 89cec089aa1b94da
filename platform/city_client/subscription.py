"""What one reader takes from its channels: publications in a bounded buffer, read with ``async for``.

The buffer is filled by `subscriptions` and never grows past its bounds. A reader that is too slow holds the
socket up for a moment only, since acknowledgements travel on it too; then it goes on from the log.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType

from city_client.cursors import Gap
from city_client.errors import ClientError
from city_client.frames import Frame, Payload, Position, Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One message of a channel. ``gap`` tells what was lost right before it; ``raw`` is the frame as it came, in the
    connection's encoding.

    On a private channel (``user:ID``) it may also be an agent's answer; then ``channel`` is still the log
    that it was read from, and ``raw`` has the rest.
    """

    channel: str
    position: Position
    payload: Payload
    sender: Sender
    intent: str
    message_id: str
    in_reply_to: str
    timestamp: str
    gap: Gap | None
    raw: bytes

    @property
    def offset(self) -> int:
        return self.position.offset

    @property
    def epoch(self) -> str:
        return self.position.epoch

    @classmethod
    def of(cls, channel: str, frame: Frame, raw: bytes, gap: Gap | None) -> Publication:
        """Reads a publication, or an answer, from its frame."""
        return cls(
            channel=channel,
            position=Position(frame.offset or 0, frame.epoch),
            payload=frame.payload,
            sender=Sender("agent", frame.agent) if frame.agent else frame.sender,
            intent=frame.intent,
            message_id=frame.message_id,
            in_reply_to=frame.in_reply_to,
            timestamp=frame.timestamp,
            gap=gap,
            raw=raw,
        )


class Subscription:
    """An open reader of some channels. Iterate it, by one task; leave it with ``close`` or ``async with``."""

    def __init__(
        self,
        channels: Mapping[str, Position | None],
        *,
        leave: Callable[[Subscription], None],
        has_room: Callable[[Subscription], None],
        max_count: int = 1024,
        max_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self.channels = tuple(channels)
        self.positions = {name: position for name, position in channels.items() if position}
        """The position of the last publication handed out, by channel: where a later reader goes on."""
        self._leave = leave
        self._has_room = has_room
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._buffer: deque[Publication] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._is_over = False
        self._error: ClientError | None = None

    @property
    def is_full(self) -> bool:
        return len(self._buffer) >= self._max_count or self._bytes >= self._max_bytes

    @property
    def unread(self) -> int:
        """How many publications wait in the buffer."""
        return len(self._buffer)

    def put(self, publication: Publication) -> None:
        """Adds a publication; the caller has asked `is_full` before."""
        self._buffer.append(publication)
        self._bytes += len(publication.raw)
        self._filled.set()
        if self.is_full:
            self._room.clear()

    async def room(self, seconds: float) -> bool:
        """Waits until the reader has made room; ``False`` if it did not within ``seconds``."""
        try:
            async with asyncio.timeout(seconds):
                await self._room.wait()
        except TimeoutError:
            return False
        return True

    def end(self, error: ClientError | None) -> None:
        """No more will come: iteration stops after what is in the buffer, or raises ``error`` then."""
        self._is_over, self._error = True, error
        self._filled.set()
        self._room.set()

    async def close(self) -> None:
        """Leaves the channels and forgets what was not read."""
        self._leave(self)
        self._buffer.clear()
        self.end(None)

    def __aiter__(self) -> AsyncIterator[Publication]:
        return self

    async def __anext__(self) -> Publication:
        while not self._buffer:
            if self._is_over:
                raise self._error or StopAsyncIteration
            self._filled.clear()
            await self._filled.wait()
        publication = self._buffer.popleft()
        self._bytes -= len(publication.raw)
        self.positions[publication.channel] = publication.position
        if not self._room.is_set() and self._is_half_empty:
            self._room.set()
            self._has_room(self)
        return publication

    async def __aenter__(self) -> Subscription:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def _is_half_empty(self) -> bool:
        return len(self._buffer) <= self._max_count // 2 and self._bytes <= self._max_bytes // 2
