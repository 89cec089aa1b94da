"""An ASGI application served as its users serve it for speed: one process of uvicorn with uvloop and httptools, no
compression, no logs. It is what the Python peers are run by, and nothing of the platform.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from importlib.metadata import version
from typing import Any

import uvicorn

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

BACKLOG = 4096
"""Of connections that wait to be accepted, as for every subject."""
KEPT_ALIVE = 3600
"""Seconds that a publisher may be silent: it is one connection for the whole run."""


async def body_of(receive: Receive) -> bytes:
    """The whole body of a request."""
    body, is_more = b"", True
    while is_more:
        event = await receive()
        body += event.get("body", b"")
        is_more = event.get("more_body", False)
    return body


async def answer_nothing(send: Send) -> None:
    """Says 204."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


def serve(application: Application, package: str, *packages: str, pings: bool) -> None:
    """Serves until SIGTERM. Standard output tells one line: the port, and the package's version beside others'.

    ``pings``: whether uvicorn asks each connection every 20 s if it lives, where the application does not.
    """
    listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
    # Of uvicorn's three this is the cheapest: python-socketio takes 50 µs a delivery and 110 an acknowledgement,
    # 52 and 118 with wsproto, 58 and 130 with websockets (200 subscribers, 100 clients, on a busy machine).
    config = uvicorn.Config(
        application, loop="uvloop", http="httptools", ws="websockets-sansio", ws_per_message_deflate=False,
        ws_ping_interval=20.0 if pings else None, lifespan="off", log_config=None, access_log=False, backlog=BACKLOG,
        timeout_keep_alive=KEPT_ALIVE, timeout_graceful_shutdown=1,
    )  # fmt: skip
    beside = ", ".join(f"{name} {version(name)}" for name in (*packages, "uvicorn"))
    told = {"port": listener.getsockname()[1], "version": f"{version(package)} ({beside})"}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()
    uvicorn.Server(config).run(sockets=[listener])
