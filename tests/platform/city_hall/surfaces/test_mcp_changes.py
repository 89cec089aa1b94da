"""Changes of channels, told to MCP clients of both eras on whichever instance they listen."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from typing import Any

import mcp_types
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CLIENT_CAPABILITIES_META_KEY, PROTOCOL_VERSION_META_KEY
from mcp_types.version import LATEST_MODERN_VERSION

from city_hall.surfaces.mcp import patience
from tests.contract.tools import opened
from tests.support.metrics import samples, series
from tests.support.parity import MODES, plain_client
from tests.support.platform import IMPATIENT, OPERATOR_TOKEN, Instance, Platform
from tests.support.waiting import eventually, until

# The handshake era has resources/subscribe; the client says so each time that a later one has not.
pytestmark = pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
both_eras = pytest.mark.parametrize("era", MODES)
GUIDE, CONTENT = "channel://guide", "channel://pillar%3Acontent"
QUIET_SECONDS = 0.5
"""How long is listened for what must not come; what comes, comes within milliseconds."""


class Listening:
    """A client that is told of changes, in the way of its era."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.ended: list[str] = []

    async def hears(self, *uris: str) -> None:
        """Waits until the last ones it was told of are these."""
        await until(lambda: self.told[-len(uris) :] == list(uris), f"{uris} is told, and not {self.told}")


@asynccontextmanager
async def listening(city: Instance, era: str, *uris: str, token: str = OPERATOR_TOKEN) -> AsyncIterator[Listening]:
    async with (_by_listen if era == "auto" else _by_session)(city, token, uris) as heard:
        yield heard


@asynccontextmanager
async def _by_listen(city: Instance, token: str, uris: tuple[str, ...]) -> AsyncIterator[Listening]:
    heard = Listening()
    async with opened(city, token) as client, client.listen(resource_subscriptions=uris) as stream:
        assert stream.honored.resource_subscriptions == list(uris)

        async def take() -> None:
            try:
                async for event in stream:
                    heard.told.append(event.uri)  # type: ignore[union-attr]  # only resources change here
                heard.ended.append("graceful")
            except RuntimeError as lost:
                heard.ended.append(str(lost.__cause__))

        taking = asyncio.create_task(take())
        yield heard
        taking.cancel()
        await asyncio.gather(taking, return_exceptions=True)


@asynccontextmanager
async def _by_session(city: Instance, token: str, uris: tuple[str, ...]) -> AsyncIterator[Listening]:
    heard = Listening()

    async def take(message: Any) -> None:
        if isinstance(message, mcp_types.ResourceUpdatedNotification):
            heard.told.append(message.params.uri)

    async with (
        plain_client(city.url, Authorization=f"Bearer {token}") as http,
        Client(
            streamable_http_client(f"{city.url}/mcp", http_client=http), mode="legacy", message_handler=take
        ) as client,
    ):  # fmt: skip
        for uri in uris:
            await client.subscribe_resource(uri)
        yield heard


async def refusal(client: Client, era: str, *uris: str) -> dict[str, Any]:
    """Why a client is not told of these."""
    with pytest.raises(MCPError) as caught:
        if era == "legacy":
            await client.subscribe_resource(uris[0])
        else:
            async with client.listen(resource_subscriptions=uris):
                pass
    told: dict[str, Any] = caught.value.data
    return told


async def say(city: Instance, channel: str, text: str = "news") -> None:
    await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"message": text}})


@both_eras
async def test_a_change_is_told_and_no_other(city: Instance, era: str) -> None:
    async with listening(city, era, CONTENT) as heard:
        await say(city, "guide")
        await say(city, "pillar:content")
        await heard.hears(CONTENT)
        await say(city, "pillar:content")
        await heard.hears(CONTENT, CONTENT)
        assert GUIDE not in heard.told


@both_eras
async def test_a_change_is_told_on_every_instance(platform: Platform, era: str) -> None:
    one, two = await platform.start(), await platform.start()
    async with listening(one, era, GUIDE) as here, listening(two, era, GUIDE) as there:
        await say(one, "guide")
        await here.hears(GUIDE)
        await there.hears(GUIDE)
        told = len(there.told)
        await say(two, "guide")
        await until(lambda: len(there.told) > told, "it is told again")


@both_eras
async def test_a_burst_is_told_as_few_changes(city: Instance, era: str) -> None:
    async with listening(city, era, GUIDE) as heard:
        items = [{"channel": "guide", "message": {"n": n}} for n in range(100)]
        for _ in range(3):
            await city.done("post_office.publish_batch", {"items": items})
        await until(lambda: bool(heard.told), "it is told")
        await asyncio.sleep(QUIET_SECONDS)
        assert len(heard.told) <= 30


@both_eras
async def test_what_may_not_be_heard_is_refused(city: Instance, era: str) -> None:
    token = await city.session("alice", channels={"guide": ["history"]})
    async with opened(city, token, era) as client:
        for uri, code in ((GUIDE, "forbidden"), ("channel://nowhere", "unknown_channel"), ("x://guide", "not_found")):
            assert (await refusal(client, era, uri))["code"] == code
    async with listening(city, era, "channel://user%3Aalice", token=token) as heard:
        await city.done("post_office.send_to_user", {"user_id": "alice", "message": {"m": 1}})
        await heard.hears("channel://user%3Aalice")


