"""MessagePack on a city's sockets: a client whose frames are all binary, and bytes that no encoder would write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from websockets.typing import Subprotocol

from tests.contract.raw import BINARY, Raw, dialled, frame, upgrade
from tests.support.platform import Instance
from tests.support.waiting import PATIENCE
from tests.support.wire_client import Frame, WireClient

PROTOCOL = Subprotocol("smart-city.v1.msgpack")
encode: Callable[[Any], bytes] = msgspec.msgpack.encode
decode: Callable[[bytes], Any] = msgspec.msgpack.decode


class PackedClient(WireClient):
    """One connection on which everything is MessagePack, in both directions."""

    async def send(self, **frame: Any) -> None:
        await self.socket.send(encode(frame))

    async def next(self, seconds: float = PATIENCE) -> Frame:
        if self._early:
            return self._early.popleft()
        async with asyncio.timeout(seconds):
            while True:
                data = await self.socket.recv()
                assert isinstance(data, bytes), f"a text frame for a MessagePack client: {data[:200]}"
                value: Frame = decode(data)
                if value["type"] != "heartbeat":
                    return value


@asynccontextmanager
async def packed(city: Instance, token: str, **options: Any) -> AsyncIterator[PackedClient]:
    """A MessagePack client of this instance, after its welcome."""
    async with PackedClient.connected(city.ws_url, token, subprotocols=[PROTOCOL], **options) as client:
        assert isinstance(client, PackedClient)
        yield client


def binary(value: Any) -> bytes:
    """A binary frame: of bytes as they are, of all else as MessagePack."""
    return frame(BINARY, value if isinstance(value, bytes) else encode(value))


@asynccontextmanager
async def upgraded_packed(url: str, token: str) -> AsyncIterator[Raw]:
    """A MessagePack WebSocket of bytes, after its welcome."""
    async with dialled(url) as raw:
        await raw.send(upgrade(token, Sec_WebSocket_Protocol=PROTOCOL))
        status, headers, _ = await raw.response()
        assert (status, headers.get("sec-websocket-protocol")) == (101, PROTOCOL)
        assert (await unpacked(raw))["event"] == "welcome"
        yield raw


async def unpacked(raw: Raw, seconds: float = PATIENCE) -> Frame:
    """The next binary frame that is no heartbeat."""
    async with asyncio.timeout(seconds):
        while True:
            opcode, data = await raw.frame(seconds)
            if opcode == BINARY and (value := decode(data))["type"] != "heartbeat":
                assert isinstance(value, dict)
                return value
            assert opcode in {BINARY, 9, 10}, (opcode, data[:200])
