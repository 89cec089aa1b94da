"""Holding a server against the scenarios: the runner is every client, and says and expects what the steps say.

The steps are described in the README. Users, services and their rights are made through the server's own operations.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx2
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from tests.conformance.clients import expect_all
from tests.conformance.encodings import SUBPROTOCOLS, Frame, read, write
from tests.conformance.patterns import Bound, Mismatch, fill, match
from tests.conformance.scenarios import Outcome, Scenario, Step

SECONDS = 10.0
"""How long a server may take for what a step waits for, unless the step says ``within``."""
RIGHTS = {"*": ["subscribe", "send", "history", "publish"]}
SCOPES = ["post_office.consume", "post_office.history", "post_office.publish"]
WELCOME = {
    "type": "system",
    "event": "welcome",
    "message": "Connected to WebSocket Gateway",
    "connection_id": "<string>",
}


class Target:
    """The server under test, and those who may come to it."""

    def __init__(self, url: str, http: httpx2.AsyncClient, channel: str, other: str) -> None:
        self.ws_url = "ws" + url.rstrip("/").removeprefix("http") + "/ws"
        self.bound: Bound = {"channel": channel, "other": other}
        self._http = http

    @classmethod
    @asynccontextmanager
    async def at(cls, url: str, token: str, channel: str, other: str) -> AsyncIterator[Target]:
        """A server at an address, with its operator's token."""
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=SECONDS, trust_env=False) as http:
            yield cls(url, http, channel, other)

    async def session(self, user_id: str, rights: Mapping[str, Any]) -> str:
        """A token of a session."""
        made = await self._call("create_session", {"user_id": user_id, "channels": rights})
        return str(made["session_token"])

    async def service(self, realm: str) -> str:
        """A token of a service that may do what agents do."""
        return str((await self._call("create_service_token", {"realm": realm, "scopes": SCOPES}))["token"])

    async def _call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        try:
            response = await self._http.post(f"/soa/traffic-cop/{operation}", json=arguments)
        except httpx2.HTTPError as error:
            raise Mismatch(f"nothing answers at {self._http.base_url}: {error}") from None
        if response.status_code != 200:
            raise Mismatch(f"{operation} answers {response.status_code}: {response.text[:300]}")
        made: dict[str, Any] = response.json()
        return made


async def hold(target: Target, scenario: Scenario) -> Outcome:
    """Runs one scenario with users of its own."""
    async with AsyncExitStack() as stack:
        try:
            await _Run(target, scenario.encoding, stack).through(scenario)
        except Mismatch as mismatch:
            return Outcome(scenario, str(mismatch))
        return Outcome(scenario)


