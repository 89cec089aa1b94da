"""Sessions of the handshake era: kept by no instance, so that each request may go to another one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import httpx2
import pytest
from mcp_types.version import LATEST_MODERN_VERSION

from foundations.valkey.client import Valkey
from tests.contract.shapes import problem
from tests.support.platform import Instance, Platform
from tests.support.waiting import PATIENCE, eventually, until

GUIDE, CONTENT = "channel://guide", "channel://pillar%3Acontent"
ACCEPT = {"Accept": "application/json, text/event-stream", "MCP-Protocol-Version": "2025-06-18"}


class Session:
    """A client's session, on whichever instance it is used."""

    def __init__(self, name: str, token: str) -> None:
        self.name = name
        self.headers = {**ACCEPT, "Authorization": f"Bearer {token}", "Mcp-Session-Id": name}

    @classmethod
    async def begun(cls, city: Instance, token: str) -> Session:
        who = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
        initialize = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": who}
        headers = {"Accept": ACCEPT["Accept"], "Authorization": f"Bearer {token}"}
        response = await city.http.post("/mcp", json=initialize, headers=headers)
        assert response.status_code == 200
        return cls(response.headers["mcp-session-id"], token)

    async def ask(self, city: Instance, method: str, params: dict[str, Any], id_: int = 1) -> dict[str, Any]:
        body = {"jsonrpc": "2.0", "id": id_, "method": method, "params": params}
        response = await city.http.post("/mcp", json=body, headers=self.headers, timeout=40)
        assert response.status_code == 200, response.text
        lines = [line.removeprefix("data: ") for line in response.text.splitlines()]
        (answer,) = [json.loads(line) for line in lines if line.startswith("{")]
        assert isinstance(answer, dict)
        return answer

    async def subscribe(self, city: Instance, *uris: str) -> None:
        for uri in uris:
            assert (await self.ask(city, "resources/subscribe", {"uri": uri}))["result"] == {}

    @asynccontextmanager
    async def stream(self, city: Instance) -> AsyncIterator[Stream]:
        """The session's stream of notifications on this instance."""
        async with (
            httpx2.AsyncClient(base_url=city.url, headers=self.headers, timeout=30) as http,
            http.stream("GET", "/mcp") as response,
        ):
            stream = Stream(response)
            reading = asyncio.create_task(stream.read())
            try:
                yield stream
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)


class Stream:
    """What came on one stream."""

    def __init__(self, response: httpx2.Response) -> None:
        self.response = response
        self.told: list[str] = []
        self.is_over = False

    async def read(self) -> None:
        async for line in self.response.aiter_lines():
            if line.startswith("data: "):
                message = json.loads(line[6:])
                assert message["method"] == "notifications/resources/updated"
                self.told.append(message["params"]["uri"])
        self.is_over = True

    async def hears(self, *uris: str) -> None:
        await until(lambda: self.told == list(uris), f"{uris} is told, and not {self.told}")

    async def ends(self) -> None:
        await until(lambda: self.is_over, "the stream ends")


async def say(city: Instance, channel: str = "guide") -> None:
    await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"message": "news"}})


@pytest.fixture
async def two(platform: Platform) -> tuple[Instance, Instance]:
    return await platform.start(), await platform.start()


async def test_requests_and_stream_may_go_to_different_instances(two: tuple[Instance, Instance]) -> None:
    one, other = two
    session = await Session.begun(one, await one.session("alice"))
    await session.subscribe(one, GUIDE)
    async with session.stream(other) as stream:
        assert stream.response.headers["content-type"].startswith("text/event-stream")
        await say(one)
        await stream.hears(GUIDE)
        await session.subscribe(one, CONTENT)
        await say(one, "pillar:content")
        await stream.hears(GUIDE, CONTENT)
        assert (await session.ask(one, "resources/unsubscribe", {"uri": GUIDE}))["result"] == {}
        await say(one)
        await say(one, "pillar:content")
        await stream.hears(GUIDE, CONTENT, CONTENT)


async def test_a_stream_begins_with_what_changed_while_there_was_none(two: tuple[Instance, Instance]) -> None:
    one, other = two
    session = await Session.begun(one, await one.session("alice"))
    await session.subscribe(one, GUIDE, CONTENT)
    await say(one)
    async with session.stream(one) as stream:
        await stream.hears(GUIDE)
    await say(one, "pillar:content")
    async with session.stream(other) as stream:
        await stream.hears(CONTENT)


