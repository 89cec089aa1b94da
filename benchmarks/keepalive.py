"""HTTP requests over one connection that stays open, at the least cost on the client's side.

It sends a body with POST and reads a response with a length; whoever needs more of HTTP takes a library.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

ANSWER_SECONDS = 60.0
IDLE_SECONDS = 4.0
"""A connection that was not used for longer is opened anew: servers end those that idle, after five seconds and more,
and a subject idles while others have their turn."""


class Answered(Exception):
    """The server answered with another status than it should; the sentence has the beginning of what it said."""


class KeepAlive:
    """One connection to a server. Requests on it follow one another; who wants more at a time opens more."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._host = f"{host}:{port}"

    @classmethod
    async def open(cls, host: str, port: int) -> KeepAlive:
        connection = cls(host, port)
        await connection._connect()
        return connection

    async def post(self, path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
        """The body of the answer, once it is there.

        Raises:
            Answered: the status is not 2xx.
        """
        await self._not_idle()
        self._writer.write(self._request(path, body, headers))
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._answer(path)

    async def post_all(self, requests: Sequence[tuple[str, bytes]]) -> None:
        """Sends all without waiting in between (HTTP pipelining), then waits for all answers.

        Raises:
            Answered: a status is not 2xx.
        """
        await self._not_idle()
        self._writer.write(b"".join(self._request(path, body) for path, body in requests))
        async with asyncio.timeout(ANSWER_SECONDS):
            for path, _ in requests:
                await self._answer(path)

    def _request(self, path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
        lines = [f"POST {path} HTTP/1.1", f"Host: {self._host}", f"Content-Length: {len(body)}", *headers, "", ""]
        return "\r\n".join(lines).encode() + body

    async def _answer(self, path: str) -> bytes:
        head = await self._reader.readuntil(b"\r\n\r\n")
        answer = await self._reader.readexactly(_length(head))
        if not head.startswith(b"HTTP/1.1 2"):
            status = head.partition(b"\r\n")[0].decode()
            raise Answered(f"{path}: {status} {answer[:500].decode(errors='replace')}")
        return answer

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):  # it is closed, whoever did it
            await self._writer.wait_closed()

    async def _connect(self) -> None:
        self._reader, self._writer = await asyncio.open_connection(*self._address, limit=1 << 24)
        self._used = time.monotonic()

    async def _not_idle(self) -> None:
        if time.monotonic() - self._used > IDLE_SECONDS:
            await self.close()
            await self._connect()
        self._used = time.monotonic()


def _length(head: bytes) -> int:
    """The answer's length; 0 for one without a body."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
