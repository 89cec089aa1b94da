"""Django Channels with its channel layer in a Valkey, as its documentation wants it in production.

What it does is in ``django_channels_server``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

from benchmarks.keepalive import KeepAlive
from benchmarks.peers.peer import TOLD, Peer
from benchmarks.subjects import Audience, Missing
from foundations.valkey.launch import NoServer, find_server


class DjangoChannels(Peer):
    """Django Channels on uvicorn."""

    name = "channels"

    async def start(self, started: AsyncExitStack) -> None:
        if find_spec("channels") is None:
            raise Missing("no Django Channels in this environment: scripts/environment bench")
        valkey = await self._start_valkey(started)
        server = self.run(started, sys.executable, "-m", "benchmarks.peers.django_channels_server", valkey)
        told = json.loads((await server.said(TOLD))[0])
        self.port, self.version = told["port"], told["version"]
        self.processes = (server.pid,)
        self._http = await KeepAlive.open(self.host, self.port)
        started.push_async_callback(self._http.close)

    async def _start_valkey(self, started: AsyncExitStack) -> str:
        """On a unix socket and without a log: the layer keeps nothing there."""
        socket = Path(started.enter_context(tempfile.TemporaryDirectory())) / "valkey.sock"
        try:
            program = find_server()
        except NoServer as error:
            raise Missing(str(error)) from None
        server = self.run(
            started, program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", socket.parent
        )  # fmt: skip
        await server.said("Ready to accept connections")
        self.store = (server.pid,)
        return f"unix://{socket}"

    async def audience(self, channel: str, clients: int) -> Audience:
        return Audience(path=f"/subscribe/{channel}")

    async def publish(self, channel: str, payload: bytes) -> None:
        await self._http.post(f"/publish/{channel}", payload)

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        """In one request, of which the view sends one after the other to its group."""
        pairs = [(channel, payload.decode()) for channel, payload in publications]
        await self._http.post("/publish", json.dumps(pairs).encode())
