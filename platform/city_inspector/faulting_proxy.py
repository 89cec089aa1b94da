"""A TCP proxy that fails on demand: delay, jitter, bandwidth, blackhole, half-open, cut, reset, refuse.

It passes bytes and understands none of them, and lives in its caller's event loop: it is a tool to try a
deployment with, not one to put in front of people.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal

from city_inspector.conditions import BLACKHOLE, GOOD, Conditions, Direction

Upstream = int | tuple[str, int] | Path
"""A port of loopback, a host and port, or a Unix socket."""
Towards = Literal["server", "client", "both"]
CHUNK = 64 * 1024
CHUNKS_UNDER_WAY = 16
CONNECT_SECONDS = 5.0
_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of no time: closing sends RST and drops what is unsent."""


class ProxiedConnection:
    """One client's connection and the one made for it; each direction has conditions of its own."""

    def __init__(
        self,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        conditions: tuple[Conditions, Conditions],
    ) -> None:
        self.to_server, self.to_client = (Direction(each) for each in conditions)
        self._client = client
        self._server = server
        self._over = asyncio.Event()

    @property
    def port_at_server(self) -> int:
        """The port that it comes from as the server sees it, where it is told from others."""
        return int(self._server[1].get_extra_info("sockname")[1])

    def impose(self, conditions: Conditions, towards: Towards = "both") -> None:
        """From now on this connection behaves so."""
        if towards != "client":
            self.to_server.impose(conditions)
        if towards != "server":
            self.to_client.impose(conditions)

    def reset(self) -> None:
        """Both sides get RST; what is under way is lost."""
        self._over.set()
        for _, writer in (self._client, self._server):
            _reset(writer)

    def cut(self) -> None:
        """Both sides are closed in the middle of whatever they said."""
        self._over.set()
        for _, writer in (self._client, self._server):
            writer.transport.abort()

    async def relay(self) -> None:
        """Passes bytes both ways until both have ended, or it was cut."""
        over = asyncio.create_task(self._over.wait())
        relaying = asyncio.create_task(self._both_ways())
        try:
            await asyncio.wait((over, relaying), return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
            relaying.cancel()
            await asyncio.gather(over, relaying, return_exceptions=True)

    async def _both_ways(self) -> None:
        await asyncio.gather(
            self._way(self.to_server, self._client[0], self._server[1]),
            self._way(self.to_client, self._server[0], self._client[1]),
        )

    async def _way(self, direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        waiting: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(CHUNKS_UNDER_WAY)
        reading = asyncio.create_task(_read(direction, reader, waiting))
        try:
            while (chunk := await self._next(direction, waiting)) is not None:
                writer.write(chunk)
                await writer.drain()
                direction.passed += len(chunk)
                if direction.is_spent:
                    self.reset()
                    return
            await self._tell_end(direction, writer)
        except OSError:
            pass  # that side is gone; the other one is told by its own direction
        finally:
            reading.cancel()

    async def _tell_end(self, direction: Direction, writer: asyncio.StreamWriter) -> None:
        if direction.conditions.hides_close:
            await self._over.wait()
        elif writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()

    async def _next(self, direction: Direction, waiting: asyncio.Queue[tuple[float, bytes]]) -> bytes | None:
        due, chunk = await waiting.get()
        await direction.pace(chunk, due)
        return direction.within(chunk) if chunk else None


class FaultingProxy:
    """Listens on a free loopback port, with ``tls`` only for TLS, and passes everything on.

    Args:
        upstreams: where to; of several each connection goes to the next that answers. They may be changed.
        tls: the listening side's context.
        receive_buffer: bytes that the system keeps of what a server sends, so that a slow client is felt early; by
            default several MiB.
    """

    def __init__(
        self, *upstreams: Upstream, tls: ssl.SSLContext | None = None, receive_buffer: int | None = None
    ) -> None:
        self.upstreams: Sequence[Upstream] = upstreams
        self.port = 0
        self.accepted = 0
        self._tls = tls
        self._receive_buffer = receive_buffer
        self._conditions = (GOOD, GOOD)
        self._connections: dict[ProxiedConnection, asyncio.Task[None]] = {}
        self._reserved: socket.socket | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> FaultingProxy:
        # Bound and never listening: it keeps the port while connections are refused.
        self._reserved = socket.socket()
        self._reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._reserved.bind(("127.0.0.1", 0))
        self.port = self._reserved.getsockname()[1]
        await self.accept()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self.cut()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._reserved is not None:
            self._reserved.close()

    @property
    def url(self) -> str:
        """Where it listens, for what speaks HTTP."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> list[ProxiedConnection]:
        """Those of this moment, the oldest first."""
        return list(self._connections)

    def impose(self, conditions: Conditions, towards: Towards = "both") -> None:
        """From now on all connections behave so, present and future ones."""
        to_server, to_client = self._conditions
        self._conditions = (
            to_server if towards == "client" else conditions,
            to_client if towards == "server" else conditions,
        )
        for connection in self.connections:
            connection.impose(conditions, towards)

    def deafen(self, conditions: Conditions = BLACKHOLE) -> None:
        """The present connections carry nothing any more; new ones do."""
        for connection in self.connections:
            connection.impose(conditions)

    def reset(self) -> None:
        """Every present connection gets RST, on both sides."""
        for connection in self.connections:
            connection.reset()

    def cut(self) -> None:
        """Every present connection is closed in the middle of whatever was said."""
        for connection in self.connections:
            connection.cut()

    def refuse(self) -> None:
        """New connections are refused; the present ones stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def accept(self) -> None:
        """New connections are let in, as they are from the start."""
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port, ssl=self._tls, reuse_port=True, backlog=4096, limit=CHUNK
            )

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        upstream = await self._connect()
        if upstream is None:
            _reset(writer)
            return
        connection = ProxiedConnection((reader, writer), upstream, self._conditions)
        task = self._connections[connection] = asyncio.create_task(connection.relay(), name="relay")
        task.add_done_callback(self._ended(connection, (writer, upstream[1])))

    def _ended(
        self, connection: ProxiedConnection, writers: Sequence[asyncio.StreamWriter]
    ) -> Callable[[asyncio.Task[None]], None]:
        def forget(_: asyncio.Task[None]) -> None:
            self._connections.pop(connection, None)
            for writer in writers:
                writer.transport.abort()

        return forget

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        first = self.accepted % max(1, len(self.upstreams))
        for upstream in (*self.upstreams[first:], *self.upstreams[:first]):
            with contextlib.suppress(OSError):  # a TimeoutError is one
                async with asyncio.timeout(CONNECT_SECONDS):
                    return await _open(upstream, self._receive_buffer)
        return None


async def _open(upstream: Upstream, receive_buffer: int | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(upstream, Path):
        reader, writer = await asyncio.open_unix_connection(upstream, limit=CHUNK)
    else:
        host, port = ("127.0.0.1", upstream) if isinstance(upstream, int) else upstream
        reader, writer = await asyncio.open_connection(host, port, limit=CHUNK)
    if receive_buffer is not None:
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    return reader, writer


async def _read(
    direction: Direction, reader: asyncio.StreamReader, waiting: asyncio.Queue[tuple[float, bytes]]
) -> None:
    """Takes chunks as they come; in a blackhole none, so that the sender's buffers fill as they would."""
    loop = asyncio.get_running_loop()
    chunk = b"-"
    while chunk:
        await direction.opened()
        try:
            chunk = await reader.read(CHUNK)
        except OSError:
            chunk = b""
        await waiting.put((direction.due(loop.time()), chunk))


def _reset(writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