CHANNELS = (GUIDE, CONTENT, "channel://pillar%3Ainsights", "channel://pillar%3Aoperations")


async def test_subscriptions_that_come_at_once_are_all_told(two: tuple[Instance, Instance]) -> None:
    one, other = two
    session = await Session.begun(one, await one.session("alice"))
    async with session.stream(other) as stream:
        await asyncio.gather(*(session.subscribe(at, uri) for uri, at in zip(CHANNELS, two * 2, strict=True)))
        for uri in CHANNELS:
            await say(one, unquote(uri.removeprefix("channel://")))
        await until(lambda: set(stream.told) == set(CHANNELS), "each is told")


async def test_a_newer_stream_ends_the_older_one_wherever_that_is(two: tuple[Instance, Instance]) -> None:
    one, other = two
    session = await Session.begun(one, await one.session("alice"))
    await session.subscribe(one, GUIDE)
    async with session.stream(one) as first, session.stream(other) as second:
        await first.ends()
        async with session.stream(other) as third:
            await second.ends()
            await say(one)
            await third.hears(GUIDE)


async def test_a_call_is_cancelled_on_whichever_instance_it_waits(two: tuple[Instance, Instance]) -> None:
    one, other = two
    token = await one.service("clerk", "post_office.consume")
    session, stranger = await Session.begun(one, token), await Session.begun(one, await one.session("mallory"))
    made = await one.done(
        "post_office.subscribe_to_channel", {"channel": "guide", "mode": "inbox"}, Authorization=f"Bearer {token}"
    )
    wanted = {
        "name": "post_office_receive_messages",
        "arguments": {"consumer": made["consumer"], "wait_ms": 30_000},
    }

    async def waiting() -> bool:
        status = await one.done("post_office.get_queue_status", {"channel": "guide"})
        return bool(status["channels"]["guide"]["consumers"] == 1)

    call = asyncio.create_task(session.ask(other, "tools/call", wanted, id_=7))
    await eventually(waiting, "it waits")
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 7}}
    refused = await one.http.post("/mcp", json=cancel, headers=stranger.headers)
    other_call = cancel | {"params": {"requestId": 8}}
    await one.http.post("/mcp", json=other_call, headers=session.headers)
    assert refused.status_code == 202
    assert await waiting()
    assert not call.done()
    assert (await one.http.post("/mcp", json=cancel, headers=session.headers)).status_code == 202
    answer = await asyncio.wait_for(call, PATIENCE)
    assert answer["error"]["code"] == -32800


async def kept(city: Instance, valkey: Valkey) -> list[bytes]:
    """The keys of what is kept of sessions."""
    return sorted(await valkey.command("KEYS", f"{city.settings.valkey_key_prefix}mcp:*"))


