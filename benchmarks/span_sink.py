"""A local place for exported spans: it takes OTLP over HTTP, counts what comes, and keeps nothing.

It decodes no span; that something came, and how much, shows that tracing was on while it was measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
MOST_BYTES = 64 * 1024 * 1024


@dataclass(slots=True)
class SpanSink:
    """What has come so far."""

    url: str = ""
    exports: int = 0
    bytes: int = 0

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one exporter until it leaves."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.bytes += len(body)
                self.exports += head.startswith(b"post /v1/traces ")
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has left
        finally:
            writer.close()


@asynccontextmanager
async def span_sink() -> AsyncIterator[SpanSink]:
    """A sink on a free port of this machine, until the block is left."""
    sink = SpanSink()
    server = await asyncio.start_server(sink._take, "127.0.0.1", 0, limit=MOST_BYTES)
    async with server:
        sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield sink
