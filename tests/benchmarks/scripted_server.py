"""A WebSocket server whose every byte a test decides: it upgrades whoever comes, then does what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
PATIENCE_SECONDS = 10.0
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class ScriptedServer:
    """Where it listens, and the requests that came."""

    host: str
    port: int
    requests: list[str]


@asynccontextmanager
async def scripted_server(script: Script, answer: bytes = UPGRADED) -> AsyncIterator[ScriptedServer]:
    """Runs the script on each connection behind its handshake, and then waits for the client to go."""
    requests: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
            writer.write(answer)
            await script(reader, writer)
            await reader.read()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield ScriptedServer("127.0.0.1", server.sockets[0].getsockname()[1], requests)


def frame(payload: bytes, opcode: int = 1, *, is_final: bool = True) -> bytes:
    """A server's frame."""
    head = bytes([0x80 * is_final | opcode])
    size = len(payload)
    return head + (bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2)) + payload


async def client_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The next frame of the client: its opcode and payload, whose mask is of zeros."""
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2))
    assert await reader.readexactly(4) == bytes(4)
    return head[0] & 0x0F, await reader.readexactly(size)
