"""The gateway's own socket as an echo, which WebSocket test suites talk to: ``python -m tests.support.echo PORT``.

Of the city there is nothing: whoever comes is let in, and gets back what it sends.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState
from websockets.http11 import Request

from city_hall.http_protocol import PromptHttpProtocol
from smart_city.post_office.gateway.backlog import Patience
from smart_city.post_office.gateway.handshake import Handshakes
from smart_city.post_office.gateway.messages import wire, wire_binary
from smart_city.post_office.gateway.msgpack import Packing
from smart_city.post_office.gateway.readers import Readers
from smart_city.post_office.gateway.round import Round
from smart_city.post_office.gateway.socket import Socket

MOST_BYTES = 16 << 20
MOST_UNSENT = 64 << 20


class EchoDoor:
    """Lets everybody in."""

    def __init__(self, max_message_bytes: int, max_unsent_bytes: int) -> None:
        self.round = Round(asyncio.get_running_loop())
        self.max_message_bytes = max_message_bytes
        self.patience = Patience(max_unsent_bytes, 1.0)
        self.close_seconds = 1.0
        self.pack: Callable[[bytes], bytes] = Packing()
        self.handshakes = Handshakes()
        self.readers = Readers(max_message_bytes)
        self.sockets: set[Socket] = set()

    def arrived(self, socket: Socket, request: Request) -> None:
        socket.admitted(_Echo(socket))

    def too_slow(self, socket: Socket) -> None:
        socket.close(1008, "take what you have asked for")


class _Echo:
    """Whoever was let in."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    def received(self, data: bytes, is_text: bool) -> None:
        self._socket.outbox.send((wire if is_text else wire_binary)(data))

    def heard(self) -> None:
        """It lives."""

    def ponged(self, data: bytes) -> None:
        pass

    def lagging(self, is_lagging: bool) -> None:
        """It listens to nothing."""

    def closed(self, code: int, reason: str) -> None:
        """It is gone."""


@asynccontextmanager
async def echoing(
    port: int = 0, *, max_message_bytes: int = MOST_BYTES, max_unsent_bytes: int = MOST_UNSENT
) -> AsyncIterator[int]:
    """An echo on a free port, which it gives; every socket ends on leaving."""
    door = EchoDoor(max_message_bytes, max_unsent_bytes)
    loop = asyncio.get_running_loop()

    class EchoSocket(Socket):
        def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
            super().__init__(door, door.sockets)

    config = Config(lambda: None, ws=EchoSocket, lifespan="off", log_config=None)
    state = ServerState()
    server = await loop.create_server(lambda: PromptHttpProtocol(config, state, {}), "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for socket in list(door.sockets):
            socket.transport.abort()
        await server.wait_closed()


async def main(port: int) -> None:
    async with echoing(port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
