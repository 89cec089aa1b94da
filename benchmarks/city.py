"""The platform as a subject: `smart-city serve`, one worker and its own Valkey, as shipped but for limits on rates.

Every connection has a session with its grants, every publication goes through an operation over HTTP, into the log and
over the bus. Nothing is switched off.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks import emptying, talking
from benchmarks.keepalive import Answered, KeepAlive
from benchmarks.processes import Program, children_of
from benchmarks.subjects import Audience, Exchange

SERVE = (sys.executable, "-m", "city_hall", "serve", "--no-demo", "--json")
OPEN_SECONDS = 60.0
RAISED = {
    "SERVICE_MESSAGES_PER_SECOND": "100000000", "SERVICE_MESSAGES_BURST": "100000000",
    "USER_MESSAGES_PER_SECOND": "100000000", "USER_MESSAGES_BURST": "100000000",
    "CALLS_PER_SECOND": "100000000", "CALLS_BURST": "100000000",
    "ADDRESS_HANDSHAKES_PER_SECOND": "1000000", "ADDRESS_HANDSHAKES_BURST": "1000000",
    "OPERATION_RATES": "post_office.get_channel_history=1000000/1000000,traffic_cop.create_session=1000000/1000000",
}  # fmt: skip
"""Limits on rates, which a benchmark is there to exceed. They are still in the path and counted."""
CONNECTIONS_PER_SESSION = 20
"""As many as one user may have by default."""
LANES = 8
"""Connections on which sessions are made at the same time."""
MOST_ITEMS = 1000
"""Of one `publish_batch`."""


class City:
    """The platform, one instance. ``settings`` are variables without prefix, on top of `RAISED`.

    The channel that cases call ``c7`` is the agent channel ``pillar:c7``; it has ``channels`` of them.
    """

    name = "platform"
    nodes: Sequence[str] = ()
    """Where a store of several nodes is reached; empty where it is the platform's own."""

    def __init__(self, channels: int = 1, settings: Mapping[str, str] | None = None) -> None:
        pillars = ",".join(f"c{number}" for number in range(channels))
        self._settings = {"HOST": "127.0.0.1", "PORT": "0", "PILLARS": pillars, **RAISED, **(settings or {})}
        self._environment: dict[str, str] = {}
        self._started = AsyncExitStack()
        self._sessions: list[str] = []
        self._agent: Program | None = None

    @property
    def version(self) -> str:
        return metadata.version("smart-city")

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._open(stack)
            self._started = stack.pop_all()
        return self

    async def _open(self, stack: AsyncExitStack) -> None:
        """Starts everything. What has to be ended is on the stack, also where this fails."""
        self._started = stack
        self.home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-")))
        program, self.url = await self._instance()
        address = urlsplit(self.url)
        self.host, self.port = str(address.hostname), int(address.port or 80)
        self.processes, self.store = _told_apart(program.pid, self.home)
        self.token = self._settings.get("OPERATOR_TOKEN") or (self.home / "operator-token").read_text().strip()
        self._agents_url = self.url
        self._http = await KeepAlive.open(self.host, self.port)
        stack.push_async_callback(self._http.close)
        token = await self.service("benchmark", "post_office.publish", "post_office.history")
        self._service = [f"Authorization: Bearer {token}"]

    async def _instance(self) -> tuple[Program, str]:
        """One more instance on the same data dir, and where it is open."""
        settings = {"DATA_DIR": str(self.home), **self._settings}
        prefixed = {f"SMART_CITY_{name}": value for name, value in settings.items()}
        program = Program(SERVE, env=self._environment | prefixed)
        self._started.push_async_callback(program.end)
        opened = json.loads((await program.said(r'\{"event": ?"open".*\}', OPEN_SECONDS))[0])
        return program, str(opened["url"])

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._started.aclose()

    async def call(self, operation: str, arguments: dict[str, Any], http: KeepAlive | None = None) -> dict[str, Any]:
        """The result of ``service.operation``, called as the operator."""
        service, _, name = operation.partition(".")
        path, body = f"/soa/{service.replace('_', '-')}/{name}", json.dumps(arguments).encode()
        answer = await (http or self._http).post(path, body, [f"Authorization: Bearer {self.token}"])
        result: dict[str, Any] = json.loads(answer)
        return result

    async def service(self, realm: str, *scopes: str) -> str:
        """A new service token."""
        made = await self.call("traffic_cop.create_service_token", {"realm": realm, "scopes": scopes})
        return str(made["token"])

    async def sessions(self, count: int, *, aside: bool = False) -> Sequence[str]:
        """Tokens of so many sessions, each of a user of its own, with the right to subscribe and to send.

        ``aside``: they are made by an instance that ends then, and leave no trace in the memory of this one.
        """
        users = [f"user-{number}" for number in range(len(self._sessions), count)]
        program, url = await self._instance() if aside else (None, self.url)
        made = await asyncio.gather(*(self._logged_in(url, users[lane::LANES]) for lane in range(LANES)))
        if program is not None:
            await program.end()
        self._sessions += [token for some in itertools.zip_longest(*made) for token in some if token]
        return self._sessions[:count]

    async def _logged_in(self, url: str, users: Sequence[str]) -> list[str]:
        """A session's token for each of these, one after the other on a connection of their own."""
        address = urlsplit(url)
        http = await KeepAlive.open(str(address.hostname), address.port or 80)
        try:
            create = "traffic_cop.create_session"
            return [(await self.call(create, {"user_id": user}, http))["session_token"] for user in users]
        finally:
            await http.close()

    async def audience(self, channel: str, clients: int) -> Audience:
        subscribe = json.dumps({"type": "subscribe", "channels": {f"pillar:{channel}": None}})
        return Audience(
            path="/ws", headers=["Authorization: Bearer {credential}"], opening=[subscribe], ready=b'"type":"ack"',
            credentials=await self.sessions(-(-clients // CONNECTIONS_PER_SESSION)), capture=b'"connection_id":"',
        )  # fmt: skip

    async def acknowledged(self, clients: int) -> Exchange:
        """Questions into an inbox. Whoever has asked them empties it: `empty`."""
        return talking.questions(await self.sessions(clients))

    async def publishing(self, clients: int) -> Exchange:
        """Publications on sockets of services."""
        realms = range(-(-clients // CONNECTIONS_PER_SESSION))
        return talking.publications([await self.service(f"sender-{n}", "post_office.publish") for n in realms])

    async def conversation(self, clients: int) -> Exchange:
        """Questions to an agent, which is started with the first of them."""
        if self._agent is None:
            token = await self.service("agent", "post_office.consume")
            self._agent = await talking.agent_started(self, self._agents_url, token)
            self._started.push_async_callback(self._agent.end)
        return talking.conversation(await self.sessions(clients))

    async def empty(self, count: int) -> None:
        """Takes so many questions out of the inbox again."""
        token = await self.service("emptying", "post_office.consume")
        await emptying.empty(self.host, self.port, token, talking.CHANNEL, count)

    async def publish(self, channel: str, payload: bytes) -> None:
        body = b'{"channel":"pillar:%s","message":%s}' % (channel.encode(), payload)
        await self._http.post("/soa/post-office/publish_to_agent_channel", body, self._service)

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        for start in range(0, len(publications), MOST_ITEMS):
            items = [
                b'{"channel":"pillar:%s","message":%s}' % (channel.encode(), payload)
                for channel, payload in publications[start : start + MOST_ITEMS]
            ]
            body = b'{"items":[%s]}' % b",".join(items)
            answer = await self._http.post("/soa/post-office/publish_batch", body, self._service)
            if answer.count(b'"status":"published"') != len(items):
                raise Answered(f"not everything was published: {answer[:500]!r}")


def _told_apart(pid: int, home: Path) -> tuple[list[int], list[int]]:
    """The platform's own processes, and its Valkey, which has the data dir on its command line."""
    ours, store = [pid, *children_of(pid)], []
    for folder in Path("/proc").glob("[0-9]*"):
        words = _words_of(folder)
        if b"valkey-server" in words[0] and str(home / "valkey").encode() in words:
            store.append(int(folder.name))
    return [process for process in ours if process not in store], store


def _words_of(folder: Path) -> list[bytes]:
    try:
        return (folder / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return [b""]
