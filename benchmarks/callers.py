"""HTTP callers on keep-alive connections, each of which asks again as soon as it is answered, and their latencies.

They send bytes that were made before and look at no more of an answer than its status, its end and, where it is
asked for, its body, so that they are cheap beside what they measure. They are no HTTP client: no redirects, no retries.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

from benchmarks.keepalive import Answered

SECONDS = 60.0
"""How long one drive may take."""
HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"
MOST_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Drive:
    """What came of a drive: how long each call took, in the order of their answers, and all of them together."""

    latencies: list[float]
    seconds: float

    def quantile(self, share: float) -> float:
        """The latency in milliseconds that ``share`` of the calls did not exceed."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000


def request(path: str, body: object = None, *, method: str = "POST", **headers: str) -> bytes:
    """The bytes of a request; an underscore in a header's name stands for a hyphen."""
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    given = {"Host": "localhost", "Content-Length": str(len(content)), "Content-Type": "application/json"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + content


class _Caller(asyncio.Protocol):
    """One connection. ``take`` gets the head and the body of each answer, and how long it took."""

    def __init__(self, take: Callable[[_Caller, bytes, bytes, float], None], lost: Callable[[], None]) -> None:
        self._take = take
        self._lost = lost
        self._buffer = b""
        self._asked_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost()

    def ask(self, data: bytes) -> None:
        self._asked_at = time.perf_counter()
        self.transport.write(data)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        at = self._buffer.find(HEAD_END)
        if at < 0:
            return
        head, body = self._buffer[:at].lower(), self._buffer[at + len(HEAD_END) :]
        if b"chunked" in head:
            is_whole = body.endswith(LAST_CHUNK)
        else:
            _, _, length = head.partition(b"content-length: ")
            is_whole = len(body) >= int(length.partition(b"\r\n")[0] or 0)
        if is_whole:
            self._buffer = b""
            self._take(self, head, body, time.perf_counter() - self._asked_at)


@dataclass(slots=True)
class _Round:
    """The calls of one drive, shared out among its callers."""

    data: bytes
    wanted: int
    mark: bytes
    marks: int
    done: asyncio.Future[None]
    asked: int = 0
    latencies: list[float] = field(default_factory=list)

    def next(self, caller: _Caller) -> None:
        if self.asked < self.wanted:
            self.asked += 1
            caller.ask(self.data)

    def take(self, caller: _Caller, head: bytes, body: bytes, seconds: float) -> None:
        if self.done.done():
            return
        if not head.startswith(b"http/1.1 200") or body.count(self.mark) < self.marks:
            self.done.set_exception(Answered((head + HEAD_END + body)[:600].decode(errors="replace")))
            return
        self.latencies.append(seconds)
        if len(self.latencies) == self.wanted:
            self.done.set_result(None)
        self.next(caller)

    def lost(self) -> None:
        if not self.done.done():
            self.done.set_exception(Answered("the connection was closed"))


async def drive(
    host: str, port: int, data: bytes, *, calls: int, callers: int = 1, mark: bytes, marks: int = 1
) -> Drive:
    """Sends the same request ``calls`` times over ``callers`` connections.

    Each answer must hold ``mark`` so many times: one that is 200 may still refuse what it was asked, or some of it.

    Raises:
        Answered: an answer was no success, or a connection was closed.
    """
    loop = asyncio.get_running_loop()
    turn = _Round(data, calls, mark, marks, loop.create_future())
    made = [await loop.create_connection(lambda: _Caller(turn.take, turn.lost), host, port) for _ in range(callers)]
    lines = [line for _, line in made]
    began = time.perf_counter()
    try:
        for line in lines:
            turn.next(line)
        async with asyncio.timeout(SECONDS):
            await turn.done
    finally:
        seconds = time.perf_counter() - began
        turn.done.cancel()
        for line in lines:
            line.transport.close()
    return Drive(turn.latencies, seconds)


async def call(host: str, port: int, data: bytes) -> tuple[Mapping[str, str], bytes]:
    """One call on a connection of its own: the headers of the answer, their names in lower case, and its body.

    Raises:
        Answered: the answer was no success, or none came.
    """
    reader, writer = await asyncio.open_connection(host, port, limit=MOST_BYTES)
    try:
        async with asyncio.timeout(SECONDS):
            writer.write(data)
            head = (await reader.readuntil(HEAD_END)).decode()
            status, *lines = head.rstrip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            is_chunked = headers.get("transfer-encoding") == "chunked"
            body = await (reader.readuntil(LAST_CHUNK) if is_chunked else reader.readexactly(_length(headers)))
    finally:
        writer.close()
    if not status.startswith("HTTP/1.1 2"):
        raise Answered(f"{status}: {body.decode(errors='replace')[:600]}")
    return headers, body


def _length(headers: Mapping[str, str]) -> int:
    return int(headers.get("content-length", "0"))
