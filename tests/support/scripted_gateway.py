"""A gateway whose every frame the test writes, behind the console's real files and front desk.

It shows the console what a real platform shows too seldom to wait for. It knows no channels and keeps
nothing, so it proves nothing about the gateway.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from city_hall.surfaces.console import console_router
from city_hall.surfaces.problems import bind_problems
from foundations.settings import Settings
from tests.support.http_server import serving
from tests.support.waiting import PATIENCE, until

Frame = dict[str, Any]
NOW = "2026-11-20T09:30:00.000Z"


@dataclass
class Desk:
    """Opens sessions for whoever comes, and remembers which."""

    opened: dict[str, str] = field(default_factory=dict)
    closed: list[str] = field(default_factory=list)
    lifetime: float = 3600

    async def open(self, user_id: str) -> tuple[str, float]:
        token = f"ses_{len(self.opened)}"
        self.opened[token] = user_id
        return token, time.time() + self.lifetime

    async def close(self, token: str) -> None:
        self.closed.append(token)


class Peer:
    """The platform's end of one socket."""

    def __init__(self, socket: WebSocket, user_id: str) -> None:
        self._socket = socket
        self._frames: asyncio.Queue[Frame] = asyncio.Queue(maxsize=1000)
        self._offsets = itertools.count(1)
        self.user_id = user_id
        self.resume = socket.query_params.get("resume", "")
        self.connection_id = ""
        self.gone = asyncio.Event()
        self.close_code = 0

    async def send(self, frame: Frame) -> None:
        await self._socket.send_text(json.dumps(frame))

    async def close(self, code: int, reason: str = "") -> None:
        await self._socket.close(code, reason)

    async def heard(self, kind: str) -> Frame:
        """The next frame of this type; others are passed over."""
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self._frames.get()
                if frame.get("type", "message") == kind:
                    return frame

    def unread(self) -> list[Frame]:
        """The frames that have come and that nobody asked for."""
        return [self._frames.get_nowait() for _ in range(self._frames.qsize())]

    async def welcome(self, connection_id: str, *, resumed: bool = False, **more: Any) -> None:
        """The first frame; a fresh connection's own logs begin at 0."""
        self.connection_id = connection_id
        own = {f"connection:{connection_id}": position(0, ""), f"user:{self.user_id}": position(0, "")}
        frame = {
            "type": "system", "event": "welcome", "message": "Connected to WebSocket Gateway",
            "protocol": 1, "features": [], "connection_id": connection_id, "user_id": self.user_id,
            "instance_id": "scripted-1", "resumed": resumed, "heartbeat_seconds": 25,
            "max_message_bytes": 4 * 1024 * 1024, "channels": {} if resumed else own, "timestamp": NOW,
        }  # fmt: skip
        await self.send(frame | more)

    async def join(self, outcomes: dict[str, Frame] | None = None) -> Frame:
        """Answers the next subscribe: joined at 40, but for the given ``outcomes``; gives what was asked."""
        asked = await self.heard("subscribe")
        joined = {name: self._found(name, since) for name, since in asked["channels"].items()}
        channels = joined | (outcomes or {})
        await self.send({"type": "ack", "id": asked["id"], "channels": channels})
        return asked

    def _found(self, log: str, since: Frame | None) -> Frame:
        """Channels are at 40; of one's own logs nothing is ever missed."""
        if since is None or not log.startswith(("user:", "connection:")):
            return position(40, "e1")
        if log == f"connection:{self.connection_id}":
            self._offsets = itertools.count(since["offset"] + 1)
        return since | {"recovered": True, "missed": 0}

    async def settle(self, connection_id: str = "c-1", **more: Any) -> Peer:
        """Welcomes, and answers the subscribe that follows."""
        await self.welcome(connection_id, **more)
        await self.join()
        return self

    async def queue(self, message_id: str) -> Frame:
        """Takes the next message and says that it is queued."""
        message = await self.heard("message")
        ack = {"type": "ack", "id": message["id"], "channel": message["channel"], "status": "queued"}
        await self.send(ack | {"message_id": message_id})
        return message

    async def answer(self, question: str, message_id: str, text: str, **more: Any) -> None:
        """A chat_response of the guide; ``stream`` and the rest as given."""
        frame = {
            "type": "chat_response", "channel": "guide", "agent": "guide", "in_reply_to": question,
            "payload": {"message": text}, "message_id": message_id, "log": f"connection:{self.connection_id}",
            "timestamp": NOW,
        }  # fmt: skip
        if more.get("stream") != "delta":
            frame |= position(next(self._offsets), "e1")
        await self.send(frame | more)

    async def publish(self, offset: int, payload: Frame, **more: Any) -> None:
        """A publication of a service on the guide's channel."""
        frame = {
            "type": "message", "channel": "guide", "sender": {"kind": "service", "id": "content"},
            "payload": payload, "message_id": f"pub-{offset}", "timestamp": NOW, **position(offset, "e1"),
        }  # fmt: skip
        await self.send(frame | more)

    async def run(self) -> None:
        """Reads until the other side is gone."""
        try:
            while True:
                await self._frames.put(json.loads(await self._socket.receive_text()))
        except WebSocketDisconnect as ended:
            self.close_code = ended.code
        finally:
            self.gone.set()


class ScriptedGateway:
    """The page's address, and the sockets that the page opens, in order."""

    def __init__(self, url: str, desk: Desk) -> None:
        self.url = url
        self.desk = desk
        self.peers: list[Peer] = []
        self._met = 0

    async def peer(self) -> Peer:
        """The next socket that the page opens."""
        await until(lambda: len(self.peers) > self._met, "the page connects", seconds=PATIENCE)
        self._met += 1
        return self.peers[self._met - 1]


def position(offset: int, epoch: str) -> Frame:
    return {"offset": offset, "epoch": epoch}


@asynccontextmanager
async def scripted_gateway(**settings: Any) -> AsyncIterator[ScriptedGateway]:
    """Serves the console with a scripted gateway behind it."""
    desk = Desk()
    gateway = ScriptedGateway("", desk)
    app = FastAPI()
    bind_problems(app)
    app.include_router(console_router(Settings.read(**settings), desk))

    @app.websocket("/ws")
    async def ws(socket: WebSocket) -> None:
        await socket.accept()
        user_id = desk.opened.get(socket.cookies.get("session_token", ""))
        if user_id is None:
            await socket.close(4501, "no such session")
            return
        peer = Peer(socket, user_id)
        gateway.peers.append(peer)
        await peer.run()

    async with serving(app) as url:
        gateway.url = url
        yield gateway