class _Run:
    """One scenario under way."""

    def __init__(self, target: Target, encoding: str, stack: AsyncExitStack) -> None:
        self._target = target
        self._encoding = encoding
        self._stack = stack
        self._run = secrets.token_hex(4)
        self._bound: Bound = {**target.bound, "run": self._run}
        self._tokens: dict[str, str] = {}
        self._sockets: dict[str, tuple[ClientConnection, str]] = {}
        self._pings = itertools.count(1)
        self._steps: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = {
            "connect": self._connect, "token": self._token, "client": self._client, "server": self._server,
            "raw": self._raw, "fragments": self._fragments, "binary": self._binary, "quiet": self._quiet,
            "close": self._close, "closed": self._closed,
        }  # fmt: skip

    async def through(self, scenario: Scenario) -> None:
        """Every step."""
        for step in scenario.steps:
            try:
                await self._step(step)
            except Mismatch as mismatch:
                raise Mismatch(f"line {step.line}: {step}\n     {mismatch}") from None
            except ConnectionClosed as closed:
                raise Mismatch(f"line {step.line}: {step}\n     the server closed: {closed}") from None

    async def _step(self, step: Step) -> None:
        for name, run in self._steps.items():
            if name in step.says:
                await run(step.says)
                return
        raise Mismatch(f"no such step; there are {', '.join(self._steps)}")

    async def _who(self, name: str, rights: Mapping[str, Any]) -> str:
        """The token of a user, of a service (``~REALM``), or of nobody."""
        if name == "nobody":
            return "ses_" + "x" * 43
        if name not in self._tokens:
            own = f"{name.removeprefix('~')}-{self._run}"
            is_service = name.startswith("~")
            self._bound[name.removeprefix("~")] = own
            self._tokens[name] = await (self._target.service(own) if is_service else self._target.session(own, rights))
        return self._tokens[name]

    def _at(self, step: Mapping[str, Any]) -> tuple[ClientConnection, str]:
        name = step.get("at", "a")
        if name not in self._sockets:
            raise Mismatch(f"there is no connection {name!r}: it needs a step `connect`")
        return self._sockets[name]

    async def _next(self, step: Mapping[str, Any]) -> Frame:
        """The next frame that is no heartbeat."""
        socket, encoding = self._at(step)
        try:
            async with asyncio.timeout(step.get("within", SECONDS)):
                while True:
                    frame = read(await socket.recv(), encoding)
                    if frame.get("type") != "heartbeat":
                        return frame
        except TimeoutError:
            raise Mismatch("the server said nothing in time") from None

    # Steps

    async def _connect(self, step: Mapping[str, Any]) -> None:
        encoding = step.get("encoding", self._encoding)
        token = await self._who(step.get("as", "alice"), step.get("rights", RIGHTS))
        url, headers, offers = self._target.ws_url, {}, [SUBPROTOCOLS[encoding]]
        way = step.get("token_in", "header")
        if "resume" in step:
            url = f"{url}?resume={fill(step['resume'], self._bound)}"
        if way == "query":
            url = f"{url}?session_token={token}"
        elif way == "subprotocol":
            offers.append(f"token.{token}")
        else:
            headers = {"Authorization": f"Bearer {token}"}
        opening = connect(
            url, additional_headers=headers, subprotocols=[Subprotocol(offer) for offer in offers],
            compression=None, max_size=None, ping_interval=None, close_timeout=1,
        )  # fmt: skip
        try:
            socket = await self._stack.enter_async_context(opening)
        except (OSError, InvalidHandshake) as error:
            raise Mismatch(f"no WebSocket at {url.partition('?')[0]}: {error}") from None
        if socket.subprotocol != SUBPROTOCOLS[encoding]:
            raise Mismatch(f"the server selected {socket.subprotocol!r} instead of {SUBPROTOCOLS[encoding]!r}")
        self._sockets[step["connect"]] = socket, encoding
        if "closed" not in step:
            await self._expect({"server": {**WELCOME, **step.get("welcome", {})}, "at": step["connect"]})
        else:
            await self._closed({**step, "at": step["connect"]})

    async def _token(self, step: Mapping[str, Any]) -> None:
        """A further token of a user, bound to a name."""
        await self._who(step["as"], RIGHTS)
        user_id = self._bound[step["as"]]
        self._bound[step["token"]] = await self._target.session(user_id, fill(step["rights"], self._bound))

    async def _client(self, step: Mapping[str, Any]) -> None:
        socket, encoding = self._at(step)
        await socket.send(write(fill(step["client"], self._bound), encoding))

    async def _server(self, step: Mapping[str, Any]) -> None:
        await self._expect(step)

    async def _expect(self, step: Mapping[str, Any]) -> None:
        patterns = step["server"]
        several = patterns if isinstance(patterns, list) else [patterns]
        await expect_all(several, lambda: self._next(step), self._bound)

    async def _raw(self, step: Mapping[str, Any]) -> None:
        await self._at(step)[0].send(step["raw"])

    async def _fragments(self, step: Mapping[str, Any]) -> None:
        socket, encoding = self._at(step)
        whole = write(fill(step["fragments"], self._bound), encoding)
        data, is_text = (whole.encode(), True) if isinstance(whole, str) else (whole, False)
        await socket.send([data[:1], data[1:7], data[7:]], text=is_text)

    async def _binary(self, step: Mapping[str, Any]) -> None:
        await self._at(step)[0].send(bytes.fromhex(step["binary"]))

    async def _quiet(self, step: Mapping[str, Any]) -> None:
        """Whatever waits would come before the answer to a ping."""
        socket, encoding = self._at({"at": step["quiet"]})
        ping_id = f"quiet-{next(self._pings)}"
        await socket.send(write({"type": "ping", "id": ping_id}, encoding))
        await self._expect({"server": {"type": "pong", "id": ping_id}, "at": step["quiet"]})

    async def _close(self, step: Mapping[str, Any]) -> None:
        await self._at(step)[0].close(step["close"])

    async def _closed(self, step: Mapping[str, Any]) -> None:
        socket, _ = self._at(step)
        try:
            async with asyncio.timeout(step.get("within", SECONDS)):
                while True:
                    await socket.recv()
        except ConnectionClosed as closed:
            match(step["closed"], closed.rcvd.code if closed.rcvd else 1006, self._bound)
        except TimeoutError:
            raise Mismatch("the server did not close") from None
