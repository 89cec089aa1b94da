"""Bytes on a TCP connection: HTTP requests and WebSocket frames as no library would send them.

It refuses nothing and repairs nothing; what a correct client sends is `tests.support.wire_client`.
"""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from tests.support.waiting import PATIENCE

TEXT, BINARY, CLOSE, PING, PONG, CONTINUATION = 1, 2, 8, 9, 10, 0


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, reserved: int = 0, masked: bool = True) -> bytes:
    """One WebSocket frame; its mask is zero, so that the data goes as it is."""
    size = len(data)
    mask = 0x80 if masked else 0
    if size < 126:
        length = bytes([mask | size])
    elif size < 65536:
        length = bytes([mask | 126]) + struct.pack("!H", size)
    else:
        length = bytes([mask | 127]) + struct.pack("!Q", size)
    return bytes([(0x80 if fin else 0) | reserved << 4 | opcode]) + length + (bytes(4) if masked else b"") + data


def text(value: Any) -> bytes:
    """A text frame: of a string as it is, of all else as JSON."""
    return frame(TEXT, (value if isinstance(value, str) else json.dumps(value)).encode())


def upgrade(token: str = "", path: str = "/ws", **headers: str) -> bytes:
    """A WebSocket handshake's request; headers with an empty value are left out."""
    given = {
        "Host": "127.0.0.1", "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version": "13",
        "Authorization": f"Bearer {token}" if token else "",
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    lines = [f"{name}: {value}\r\n" for name, value in given.items() if value]
    return f"GET {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


class Raw:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes, seconds: float = PATIENCE) -> None:
        """Sends all of it, however slow the other side takes it."""
        async with asyncio.timeout(seconds):
            self.writer.write(data)
            await self.writer.drain()

    def stop_reading(self) -> None:
        """From now on nothing is taken off the connection."""
        transport = self.writer.transport
        assert isinstance(transport, asyncio.ReadTransport)
        transport.pause_reading()

    async def response(self, seconds: float = PATIENCE) -> tuple[int, dict[str, str], bytes]:
        """The status, headers and body of the next HTTP response."""
        async with asyncio.timeout(seconds):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.strip().split("\r\n")
            status = int(status_line.split()[1])
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await self.reader.readexactly(int(headers.get("content-length", "0"))) if status != 101 else b""
        return status, headers, body

    async def frame(self, seconds: float = PATIENCE) -> tuple[int, bytes]:
        """The opcode and data of the next WebSocket frame."""
        async with asyncio.timeout(seconds):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size > 125:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            return first & 0x0F, await self.reader.readexactly(size)

    async def json(self, seconds: float = PATIENCE) -> dict[str, Any]:
        """The next text frame that is no heartbeat."""
        async with asyncio.timeout(seconds):
            while True:
                opcode, data = await self.frame(seconds)
                if opcode == TEXT and (value := json.loads(data))["type"] != "heartbeat":
                    assert isinstance(value, dict)
                    return value
                assert opcode in {TEXT, PING, PONG}, (opcode, data)

    async def close_code(self, seconds: float = PATIENCE) -> int:
        """The code of the close frame that comes, after whatever comes before; 1006 for an end without one."""
        async with asyncio.timeout(seconds):
            while True:
                try:
                    opcode, data = await self.frame(seconds)
                except (asyncio.IncompleteReadError, ConnectionError):
                    return 1006
                if opcode == CLOSE:
                    return int.from_bytes(data[:2], "big") if data else 1005

    async def ended(self, seconds: float = PATIENCE) -> bytes:
        """Everything until the other side ends the connection."""
        got = bytearray()
        async with asyncio.timeout(seconds):
            try:
                while data := await self.reader.read(65536):
                    got += data
            except ConnectionError:
                pass
        return bytes(got)


@asynccontextmanager
async def dialled(url: str, **options: Any) -> AsyncIterator[Raw]:
    """A TCP connection to the host and port of an address; cut at the end."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 25, **options)
    try:
        yield Raw(reader, writer)
    finally:
        writer.transport.abort()


@asynccontextmanager
async def upgraded(url: str, token: str, path: str = "/ws", **headers: str) -> AsyncIterator[Raw]:
    """A WebSocket after its welcome."""
    async with dialled(url) as raw:
        await raw.send(upgrade(token, path, **headers))
        status, _, _ = await raw.response()
        assert status == 101, status
        assert (await raw.json())["event"] == "welcome"
        yield raw
