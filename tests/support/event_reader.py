"""A plain reader of server-sent events over a socket of its own: what arrives, it shows in order."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE


@dataclass(frozen=True, slots=True)
class Event:
    """One event as an `EventSource` would dispatch it; a comment has only that, `retry` only that."""

    name: str = "message"
    id: str = ""
    data: dict[str, Any] = field(default_factory=dict)
    comment: str = ""
    retry: int | None = None

    @classmethod
    def parse(cls, block: str) -> Event:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            assert name not in fields, f"{name} is there twice: {block}"
            fields[name] = value.removeprefix(" ")
        assert fields.keys() <= {"", "event", "id", "data", "retry"}, block
        return cls(
            fields.get("event", "message"), fields.get("id", ""), json.loads(fields.get("data", "{}")),
            fields.get("", ""), int(fields["retry"]) if "retry" in fields else None,
        )  # fmt: skip


class EventReader:
    """One stream. Comments and `retry` are kept aside, and the ack that opens it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.status = 0
        self.headers: dict[str, str] = {}
        self.ack: dict[str, Any] = {}
        self.last_id = ""
        self.comments: list[str] = []
        self.retries: list[int] = []
        self.is_whole = False
        self._text = ""

    @classmethod
    @asynccontextmanager
    async def connected(
        cls, url: str, channel: str, token: str, *, since: str = "", last: str = "", small: bool = False,
        method: str = "GET", **headers: str,
    ) -> AsyncIterator[EventReader]:  # fmt: skip
        """Asks for a channel's events and reads the ack, if there is one. A ``small`` reader takes little at once."""
        address = urlsplit(url)
        sock = socket.socket()
        if small:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (address.hostname, address.port))
        streams = await asyncio.open_connection(sock=sock, limit=2048 if small else 2**20)
        reader = cls(*streams)
        try:
            given = {"Host": address.netloc, **({"Authorization": f"Bearer {token}"} if token else {})}
            given |= {"Last-Event-ID": last} if last else {}
            given |= {name.replace("_", "-"): value for name, value in headers.items()}
            path = f"/api/channels/{channel}/events" + (f"?since={since}" if since else "")
            head = "".join(f"{name}: {value}\r\n" for name, value in given.items())
            reader.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())
            await reader._begin(method)
            yield reader
        finally:
            reader.writer.transport.abort()

    async def _begin(self, method: str) -> None:
        async with asyncio.timeout(PATIENCE):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        self.status = int(head[0].split()[1])
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        if self.status == 200 and method == "GET":
            opened = await self.next()
            assert opened.name == "ack"
            self.ack = opened.data

    async def next(self, seconds: float = PATIENCE) -> Event:
        """The next event."""
        async with asyncio.timeout(seconds):
            while True:
                while "\n\n" not in self._text:
                    await self._read_on()
                block, _, self._text = self._text.partition("\n\n")
                event = Event.parse(block)
                if event.comment:
                    self.comments.append(event.comment)
                elif event.retry is not None:
                    self.retries.append(event.retry)
                else:
                    self.last_id = event.id or self.last_id
                    return event

    async def _read_on(self) -> None:
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        self._text += (await self.reader.readexactly(size)).decode()
        await self.reader.readexactly(2)
        if size == 0:
            self.is_whole = True
            raise EOFError("the stream has ended as it should")

    async def take(self, count: int, seconds: float = PATIENCE) -> list[Event]:
        """The next events."""
        return [await self.next(seconds) for _ in range(count)]

    async def until(self, wanted: Callable[[Event], bool], seconds: float = PATIENCE) -> list[Event]:
        """All events up to the first that fits."""
        found: list[Event] = []
        async with asyncio.timeout(seconds):
            while not found or not wanted(found[-1]):
                found.append(await self.next(seconds))
        return found

    async def ends(self, seconds: float = PATIENCE) -> Event:
        """Reads to the end that the server makes; the last event."""
        event = Event()
        try:
            async with asyncio.timeout(seconds):
                while True:
                    event = await self.next(seconds)
        except EOFError:
            return event


def offsets(events: list[Event]) -> list[int]:
    """Where publications stand."""
    return [event.data["offset"] for event in events]
