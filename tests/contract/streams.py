"""Server-sent events read off a TCP connection, as the HTML standard tells browsers to. It never reconnects."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from tests.contract.raw import Raw, dialled
from tests.support.platform import Instance
from tests.support.waiting import PATIENCE

Frame = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """What a page's listener is given."""

    name: str
    id: str
    data: str

    @property
    def value(self) -> Frame:
        value: Frame = json.loads(self.data)
        return value


class Stream:
    """One response of events. ``last_id`` is what the browser would send as ``Last-Event-ID``."""

    def __init__(self, raw: Raw, status: int, headers: dict[str, str], body: bytes) -> None:
        self.raw = raw
        self.status = status
        self.headers = headers
        self.body = body
        self.last_id = ""
        self.retry = ""
        self.ack: Frame = {}
        """Where it starts, which `following` has read."""
        self.is_whole = False
        """The response came to its end and was not cut."""
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._id = ""
        self._received = b""
        self._text = b""
        self._events: deque[Event] = deque()
        self._ended = False

    @property
    def unread(self) -> bytes:
        """What came and is no whole event yet."""
        return self._text + self._received

    async def next(self, seconds: float = PATIENCE) -> Event:
        """The next event with data; `last_id` is then that event's."""
        async with asyncio.timeout(seconds):
            while not self._events:
                assert not self._ended, "the stream has ended"
                await self._more()
        event = self._events.popleft()
        self.last_id = event.id
        return event

    async def many(self, count: int, seconds: float = PATIENCE) -> list[Event]:
        return [await self.next(seconds) for _ in range(count)]

    async def rest(self, seconds: float = PATIENCE) -> list[Event]:
        """What comes until the server ends it."""
        async with asyncio.timeout(seconds):
            while not self._ended:
                await self._more()
        left = list(self._events)
        self._events.clear()
        self.last_id = self._id
        return left

    async def _more(self) -> None:
        try:
            data = await self.raw.reader.read(65536)
        except ConnectionError:
            data = b""
        self._received += data
        self._ended = not data
        if self._chunked:
            self._dechunk()
        else:
            self._text, self._received = self._text + self._received, b""
            self.is_whole = self._ended
        self._text = self._text.replace(b"\r\n", b"\n")
        *blocks, self._text = self._text.split(b"\n\n")
        for block in blocks:
            self._take(block)

    def _dechunk(self) -> None:
        while b"\r\n" in self._received:
            size_line, rest = self._received.split(b"\r\n", 1)
            size = int(size_line, 16)
            if len(rest) < size + 2:
                return
            assert rest[size : size + 2] == b"\r\n"
            self._text += rest[:size]
            self._received = rest[size + 2 :]
            if size == 0:
                self._ended = self.is_whole = True

    def _take(self, block: bytes) -> None:
        assert b"\r" not in block, "a bare carriage return is an end of line, too"
        name, data = "message", []
        for line in block.decode().split("\n"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id" and "\0" not in value:
                self._id = value
            elif field == "data":
                data.append(value)
            elif field == "event":
                name = value
            elif field == "retry":
                assert value.isdigit(), line
                self.retry = value
            else:
                assert field == "", f"no field of the format: {line!r}"
        if data:
            self._events.append(Event(name, self._id, "\n".join(data)))


def get(path: str, token: str = "", version: str = "1.1", **headers: str) -> bytes:
    """A GET; header names may have underscores for hyphens, and headers with an empty value are left out."""
    given = {
        "Host": "127.0.0.1", "Accept": "text/event-stream", "Authorization": f"Bearer {token}" if token else "",
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"GET {path} HTTP/{version}\r\n{lines}\r\n".encode("latin-1")


def events_of(channel: str) -> str:
    return f"/api/channels/{channel}/events"


@asynccontextmanager
async def streaming(
    city: Instance, channel: str, token: str, last_id: str = "", query: str = "", **headers: str
) -> AsyncIterator[Stream]:
    """The events of a channel, from an id if one is given; a refusal has its status and body."""
    given = {"Last-Event-ID": last_id, **headers}
    async with dialled(city.url) as raw:
        await raw.send(get(events_of(channel) + query, token, **given))
        status, response_headers, body = await raw.response()
        yield Stream(raw, status, response_headers, body)


@asynccontextmanager
async def following(
    city: Instance, channel: str, token: str, last_id: str = "", **headers: str
) -> AsyncIterator[Stream]:
    """As `streaming`, and it must be taken: after its ack."""
    async with streaming(city, channel, token, last_id, **headers) as stream:
        assert stream.status == 200, stream.body
        assert stream.headers["content-type"].partition(";")[0] == "text/event-stream"
        first = await stream.next()
        stream.ack = first.value
        assert (first.name, stream.ack["type"]) == ("ack", "ack")
        assert first.id == f"{stream.ack['offset']}.{stream.ack['epoch']}"
        yield stream


def is_published(event: Event, channel: str) -> Frame:
    """A publication as an event: its id is its position, its data says the same."""
    value = event.value
    assert event.name == "message", event
    assert value.get("channel", channel) == channel
    assert event.id == f"{value['offset']}.{value['epoch']}", event
    assert set(value) >= {"message_id", "payload", "sender", "timestamp"}
    return value