async def answers(city: Instance, headers: dict[str, str]) -> list[httpx2.Response]:
    """To all that can be done in a session."""
    calls = [
        {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        for method, params in {
            "resources/subscribe": {"uri": GUIDE}, "resources/unsubscribe": {"uri": GUIDE}, "tools/list": {},
            "notifications/cancelled": {"requestId": 1}, "initialize": {},
        }.items()
    ]  # fmt: skip
    posted = [await city.http.post("/mcp", json=call, headers=headers) for call in calls]
    return [*posted, *[await city.http.request(method, "/mcp", headers=headers) for method in ("GET", "DELETE")]]


async def test_a_session_that_is_ended_is_forgotten_everywhere(two: tuple[Instance, Instance], valkey: Valkey) -> None:
    city, other = two
    session = await Session.begun(city, await city.session("alice"))
    await session.subscribe(city, GUIDE)
    async with session.stream(city) as stream:
        assert (await other.http.delete("/mcp", headers=session.headers)).status_code == 204
        await stream.ends()
    assert await kept(city, valkey) == []
    for refused in await answers(city, session.headers):
        problem(refused, 404, "not_found")


async def test_the_name_of_a_session_opens_nothing_to_others(city: Instance) -> None:
    alice = await Session.begun(city, await city.session("alice"))
    mallory = Session(alice.name, await city.session("mallory"))
    await alice.subscribe(city, GUIDE)
    async with alice.stream(city) as hers:
        for refused in await answers(city, mallory.headers):
            problem(refused, 404, "not_found")
        await say(city)
        await hers.hears(GUIDE)


@pytest.mark.parametrize("name", ["", "chosen", "0" * 31, "A" * 32, "x" * 5000])
async def test_a_session_that_was_never_begun_is_none_and_leaves_nothing(
    city: Instance, valkey: Valkey, name: str
) -> None:
    for refused in await answers(city, Session(name, await city.session("alice")).headers):
        problem(refused, 404, "not_found")
    assert await kept(city, valkey) == []


async def test_a_caller_has_so_many_sessions_and_the_one_unused_for_longest_ends(
    platform: Platform, valkey: Valkey
) -> None:
    city = await platform.start(max_mcp_sessions=2)
    token = await city.session("alice")
    bob = await Session.begun(city, await city.session("bob"))
    first, second = await Session.begun(city, token), await Session.begun(city, token)
    await first.subscribe(city, GUIDE)
    await second.subscribe(city, GUIDE)
    await first.subscribe(city, CONTENT)
    async with first.stream(city) as stays, second.stream(city) as ends:
        third = await Session.begun(city, token)
        await ends.ends()
        assert not stays.is_over
    for one in (first, third, bob):
        assert "result" in await one.ask(city, "tools/list", {})
    problem((await answers(city, second.headers))[0], 404, "not_found")
    assert not [key for key in await kept(city, valkey) if second.name.encode() in key]
    assert min([await valkey.command("TTL", key) for key in await kept(city, valkey)]) > 0


async def test_a_stream_whose_end_nobody_heard_of_ends_all_the_same(city: Instance, valkey: Valkey) -> None:
    session = await Session.begun(city, await city.session("alice"))
    await session.subscribe(city, GUIDE)
    async with session.stream(city) as stream:
        await say(city)
        await stream.hears(GUIDE)
        await valkey.command("DEL", *await kept(city, valkey))
        await say(city)
        await stream.ends()
    assert await kept(city, valkey) == []


async def test_a_stream_ends_with_its_token_and_with_its_instance(platform: Platform) -> None:
    stays = await platform.start()
    token = await stays.session("alice")
    session = await Session.begun(stays, token)
    async with platform.instance() as leaving, session.stream(leaving) as stream:
        await leaving.app.state.gateway.drain()
        await stream.ends()
        assert (await leaving.http.get("/mcp", headers=session.headers)).status_code == 503
    async with session.stream(stays) as stream:
        await stays.done("traffic_cop.revoke_session", {"user_id": "alice"})
        await stream.ends()
    assert (await stays.http.get("/mcp", headers=session.headers)).status_code == 401


async def test_what_a_session_may_not_hear_any_more_is_left_out(city: Instance) -> None:
    wide = await Session.begun(city, await city.session("alice", channels={"*": ["subscribe"]}))
    narrow = Session(wide.name, await city.session("alice", channels={"pillar:*": ["subscribe"]}))
    await wide.subscribe(city, GUIDE, CONTENT)
    async with narrow.stream(city) as stream:
        await say(city)
        await say(city, "pillar:content")
        await stream.hears(CONTENT)


@pytest.mark.parametrize(
    "uri", ["channel://nowhere", "file:///x", "channel://user%3Abob", f"channel://guide?since={'0' * 2000}"]
)
async def test_a_subscription_that_cannot_be_is_refused(city: Instance, uri: str) -> None:
    session = await Session.begun(city, await city.session("alice"))
    answer = await session.ask(city, "resources/subscribe", {"uri": uri})
    assert answer["error"]["code"] == -32602
    assert answer["error"]["data"]["code"] in {"unknown_channel", "not_found", "forbidden"}


async def test_a_session_has_so_many_subscriptions_and_no_more(platform: Platform) -> None:
    city = await platform.start(max_subscriptions=2)
    session = await Session.begun(city, await city.session("alice"))
    await session.subscribe(city, GUIDE, CONTENT, GUIDE)
    answer = await session.ask(city, "resources/subscribe", {"uri": "channel://pillar%3Ainsights"})
    assert answer["error"]["data"]["code"] == "overloaded"
    assert (await session.ask(city, "resources/unsubscribe", {"uri": GUIDE}))["result"] == {}
    await session.subscribe(city, "channel://pillar%3Ainsights")


async def test_without_a_session_there_is_no_stream_and_no_subscription(city: Instance) -> None:
    headers = city.operator | ACCEPT
    for method in ("GET", "DELETE", "PUT"):
        response = await city.http.request(method, "/mcp", headers=headers)
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
    body = {"jsonrpc": "2.0", "id": 1, "method": "resources/subscribe", "params": {"uri": GUIDE}}
    response = await city.http.post("/mcp", json=body, headers=headers)
    assert "mcp-session-id" in response.text
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    assert (await city.http.post("/mcp", json=cancel, headers=headers)).status_code == 202


async def test_a_stream_is_for_those_who_read_events_from_an_allowed_page(city: Instance) -> None:
    session = await Session.begun(city, await city.session("alice"))
    refused = await city.http.get("/mcp", headers=session.headers | {"Accept": "application/json"})
    assert refused.status_code == 406
    assert (await city.http.get("/mcp", headers=session.headers | {"Origin": "https://evil.x"})).status_code == 403
    assert (await city.http.get("/mcp", headers=session.headers | {"Host": "evil.x"})).status_code == 421
    nobody = {"Mcp-Session-Id": session.name, "Accept": "text/event-stream"}
    assert (await city.http.get("/mcp", headers=nobody)).status_code == 401


async def test_no_request_is_a_way_around_the_limit(platform: Platform) -> None:
    city = await platform.start(calls_per_second=1, calls_burst=20)
    session = await Session.begun(city, await city.session("alice"))
    codes = []
    for _ in range(60):
        answer = await session.ask(city, "resources/subscribe", {"uri": GUIDE})
        codes.append(answer.get("error", {}).get("data", {}).get("code", ""))
    assert set(codes) == {"", "rate_limited"}


@pytest.mark.parametrize("method", ["initialize", "tools/list", "ping", "resources/list", "prompts/list", "nonsense"])
async def test_greetings_and_lists_are_held_to_the_limit_too(platform: Platform, method: str) -> None:
    city = await platform.start(calls_per_second=1, calls_burst=5)
    headers = ACCEPT | {"Authorization": f"Bearer {await city.session('alice')}"}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
    statuses = [(await city.http.post("/mcp", json=body, headers=headers)).status_code for _ in range(20)]
    assert statuses[-1] == 429


NOTHING = [
    {"method": "notifications/cancelled", "params": {"requestId": 1}},
    {"method": "tools/call", "params": {"name": "no_such_tool"}},
    {"method": "resources/read", "params": {"uri": "file:///x"}},
]


@pytest.mark.parametrize("body", NOTHING, ids=lambda body: str(body["method"]))
@pytest.mark.parametrize("version", ["2025-06-18", LATEST_MODERN_VERSION])
async def test_what_comes_to_nothing_is_held_to_the_limit_too(
    platform: Platform, body: dict[str, Any], version: str
) -> None:
    city = await platform.start(calls_per_second=1, calls_burst=5)
    headers = ACCEPT | {"Authorization": f"Bearer {await city.session('alice')}", "MCP-Protocol-Version": version}
    whole = {"jsonrpc": "2.0", **body} | ({} if "notifications" in body["method"] else {"id": 1})
    statuses = [(await city.http.post("/mcp", json=whole, headers=headers)).status_code for _ in range(20)]
    assert statuses[-1] == 429


async def test_pages_of_an_allowed_origin_may_be_clients(platform: Platform) -> None:
    origin = "https://app.example"
    city = await platform.start(allowed_origins=origin)
    wanted = "authorization,content-type,mcp-protocol-version,mcp-session-id,mcp-method,mcp-name,last-event-id"
    for method in ("POST", "GET", "DELETE"):
        asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": wanted}
        allowed = await city.http.options("/mcp", headers={"Origin": origin, **asked})
        assert (allowed.status_code, allowed.headers["access-control-allow-origin"]) == (200, origin)
    session = await Session.begun(city, await city.session("alice"))
    headers = session.headers | {"Origin": origin}
    async with city.http.stream("GET", "/mcp", headers=headers) as response:
        assert response.headers["access-control-allow-origin"] == origin


async def test_a_stream_follows_again_after_the_bus_was_lost(platform: Platform, valkey: Valkey) -> None:
    city, other = await platform.start(), await platform.start()
    session = await Session.begun(city, await city.session("alice"))
    async with session.stream(city) as stream:
        await valkey.command("CLIENT", "KILL", "TYPE", "PUBSUB")
        await session.subscribe(other, GUIDE)

        async def is_told() -> bool:
            await say(other)
            return bool(stream.told)

        assert await eventually(is_told, "changes are told", seconds=10)
