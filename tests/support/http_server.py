"""A real uvicorn on a free port of this machine, inside the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette

from tests.support.waiting import PATIENCE, until


@asynccontextmanager
async def serving(app: Starlette) -> AsyncIterator[str]:
    """Serves ``app`` and gives its address, ``http://127.0.0.1:PORT``; stops it gracefully."""
    bound = listener()
    config = uvicorn.Config(app, log_config=None, lifespan="on", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    try:
        await until(lambda: server.started or task.done(), "the server serves")
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        async with asyncio.timeout(PATIENCE):
            await task
        bound.close()


def listener() -> socket.socket:
    """Names its protocol: only then does asyncio switch Nagle's delay off, which costs 40 ms a response."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", 0))
    bound.listen()
    return bound
