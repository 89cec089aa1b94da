"""NATS with its WebSocket listener, published to over its own protocol on TCP.

Core NATS: it keeps nothing, and tells a publisher nothing unless it is asked with a PING.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import cast

from benchmarks.peers.peer import Peer, found
from benchmarks.subjects import Audience, Missing

CONNECT = 'CONNECT {"verbose":false,"pedantic":false,"echo":false,"lang":"c","version":"1","protocol":1}\r\n'
SECONDS = 60.0
"""How long a flush may take."""
CONFIGURATION = """
listen: "127.0.0.1:-1"
max_connections: 65536
websocket {
  listen: "127.0.0.1:-1"
  no_tls: true
  compression: false
}
"""


class Publisher(asyncio.Protocol):
    """A client of NATS that publishes and flushes, and answers the server's heartbeats."""

    def __init__(self) -> None:
        self._flushed: asyncio.Future[None] | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.write(CONNECT.encode())

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            self._take(line)

    def _take(self, line: bytes) -> None:
        """A word of a server that has nothing to deliver here: INFO, PING, PONG, or what is wrong."""
        if line == b"PING":
            self.transport.write(b"PONG\r\n")
        elif line == b"PONG" and self._flushed is not None:
            self._flushed.set_result(None)
            self._flushed = None
        elif line.startswith(b"-ERR"):
            self._fail(ConnectionError(line.decode()))

    def _fail(self, error: Exception) -> None:
        if self._flushed is not None and not self._flushed.done():
            self._flushed.set_exception(error)
        self._flushed = None

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionError("NATS closed the connection"))

    def publish(self, publications: Sequence[tuple[str, bytes]]) -> None:
        """Fire and forget, as NATS has it."""
        self.transport.write(b"".join(_words(channel, payload) for channel, payload in publications))

    async def flush(self) -> None:
        """Waits until the server has taken all that was published before."""
        self._flushed = asyncio.get_running_loop().create_future()
        self.transport.write(b"PING\r\n")
        async with asyncio.timeout(SECONDS):
            await self._flushed


def _words(channel: str, payload: bytes) -> bytes:
    return f"PUB {channel} {len(payload)}\r\n".encode() + payload + b"\r\n"


class Nats(Peer):
    """A NATS server. One of its processors is what is compared: it has as many cores as the others."""

    def __init__(self, processors: int = 1) -> None:
        super().__init__()
        self.processors = processors
        self.name = "nats" if processors == 1 else f"nats-{processors}-cores"

    async def start(self, started: AsyncExitStack) -> None:
        program = Path(sys.executable).parent / "nats-server"
        if not program.exists():
            raise Missing("no nats-server in this environment: scripts/environment bench")
        folder = Path(started.enter_context(tempfile.TemporaryDirectory()))
        (folder / "nats.conf").write_text(CONFIGURATION)
        server = self.run(started, program, "-c", folder / "nats.conf", env={"GOMAXPROCS": str(self.processors)})
        await server.said("Server is ready")
        self.processes = (server.pid,)
        self.version = found(r"Version: +(\S+)", server)
        self.port = int(found(r"websocket clients on \S+:(\d+)", server))
        port = int(found(r"client connections on \S+:(\d+)", server))
        self._publisher = await started.enter_async_context(_publishing(self.host, port))

    async def audience(self, channel: str, clients: int) -> Audience:
        return Audience(
            opening=[f"{CONNECT}SUB {channel} 1\r\nPING\r\n"], ready=b"PONG\r\n", heartbeat=(b"PING\r\n", b"PONG\r\n")
        )

    async def publish(self, channel: str, payload: bytes) -> None:
        """Does not wait: NATS says nothing about a publication."""
        self._publisher.publish([(channel, payload)])

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        self._publisher.publish(publications)
        await self._publisher.flush()


@asynccontextmanager
async def _publishing(host: str, port: int) -> AsyncIterator[Publisher]:
    transport, publisher = await asyncio.get_running_loop().create_connection(Publisher, host, port)
    try:
        yield publisher
    finally:
        transport.close()
