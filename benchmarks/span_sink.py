"""A local place for exported spans: a server that takes OTLP over HTTP, counts what comes, and keeps nothing.

It decodes no span; that something came shows that tracing was on while it was measured.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
EXPORT = b"post /v1/traces "
"""How the head of an export begins, in small letters."""
MOST_BYTES = 64 * 1024 * 1024


Sink = TypeVar("Sink", bound="SpanSink")


@dataclass(slots=True)
class SpanSink:
    """What has come so far."""

    url: str = ""
    requests: int = 0
    exports: int = 0
    received: int = 0
    """Bytes of all bodies."""

    def take(self, head: bytes, body: bytes) -> None:
        """Takes one request; its head in small letters."""
        self.exports += head.startswith(EXPORT)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one exporter until it leaves."""
        try:
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests += 1
                self.received += len(body)
                self.take(head, body)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # it has left
        finally:
            writer.close()


@asynccontextmanager
async def receiving(sink: Sink) -> AsyncIterator[Sink]:
    """The sink on a free port of this machine, until the block is left."""
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0, limit=MOST_BYTES)
    try:
        sink.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield sink
    finally:
        server.close()


def span_sink() -> AbstractAsyncContextManager[SpanSink]:
    """A sink that counts, until the block is left."""
    return receiving(SpanSink())