async def test_only_what_changes_here_is_acknowledged(city: Instance) -> None:
    async with opened(city) as client, client.listen(tools_list_changed=True, prompts_list_changed=True) as stream:
        assert stream.honored.model_dump(exclude_none=True) == {}


async def test_a_stream_ends_in_peace_when_its_instance_drains(platform: Platform) -> None:
    async with platform.instance() as leaving:
        async with listening(leaving, "auto", GUIDE) as heard:
            await leaving.app.state.gateway.drain()
            await until(lambda: bool(heard.ended), "it ends")
            assert heard.ended == ["graceful"]
        async with opened(leaving) as client:
            told = await refusal(client, "auto", GUIDE)
            assert (told["code"], told["retryable"]) == ("overloaded", True)


@both_eras
async def test_a_stream_outlives_a_store_that_was_away(platform: Platform, era: str) -> None:
    city = await platform.start(**IMPATIENT)
    async with listening(city, era, GUIDE) as heard, opened(city, era=era) as client:
        platform.server.hang()
        try:
            told = await refusal(client, era, CONTENT)
        finally:
            platform.server.resume()
        assert (told["code"], told["retryable"]) == ("unavailable", True)

        async def is_told() -> bool:
            message = {"channel": "guide", "message": {"message": "news"}}
            await city.call("post_office.publish_to_agent_channel", message)
            return bool(heard.told)

        assert await eventually(is_told, "changes are told again")
        assert not heard.ended


@pytest.mark.parametrize("end", ["revoked", "expired"])
async def test_a_stream_ends_with_what_let_it_in(city: Instance, end: str) -> None:
    token = await city.session("alice", ttl_seconds=3600 if end == "revoked" else 1)
    async with listening(city, "auto", GUIDE, token=token) as heard:
        if end == "revoked":
            await city.done("traffic_cop.revoke_session", {"user_id": "alice"})
        await until(lambda: bool(heard.ended), "it ends")
        assert end in heard.ended[0]


async def test_a_stream_whose_client_takes_nothing_is_given_up(city: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SEND_SECONDS", 0.3)
    many = [f"{GUIDE}?since={'0' * 500}&limit={number}" for number in range(city.settings.max_subscriptions)]
    meta = {PROTOCOL_VERSION_META_KEY: LATEST_MODERN_VERSION, CLIENT_CAPABILITIES_META_KEY: {}}
    params = {"notifications": {"resourceSubscriptions": many}, "_meta": meta}
    method = "subscriptions/listen"
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    with closing(socket.socket()) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", city.settings.port))
        headers = {
            **city.operator, "Host": f"127.0.0.1:{city.settings.port}", "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream", "Content-Length": str(len(body)),
            "MCP-Protocol-Version": LATEST_MODERN_VERSION, "Mcp-Method": method,
        }  # fmt: skip
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        await asyncio.get_running_loop().sock_sendall(deaf, f"POST /mcp HTTP/1.1\r\n{head}\r\n".encode() + body)
        await eventually(partial(listeners_are, city, 1), "it listens")

        async def is_given_up() -> bool:
            await say(city, "guide")
            return await listeners_are(city, 0)

        await eventually(is_given_up, "it is given up")


async def listeners_are(city: Instance, count: int) -> bool:
    page = (await city.http.get("/metrics", headers=city.operator)).text
    return samples(page)[series("listeners_active")] == count


async def test_so_many_streams_and_channels_and_no_more(platform: Platform) -> None:
    city = await platform.start(max_listeners=3, max_connections_per_user=2, max_subscriptions=1)
    alice, bob = await city.session("alice"), await city.session("bob")

    async def refused(token: str, *uris: str) -> str:
        async with opened(city, token) as client:
            return str((await refusal(client, "auto", *uris))["message"])

    assert "1 resources" in await refused(alice, GUIDE, f"{GUIDE}?since=0")
    async with listening(city, "auto", GUIDE, token=alice), listening(city, "auto", GUIDE, token=alice):
        assert "alice has 2" in await refused(alice, GUIDE)
        async with listening(city, "auto", GUIDE, token=bob):
            assert await listeners_are(city, 3)
            assert "this instance has 3" in await refused(bob, GUIDE)

        async with opened(city, bob) as client:

            async def is_free() -> bool:
                try:
                    async with client.listen(resource_subscriptions=[GUIDE]):
                        return True
                except MCPError:
                    return False

            assert await eventually(is_free, "a place is free again")


async def test_a_resource_is_told_of_under_each_name_that_was_given(city: Instance) -> None:
    plain, paged = "channel://pillar:content", f"{CONTENT}?since=0"
    async with listening(city, "auto", plain, paged) as heard:
        await say(city, "pillar:content")
        await heard.hears(plain, paged)
