"""HTTP requests over one connection that stays open, at the least cost on the client's side.

It sends a body with POST and reads a response with a length; whoever needs more of HTTP takes a library.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

ANSWER_SECONDS = 60.0


class Answered(Exception):
    """The server answered with another status than it should; the sentence has the beginning of what it said."""


class KeepAlive:
    """One connection to a server. Requests on it follow one another; who wants more at a time opens more."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader = reader
        self._writer = writer
        self._host = host

    @classmethod
    async def open(cls, host: str, port: int) -> KeepAlive:
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 24)
        return cls(reader, writer, f"{host}:{port}")

    async def post(self, path: str, body: bytes, headers: Sequence[str] = ()) -> bytes:
        """The body of the answer, once it is there.

        Raises:
            Answered: the status is not 2xx.
        """
        self._writer.write(self._request(path, body, headers))
        async with asyncio.timeout(ANSWER_SECONDS):
            return await self._answer(path)

    async def post_all(self, requests: Sequence[tuple[str, bytes]]) -> None:
        """Sends all without waiting in between (HTTP pipelining), then waits for all answers.

        Raises:
            Answered: a status is not 2xx.
        """
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
        await self._writer.wait_closed()


def _length(head: bytes) -> int:
    """The answer's length; 0 for one without a body."""
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
