"""A server that speaks the protocol's frames, one by one, as a test tells it to.

It is a real WebSocket server; it deliberately knows no rules, so that a test can let it break every one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import Server, ServerConnection, serve

from tests.support.waiting import PATIENCE


class Visit:
    """One connection of the client, as the server sees it."""

    def __init__(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.socket = socket
        self.headers = socket.request.headers
        self.resume = parse_qs(urlsplit(socket.request.path).query).get("resume", [""])[0]

    async def welcome(self, connection_id: str = "c1", **fields: Any) -> None:
        await self.say(
            "system",
            **{
                "event": "welcome",
                "message": "Connected to WebSocket Gateway",
                "protocol": 1,
                "features": [],
                "connection_id": connection_id,
                "user_id": "alice",
                "instance_id": "one",
                "resumed": False,
                "heartbeat_seconds": 25,
                "max_message_bytes": 4 * 1024 * 1024,
                "channels": {
                    f"connection:{connection_id}": {"offset": 0, "epoch": "c"},
                    "user:alice": {"offset": 0, "epoch": "u"},
                },
                **fields,
            },
        )

    async def say(self, kind: str, **fields: Any) -> None:
        await self.socket.send(json.dumps({"type": kind, **fields}))

    async def heard(self, kind: str) -> Any:
        """The next frame, which must be of this kind (``message`` where it says none)."""
        async with asyncio.timeout(PATIENCE):
            frame = json.loads(await self.socket.recv())
        assert frame.get("type", "message") == kind, frame
        return frame

    async def heard_after(self, passed_over: str, kind: str) -> Any:
        """The next frame that is not of the kind passed over."""
        while True:
            async with asyncio.timeout(PATIENCE):
                frame = json.loads(await self.socket.recv())
            if frame.get("type") != passed_over:
                assert frame.get("type", "message") == kind, frame
                return frame

    async def subscribed(self, **standings: Any) -> Any:
        """Hears a subscribe and answers it, with ``{"offset", "epoch"}`` by channel (``__`` for a colon)."""
        frame = await self.heard("subscribe")
        channels = {name.replace("__", ":"): standing for name, standing in standings.items()}
        assert frame["channels"].keys() == channels.keys()
        await self.say("ack", id=frame["id"], channels=channels)
        return frame["channels"]

    async def publish(self, offset: int, epoch: str = "e", channel: str = "guide", **fields: Any) -> None:
        await self.say(
            "message",
            **{
                "channel": channel,
                "sender": {"kind": "service", "id": "news"},
                "payload": {"n": offset},
                "message_id": f"{channel}-{offset}-{epoch}",
                "offset": offset,
                "epoch": epoch,
                "timestamp": "2026-11-01T00:00:00.000Z",
                **fields,
            },
        )

    async def deliver(self, delivery_id: str = "guide/m1/1", *, message: str = "hello", **fields: Any) -> None:
        inner = {
            "channel": "guide",
            "sender": {"kind": "user", "id": "alice"},
            "intent": "chat",
            "payload": {"message": message},
            "message_id": "m1",
            "context": {},
            "timestamp": "2026-11-01T00:00:00.000Z",
            "traceparent": "00-0-0-01",
            **fields,
        }
        attempt = int(delivery_id.rsplit("/", 1)[1])
        await self.say("delivery", channel="guide", delivery_id=delivery_id, attempt=attempt, message=inner)

    async def acknowledge(self, kind: str, **fields: Any) -> Any:
        frame = await self.heard(kind)
        await self.say("ack", id=frame["id"], **fields)
        return frame

    async def close(self, code: int, reason: str = "") -> None:
        await self.socket.close(code, reason)

    def cut(self) -> None:
        """Ends the connection without a word."""
        self.socket.transport.abort()

    async def gone(self) -> int:
        """Waits for the client to close, and returns its code."""
        async with asyncio.timeout(PATIENCE):
            await self.socket.wait_closed()
        return self.socket.close_code or 0


class Peer:
    """The server; each connection is handed to the test, in order."""

    def __init__(self) -> None:
        self._visits: asyncio.Queue[Visit] = asyncio.Queue()
        self._server: Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def visit(self, **welcome: Any) -> Visit:
        """The next connection, welcomed."""
        visit = await self.newcomer()
        await visit.welcome(**welcome)
        return visit

    async def newcomer(self) -> Visit:
        """The next connection, not yet welcomed."""
        async with asyncio.timeout(PATIENCE):
            return await self._visits.get()

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Peer]:
        async with serve(self._accept, "127.0.0.1", port, ping_interval=None, close_timeout=1) as server:
            self._server = server
            self.port = next(iter(server.sockets)).getsockname()[1]
            yield self

    async def _accept(self, socket: ServerConnection) -> None:
        self._visits.put_nowait(Visit(socket))
        await socket.wait_closed()
