"""python-socketio on uvicorn as its users run it for speed: WebSocket only, uvloop, no compression, no logs.

It keeps nothing: an acknowledgement says that a message has arrived in memory. Publications come over HTTP, one by one
(``/publish/CHANNEL``) or many (``/publish``, pairs).
"""

from __future__ import annotations

import json
from itertools import count
from typing import Any

import socketio

from benchmarks.peers.asgi import Receive, Scope, Send, answer_nothing, body_of, serve

AGENT = "agent"

server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"], http_compression=False)
taken = count(1)


@server.event  # type: ignore[untyped-decorator]  # it comes without types
async def connect(sid: str, _environ: dict[str, Any], auth: dict[str, str] | None) -> None:
    """Before the client is told that it is connected."""
    if auth and (channel := auth.get("channel")):
        await server.enter_room(sid, channel)


@server.event  # type: ignore[untyped-decorator]
async def message(_sid: str, _payload: Any) -> tuple[str, int]:
    return "ok", next(taken)


@server.event  # type: ignore[untyped-decorator]
async def ask(sid: str, question: Any) -> None:
    await server.emit("question", (sid, question), room=AGENT)


@server.event  # type: ignore[untyped-decorator]
async def answer(_sid: str, asker: str, words: Any) -> None:
    await server.emit("answer", words, room=asker)


async def publish(scope: Scope, receive: Receive, send: Send) -> None:
    body = json.loads(await body_of(receive))
    channel = scope["path"].removeprefix("/publish").removeprefix("/")
    for room, payload in [(channel, body)] if channel else body:
        await server.emit("message", payload, room=room)
    await answer_nothing(send)


if __name__ == "__main__":
    serve(socketio.ASGIApp(server, publish), "python-socketio", "python-engineio", pings=False)
