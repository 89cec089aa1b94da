"""One test's way to use a deployment, by its public surfaces alone, and to leave it as it was found.

Users have names that nobody else has, and their sessions are revoked at the end. It expects nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.integration.smart_city.target import Target
from tests.support.parity import plain_client
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

ANSWER_SECONDS = 30.0
"""How long an agent of somebody else's may think."""


class Visitor:
    """Calls as the suites' own service, and makes users who come and go."""

    def __init__(self, target: Target, http: httpx2.AsyncClient, realm: str) -> None:
        self.target = target
        self.http = http
        self.realm = realm
        parts = urlsplit(target.url)
        self.ws_url = urlunsplit(("wss" if parts.scheme == "https" else "ws", parts.netloc, "/ws", "", ""))
        self.run = secrets.token_hex(4)
        """What marks everything that this test says."""
        self.users: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def of(cls, target: Target) -> AsyncIterator[Visitor]:
        """Comes, and takes back on leaving what was made through it."""
        async with _http(target) as http:
            asked = await http.post("/soa/traffic-cop/get_caller_identity", json={})
            visitor = cls(target, http, str(asked.json()["id"]))
            try:
                yield visitor
            finally:
                for user in visitor.users:
                    await visitor.done("traffic_cop.revoke_session", user_id=user)

    async def call(self, operation: str, /, *, headers: dict[str, str] | None = None, **arguments: Any) -> Any:
        """The response to a call of ``service.operation``, with the suites' token unless another is given."""
        service, _, name = operation.partition(".")
        return await self.http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments, headers=headers)

    async def done(self, operation: str, /, *, headers: dict[str, str] | None = None, **arguments: Any) -> Frame:
        """The result of a call that must succeed."""
        response = await self.call(operation, headers=headers, **arguments)
        assert response.status_code == 200, response.text
        answer: Frame = response.json()
        assert answer["success"] is True
        return answer

    def user(self, name: str = "alice") -> str:
        """The id of a user whom nobody else has."""
        user = f"acceptance-{name}-{secrets.token_hex(4)}"
        self.users.add(user)
        return user

    async def session(self, user: str = "", **arguments: Any) -> str:
        """The token of a new session, of a new user unless one is named."""
        wanted = {"user_id": user or self.user(), "ttl_seconds": 600, **arguments}
        return str((await self.done("traffic_cop.create_session", **wanted))["session_token"])

    def connected(self, token: str, **options: Any) -> contextlib.AbstractAsyncContextManager[WireClient]:
        """A connection after its welcome; its token goes in the header."""
        return WireClient.connected(self.ws_url, token, proxy=None, **options)

    def entered(self, url: str) -> contextlib.AbstractAsyncContextManager[WireClient]:
        """A connection after its welcome, with what the URL says and nothing else, as a browser's."""
        return WireClient.connected(url, "", proxy=None)

    def resumed(self, token: str, connection_id: str) -> contextlib.AbstractAsyncContextManager[WireClient]:
        """A connection that asks to be the one with this id."""
        return WireClient.connected(f"{self.ws_url}?resume={connection_id}", token, proxy=None)

    @asynccontextmanager
    async def tools(self) -> AsyncIterator[Client]:
        """The official MCP client on the deployment's tools."""
        transport = streamable_http_client(f"{self.target.url}/mcp", http_client=self.http)
        async with Client(transport) as client:
            yield client

    async def publish(self, channel: str, count: int, start: int = 0) -> list[Frame]:
        """Publishes numbered messages of this test; the results."""
        publish = "post_office.publish_to_agent_channel"
        return [
            await self.done(publish, channel=channel, message={"run": self.run, "n": n}, realm=self.realm)
            for n in range(start, start + count)
        ]

    async def heard(self, client: WireClient, channel: str, count: int) -> list[Frame]:
        """The next publications of this test on a channel; those of others are passed over."""
        return [
            await client.until(
                lambda f: f["type"] == "message" and f["channel"] == channel and f["payload"].get("run") == self.run
            )
            for _ in range(count)
        ]

    @asynccontextmanager
    async def agents_on(self, channel: str) -> AsyncIterator[None]:
        """Somebody answers there: the deployment's own agents or, where there is none, one of this test's."""
        queue = await self.queue(channel)
        if queue["consumers"]:
            yield
            return
        if queue["depth"]:
            pytest.skip(f"{channel} has questions of others and no agent: one of the suites' would take them away")
        async with self.connected(self.target.token) as agent:
            assert (await agent.ask(type="consume", channel=channel, max=8))["type"] == "ack"
            answering = asyncio.create_task(self._answer(agent))
            try:
                yield
            finally:
                if answering.done():
                    await answering  # what ended it is what went wrong
                answering.cancel()
                await asyncio.wait([answering])

        async def has_left() -> bool:
            return bool((await self.queue(channel))["consumers"] == 0)

        await eventually(has_left, "nobody takes this agent of the suites for one of the deployment's", 15)

    async def queue(self, channel: str) -> Frame:
        """How an inbox stands."""
        status: Frame = (await self.done("post_office.get_queue_status", channel=channel))["channels"][channel]
        return status

    async def _answer(self, agent: WireClient) -> None:
        """Answers this test's users in parts, and gives back what others asked meanwhile."""
        while True:
            delivery = await agent.until(lambda frame: frame["type"] == "delivery", ANSWER_SECONDS)
            settled = {"delivery_id": delivery["delivery_id"]}
            if delivery["message"]["sender"]["id"] not in self.users:
                await agent.send(type="failed", reason="not a question of the acceptance suites", **settled)
                continue
            await agent.send(type="reply", stream="start", payload={}, **settled)
            for word in ("You asked: ", str(delivery["message"]["payload"].get("message", ""))):
                await agent.send(type="reply", stream="delta", payload={"message": word}, **settled)
            await agent.send(type="reply", stream="end", payload={}, **settled)


async def answer_to(client: WireClient, question: str) -> Frame:
    """The last word on a question: a whole answer, the end of one in parts, or an error that is final."""

    def is_last(frame: Frame) -> bool:
        if frame["type"] != "chat_response" or frame["in_reply_to"] != question:
            return False
        stream = frame.get("stream")
        return stream in {None, "end"} or (stream == "error" and not frame["retrying"])

    return await client.until(is_last, ANSWER_SECONDS)


@asynccontextmanager
async def _http(target: Target) -> AsyncIterator[httpx2.AsyncClient]:
    async with AsyncExitStack() as stack:
        if target.url.startswith("https"):
            client = httpx2.AsyncClient(base_url=target.url, headers=target.bearer, timeout=10)
        else:
            client = plain_client(target.url, **target.bearer)
        yield await stack.enter_async_context(client)
