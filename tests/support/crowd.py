"""Thousands of clients in one process, each with the least that the protocol asks of one: come in, listen, come back.

A client keeps its positions and what it got of one channel, and checks nothing; whoever runs the crowd does.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

from tests.support.waiting import until

Frame = dict[str, Any]
UPGRADE = (
    "GET /ws{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\nAuthorization: Bearer {token}\r\n\r\n"
)
TEXT, CLOSE, PING = 1, 8, 9
PONG = b"\x8a\x80\x00\x00\x00\x00"


class Line(asyncio.Protocol):
    """One socket: what came on it goes to ``hear`` as frames, its end with a word of why to ``lost``."""

    def __init__(self, request: bytes, hear: Callable[[Frame], None], lost: Callable[[str], None]) -> None:
        self._request = request
        self._hear = hear
        self._lost = lost
        self._buffer = b""
        self._is_upgraded = False
        self._why = "lost"
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._lost(self._why)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._is_upgraded:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                return
            self._is_upgraded, self._buffer = True, rest
            if not head.startswith(b"HTTP/1.1 101"):
                self._why = head.partition(b"\r\n")[0].decode()
                self.transport.abort()
        while (frame := self._frame()) is not None:
            self._take(*frame)

    def _frame(self) -> tuple[int, bytes] | None:
        data = self._buffer
        short = data[1] if len(data) > 1 else 0
        start = 2 + {126: 2, 127: 8}.get(short, 0)
        if len(data) < start:
            return None
        end = start + (int.from_bytes(data[2:start]) if start > 2 else short)
        if len(data) < end:
            return None
        self._buffer = data[end:]
        return data[0] & 0xF, data[start:end]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == TEXT:
            self._hear(json.loads(payload))
        elif opcode == PING:
            self.transport.write(PONG)
        elif opcode == CLOSE:
            self._why = f"{int.from_bytes(payload[:2])} {payload[2:].decode()}"
            self.transport.abort()

    def say(self, **frame: Any) -> None:
        data = json.dumps(frame).encode()
        size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2)
        self.transport.write(b"\x81" + size + bytes(4) + data)


class Member:
    """One client, through all its sockets. ``got`` has the offsets of its channel, in the order in which they came."""

    def __init__(self, token: str, channel: str) -> None:
        self.token = token
        self.channel = channel
        self.id = ""
        self.user_id = ""
        self.positions: dict[str, Any] = {}
        self.got: list[int] = []
        self.answers: list[str] = []
        self.resumed: list[bool] = []
        self.refusals: list[str] = []
        self.ready_at = 0.0
        self.on_message: Callable[[Frame], None] | None = None
        self._line: Line | None = None
        self._ready: asyncio.Future[bool] | None = None

    async def come_in(self, url: str, *, resume: bool = False) -> None:
        """Connects, and comes back with jitter until it listens: all that a client does about a refusal."""
        pause = 0.5
        while not await self._try(url, resume=resume):
            await asyncio.sleep(pause * random.random())  # noqa: S311  # the protocol's back-off
            pause = min(2 * pause, 20.0)

    async def _try(self, url: str, *, resume: bool) -> bool:
        loop = asyncio.get_running_loop()
        at, ready = urlsplit(url), loop.create_future()
        request = UPGRADE.format(query=f"?resume={self.id}" if resume else "", token=self.token).encode()

        def lost(why: str) -> None:
            if not ready.done():
                self.refusals.append(why)
                ready.set_result(False)

        def hear(frame: Frame) -> None:
            if self._line is line:
                self._hear(frame)

        self._ready, line = ready, Line(request, hear, lost)
        self._line = line
        try:
            await loop.create_connection(lambda: line, at.hostname or "", at.port or 80)
        except OSError as error:
            lost(str(error))
        return bool(await ready)

    @property
    def is_out(self) -> bool:
        """Whether it has no socket."""
        return self._line is None or self._line.is_lost

    def cut(self) -> None:
        """The socket is gone without a word."""
        if self._line is not None and not self._line.is_lost:
            self._line.transport.abort()

    def _hear(self, frame: Frame) -> None:
        if frame["type"] == "system" and frame["event"] == "welcome":
            self._welcomed(frame)
        elif frame["type"] == "ack" and "channels" in frame:
            self._acknowledged(frame["channels"])
        elif "offset" in frame:
            log = frame.get("log") or frame["channel"]
            self.positions[log] = {"offset": frame["offset"], "epoch": frame["epoch"]}
            if log == self.channel:
                self.got.append(frame["offset"])
            else:
                self.answers.append(frame["message_id"])
            if self.on_message is not None:
                self.on_message(frame)

    def _welcomed(self, frame: Frame) -> None:
        self.resumed.append(frame["resumed"])
        self.id, self.user_id = frame["connection_id"], frame["user_id"]
        wanted = {self.channel: self.positions.get(self.channel)}
        if frame["resumed"]:
            wanted |= {log: self.positions[log] for log in (f"connection:{self.id}", f"user:{self.user_id}")}
        else:
            self.positions |= frame["channels"]
        if self._line is not None:
            self._line.say(type="subscribe", channels=wanted, id="s")

    def _acknowledged(self, channels: Frame) -> None:
        for channel, told in channels.items():
            if "error" in told or not told.get("recovered", True):
                self.refusals.append(f"{channel}: {told}")
                continue
            self.positions[channel] = {"offset": told["offset"], "epoch": told["epoch"]}
        self.ready_at = time.monotonic()
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(True)


async def all_in(members: Sequence[Member], url: str, seconds: float, *, resume: bool = False) -> float:
    """Lets all come in at once and waits until they listen; how long that took."""
    began = time.monotonic()
    coming = [asyncio.create_task(member.come_in(url, resume=resume)) for member in members]
    _, waiting = await asyncio.wait(coming, timeout=seconds)
    for task in waiting:
        task.cancel()
    why = sorted({refusal for member in members for refusal in member.refusals})[:5]
    assert not waiting, f"{len(waiting)} of {len(members)} are not in after {seconds} s; refusals: {why}"
    await asyncio.gather(*coming)
    return max(member.ready_at for member in members) - began


async def all_out(members: Sequence[Member]) -> None:
    """Cuts all sockets and waits until they are gone."""
    for member in members:
        member.cut()
    await until(lambda: all(member.is_out for member in members), "all sockets are gone", 30)
