"""A plain WebSocket client that speaks the protocol's frames and nothing more: what it gets, it shows in order."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.support.waiting import PATIENCE

Frame = dict[str, Any]
PACKED = Subprotocol("smart-city.v1.msgpack")
"""The subprotocol of those who speak MessagePack."""


class WireClient:
    """One connection, in MessagePack if that was agreed on. Heartbeats are left out of what it shows."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.is_packed = socket.subprotocol == PACKED
        self.welcome: Frame = {}
        self._early: deque[Frame] = deque()
        self._ids = itertools.count(1)

    @classmethod
    @asynccontextmanager
    async def connected(cls, url: str, token: str, **options: Any) -> AsyncIterator[WireClient]:
        """Connects with a bearer token and waits for the welcome."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with connect(url, additional_headers=headers, max_size=None, **options) as socket:
            client = cls(socket)
            client.welcome = await client.next()
            yield client

    @property
    def id(self) -> str:
        """The connection's id."""
        return str(self.welcome["connection_id"])

    async def send(self, **frame: Any) -> None:
        """Sends one frame."""
        await self.socket.send(msgspec.msgpack.encode(frame) if self.is_packed else json.dumps(frame))

    async def next(self, seconds: float = PATIENCE) -> Frame:
        """The next frame that is no heartbeat."""
        if self._early:
            return self._early.popleft()
        async with asyncio.timeout(seconds):
            while True:
                frame = self._read(await self.socket.recv())
                if frame["type"] != "heartbeat":
                    return frame

    def _read(self, data: str | bytes) -> Frame:
        assert isinstance(data, bytes) is self.is_packed
        frame: Frame = msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)
        return frame

    async def until(self, wanted: Callable[[Frame], bool], seconds: float = PATIENCE) -> Frame:
        """The next frame that fits; others before it are shown later, in their order."""
        skipped: list[Frame] = []
        try:
            async with asyncio.timeout(seconds):
                while not wanted(frame := await self.next(seconds)):
                    skipped.append(frame)
        finally:
            self._early.extendleft(reversed(skipped))
        return frame

    async def of(self, type_: str, seconds: float = PATIENCE) -> Frame:
        """The next frame of a type."""
        return await self.until(lambda frame: frame["type"] == type_, seconds)

    async def ask(self, **frame: Any) -> Frame:
        """Sends a frame with an id and gives the ack or error that answers it."""
        name = frame.setdefault("id", f"f{next(self._ids)}")
        await self.send(**frame)
        return await self.until(lambda answer: answer.get("id") == name)

    async def subscribe(self, *channels: str, **since: Any) -> Frame:
        """Subscribes from now on, or to one channel from a position; gives the ack's channels."""
        wanted = dict.fromkeys(channels, since or None)
        ack = await self.ask(type="subscribe", channels=wanted)
        assert ack["type"] == "ack", ack
        outcome: Frame = ack["channels"]
        return outcome

    async def messages(self, count: int, channel: str = "") -> list[Frame]:
        """The next publications, of one channel if it is named."""
        return [
            await self.until(lambda f: f["type"] == "message" and f["channel"] in {channel or f["channel"]})
            for _ in range(count)
        ]

    async def close_code(self, seconds: float = PATIENCE) -> int:
        """Reads until the server closes; the code it gave."""
        try:
            async with asyncio.timeout(seconds):
                while True:
                    await self.socket.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else 1006

    async def left(self) -> list[Frame]:
        """What has come and was not shown yet: what is sent in order arrives before the answer to a ping."""
        pong = await self.ask(type="ping")
        assert pong["type"] == "pong"
        return list(self._early)

    async def nothing_but_pong(self) -> None:
        """Shows that nothing waits."""
        assert not (left := await self.left()), left
