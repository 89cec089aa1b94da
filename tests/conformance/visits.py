"""One connection of the client under test, as the runner's server sees it: frames are read, checked and kept in order.

What every server does of itself it does, too: pings are answered, and so are subscriptions to the client's own two
logs. All else is the scenario's to say.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from tests.conformance.client_frames import checked
from tests.conformance.encodings import SUBPROTOCOLS, Frame, read, write
from tests.conformance.patterns import Mismatch

NOW = "2026-11-20T08:00:00.000Z"
OWN = ("user:", "connection:")


class Visit:
    """A connection, from its handshake to its close."""

    def __init__(self, socket: ServerConnection, encoding: str, number: int) -> None:
        assert socket.request is not None
        self.connection_id = f"c{number}"
        self.close_code = 0
        self.closed = asyncio.Event()
        self._socket = socket
        self._encoding = encoding
        self._request = socket.request
        self._query = parse_qs(urlsplit(socket.request.path).query)
        self._frames: asyncio.Queue[Frame | Mismatch] = asyncio.Queue()
        self._own: dict[str, dict[str, Any]] = {}
        self.joined: dict[str, Any] = {}
        """The client's own logs that it has subscribed to, each with the position that it named."""
        self.joins: asyncio.Queue[None] = asyncio.Queue()
        self._is_welcome = False

    @property
    def handshake(self) -> dict[str, str]:
        """What a scenario may ask of the handshake."""
        bearer = self._request.headers.get("Authorization", "").removeprefix("Bearer ")
        offered = [name.strip() for name in self._request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
        in_protocol = next((name.removeprefix("token.") for name in offered if name.startswith("token.")), "")
        told = {
            "token": self._query.get("session_token", [""])[0] or bearer or in_protocol,
            "subprotocol": self._socket.subprotocol or SUBPROTOCOLS["json"],
        }
        return told | ({"resume": self._query["resume"][0]} if "resume" in self._query else {})

    async def run(self) -> None:
        """Reads until the connection is gone."""
        try:
            while True:
                try:
                    await self._heard(await self._socket.recv())
                except Mismatch as mismatch:
                    self._frames.put_nowait(mismatch)
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd else 1006
            self.closed.set()

    async def welcome(self, fields: Mapping[str, Any]) -> None:
        """The first frame."""
        self._is_welcome = True
        own = {
            f"connection:{self.connection_id}": {"offset": 0, "epoch": ""},
            "user:alice": {"offset": 0, "epoch": "u"},
        }
        frame = {
            "type": "system", "event": "welcome", "message": "Connected to WebSocket Gateway", "protocol": 1,
            "features": [], "connection_id": self.connection_id, "user_id": "alice", "instance_id": "conformance",
            "resumed": False, "heartbeat_seconds": 25, "max_message_bytes": 4194304, "channels": own, "timestamp": NOW,
        }  # fmt: skip
        await self.say({**frame, **fields})

    async def say(self, frame: Frame) -> None:
        """Sends a frame; an ``ack`` also has the client's own logs, where it asked for both at once."""
        own = self._own.pop(str(frame.get("id")), None) if frame.get("type") == "ack" else None
        if own:
            frame = {**frame, "channels": own | frame.get("channels", {})}
        await self.send(write(frame, self._encoding))

    async def send(self, data: str | bytes) -> None:
        """Sends a message as it is."""
        try:
            await self._socket.send(data)
        except ConnectionClosed as closed:
            raise Mismatch(f"the client has gone: {closed}") from None

    async def next(self, seconds: float) -> Frame:
        """The next frame that is the scenario's.

        Raises:
            Mismatch: none came in time, or one that no server would take.
        """
        try:
            async with asyncio.timeout(seconds):
                frame = await self._frames.get()
        except TimeoutError:
            gone = f", and it has closed with {self.close_code}" if self.closed.is_set() else ""
            raise Mismatch(f"the client said nothing within {seconds:g} s{gone}") from None
        if isinstance(frame, Mismatch):
            raise frame
        return frame

    def check(self) -> None:
        """Raises what the client did wrong and no step has come across."""
        while not self._frames.empty():
            frame = self._frames.get_nowait()
            if isinstance(frame, Mismatch):
                raise frame

    async def close(self, code: int, reason: str) -> None:
        """Closes with a code."""
        await self._socket.close(code, reason)

    def cut(self) -> None:
        """Ends the connection without a word."""
        self._socket.transport.abort()

    async def _heard(self, data: str | bytes) -> None:
        frame = checked(read(data, self._encoding))
        if not self._is_welcome:
            raise Mismatch(f"the client speaks before its welcome: {frame}")
        if frame["type"] == "ping":
            await self.say({"type": "pong"} | ({"id": frame["id"]} if "id" in frame else {}))
        elif frame["type"] == "subscribe":
            await self._subscribe(frame)
        else:
            self._frames.put_nowait(frame)
            if frame["type"] == "unsubscribe" and "id" in frame:
                await self.say({"type": "ack", "id": frame["id"]})

    async def _subscribe(self, frame: Frame) -> None:
        """Answers for the client's own logs; other channels are the scenario's to answer."""
        own = {name: _standing(since) for name, since in frame["channels"].items() if name.startswith(OWN)}
        others = {name: since for name, since in frame["channels"].items() if name not in own}
        self.joined |= {name: frame["channels"][name] for name in own}
        self.joins.put_nowait(None)
        if not others:
            answer = {"type": "ack", "channels": own} | ({"id": frame["id"]} if "id" in frame else {})
            await self.say(answer)
            return
        if own:
            self._own[str(frame.get("id"))] = own
        self._frames.put_nowait({**frame, "channels": others})


def _standing(since: dict[str, Any] | None) -> dict[str, Any]:
    return {**since, "recovered": True, "missed": 0} if since else {"offset": 0, "epoch": "u"}
