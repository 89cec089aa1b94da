"""Requests over a connection that stays, also when the server has ended it meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks import keepalive
from benchmarks.keepalive import Answered, KeepAlive


async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that answers with the path, 404 to one, and ends every connection after one request."""
    async with asyncio.timeout(10):
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        status = b"404 Not Found" if path == b"/no" else b"200 OK"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(path), path))
        await writer.drain()
        writer.close()


async def test_a_connection_that_idled_is_opened_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keepalive, "IDLE_SECONDS", 0.0)
    async with await asyncio.start_server(answer_one, "127.0.0.1", 0) as server:
        http = await KeepAlive.open("127.0.0.1", server.sockets[0].getsockname()[1])
        assert [await http.post("/a", b""), await http.post("/b", b"")] == [b"/a", b"/b"]
        with pytest.raises(Answered, match="404"):
            await http.post("/no", b"")
        await http.close()
