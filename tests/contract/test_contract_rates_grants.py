"""Rates of a session's grants on channels, and of addresses: who hammers is slowed, and nobody else is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.contract.raw import text, upgraded
from tests.contract.shapes import problem
from tests.contract.streams import streaming
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import ROOM, eventually
from tests.support.wire_client import WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
SLOW = {"per_second": 0.05, "burst": 5}


async def said(city: Instance, token: str, frames: list[Frame]) -> list[Frame]:
    """All in one write; the answers in the order of the frames."""
    async with upgraded(city.url, token) as raw:
        await raw.send(b"".join(text({**frame, "id": str(n)}) for n, frame in enumerate(frames)))
        answers: dict[str, Frame] = {}
        while len(answers) < len(frames):
            answer = await raw.json()
            if "id" in answer:
                answers[answer["id"]] = answer
    return [answers[str(n)] for n in range(len(frames))]


def let_through(answers: list[Frame]) -> int:
    for answer in answers:
        if answer["type"] == "error":
            assert (answer["code"], answer["retryable"]) == ("rate_limited", True)
            assert answer["retry_after"] > 0
    return sum(answer["type"] == "ack" for answer in answers)


def publishing(channel: str, count: int) -> list[Frame]:
    return [{"type": "publish", "channel": channel, "payload": {"n": n}} for n in range(count)]


def asking(channel: str, count: int) -> list[Frame]:
    return [{"channel": channel, "payload": {"n": n}} for n in range(count)]


@in_town
class TestGrants:
    async def test_a_grant_bounds_what_is_sent_there_and_nothing_else(self, town: Instance, channel: str) -> None:
        rights = {channel: {"rights": ["publish", "send"], "rate": SLOW}, "guide": ["publish"]}
        token = await town.session(unique("alice"), channels=rights)
        assert 5 <= let_through(await said(town, token, publishing(channel, 15) + asking(channel, 15))) <= 7
        assert let_through(await said(town, token, publishing("guide", 20))) == 20

    async def test_another_connection_and_another_token_of_it_have_no_new_burst(
        self, town: Instance, channel: str
    ) -> None:
        rights = {channel: {"rights": ["publish"], "rate": SLOW}}
        token = await town.session(unique("alice"), channels=rights)
        assert 5 <= let_through(await said(town, token, publishing(channel, 10))) <= 6
        own = f"Bearer {token}"
        refreshed = await town.done("traffic_cop.refresh_session", {"session_token": token}, Authorization=own)
        assert let_through(await said(town, refreshed["session_token"], publishing(channel, 10))) <= 2

    async def test_a_pattern_is_one_rate_for_all_that_it_covers(self, town: Instance) -> None:
        rights = {"pillar:*": {"rights": ["publish"], "rate": SLOW}}
        token = await town.session(unique("alice"), channels=rights)
        frames = [frame for n in range(6) for frame in publishing(f"pillar:field{n}", 3)]
        assert 5 <= let_through(await said(town, token, frames)) <= 6

    async def test_it_bounds_no_reading(self, town: Instance, channel: str) -> None:
        rights = {channel: {"rights": ["publish", "subscribe", "history"], "rate": {"per_second": 0.01, "burst": 1}}}
        token = await town.session(unique("alice"), channels=rights)
        async with town.connected(token) as alice:
            for _ in range(10):
                await alice.subscribe(channel)
            await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 1}})
            assert (await alice.messages(1, channel))[0]["payload"] == {"n": 1}
        for _ in range(5):
            async with streaming(town, channel, token) as stream:
                assert stream.status == 200

    async def test_what_is_refused_is_not_logged(self, town: Instance, channel: str) -> None:
        rights = {channel: {"rights": ["publish"], "rate": SLOW}}
        token = await town.session(unique("alice"), channels=rights)
        answers = await said(town, token, publishing(channel, 20))
        page = await town.done("post_office.get_channel_history", {"channel": channel, "limit": 100})
        accepted = [n for n, answer in enumerate(answers) if answer["type"] == "ack"]
        assert [entry["payload"]["n"] for entry in page["publications"]] == accepted

    @pytest.mark.parametrize(
        "grant",
        [{"rights": ["send"], "rate": {"per_second": 0, "burst": 1}}, {"rights": ["fly"], "rate": SLOW}, {"rate": SLOW},
         {"rights": ["send"], "rate": 5}, {"rights": ["send"], "rate": SLOW, "x": 1}, {"rights": "send"}, "send", None,
         {"rights": ["send"], "rate": {"per_second": 1, "burst": -1}}, {"rights": ["history"], "rate": SLOW}],
        ids=str,
    )  # fmt: skip
    async def test_what_is_no_grant_is_refused(self, town: Instance, channel: str, grant: Any) -> None:
        answer = await town.call("traffic_cop.create_session", {"user_id": unique("a"), "channels": {channel: grant}})
        problem(answer, 422, "invalid_argument")


async def test_a_grants_rate_holds_over_all_instances(platform: Platform) -> None:
    east, west = await platform.start(), await platform.start()
    rights = {"guide": {"rights": ["publish"], "rate": {"per_second": 0.05, "burst": 10}}}
    token = await east.session(unique("alice"), channels=rights)
    answers = await asyncio.gather(*(said(city, token, publishing("guide", 15)) for city in (east, west)))
    assert 10 <= sum(map(let_through, answers)) <= 13


FEW_FAILURES = {"address_failures_per_second": 1, "address_failures_burst": 10, "identity_cache_seconds": 60}


def is_held_to_ten(answers: Sequence[int], refused: int, seconds: float) -> None:
    """Ten are let through and the rest is refused, but for one for each of the seconds that they took."""
    assert refused not in answers[:10]
    assert len(answers) - answers.count(refused) <= 10 + 2 + seconds
    assert refused in answers


async def test_who_guesses_tokens_is_slowed_and_who_has_a_good_one_is_not(platform: Platform) -> None:
    city = await platform.start(**FEW_FAILURES)
    alice = await city.session(unique("alice"))
    own = f"Bearer {alice}"
    assert (await city.call("traffic_cop.get_caller_identity", Authorization=own)).status_code == 200
    began = time.monotonic()
    answers = [
        await city.call("traffic_cop.get_caller_identity", Authorization=f"Bearer ses_guess{n}") for n in range(40)
    ]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {401, 429}
    is_held_to_ten(statuses, 429, time.monotonic() - began)
    refusal = problem(answers[statuses.index(429)], 429, "rate_limited")
    assert refusal["retry_after"] > 0
    assert (await city.call("traffic_cop.get_caller_identity", Authorization=own)).status_code == 200, (
        "it was good before"
    )
    async with city.connected(alice) as still:
        await still.nothing_but_pong()


@pytest.mark.parametrize("way", ["history", "mcp", "socket"])
async def test_guesses_count_on_every_way_in(platform: Platform, way: str) -> None:
    """Or a guesser would take the way that nobody counts."""
    city = await platform.start(**FEW_FAILURES)

    async def guess(n: int) -> Any:
        bad = {"Authorization": f"Bearer ses_guess{n}"}
        if way == "history":
            return (await city.http.get("/api/channels/guide/history", headers=bad)).status_code
        if way == "mcp":
            body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
            accept = {"Accept": "application/json, text/event-stream"}
            return (await city.http.post("/mcp", json=body, headers=bad | accept)).status_code
        async with WireClient.connected(city.ws_url, f"ses_guess{n}") as client:
            return await client.close_code()

    began, found = time.monotonic(), []
    for n in range(25):
        try:
            found.append(await guess(n))
        except ConnectionClosed as closed:
            found.append(closed.rcvd.code if closed.rcvd else 1006)
    assert set(found) == ({4501, 1013} if way == "socket" else {401, 429})
    is_held_to_ten(found, 1013 if way == "socket" else 429, time.monotonic() - began)

    async def is_refused() -> bool:
        after = await city.call("traffic_cop.get_caller_identity", Authorization="Bearer ses_other")
        return after.status_code == 429

    await eventually(is_refused, "all of them together are held to it")


async def test_a_loop_of_handshakes_is_slowed(platform: Platform) -> None:
    city = await platform.start(address_handshakes_per_second=1, address_handshakes_burst=15)
    token = await city.session(unique("mallory"))
    began, codes = time.monotonic(), []
    for _ in range(30):
        try:
            async with city.connected(token):
                codes.append(0)
        except ConnectionClosed as closed:
            assert closed.rcvd is not None
            assert closed.rcvd.reason.startswith("retry_after=")
            codes.append(closed.rcvd.code)
    assert codes[:15] == [0] * 15
    assert codes.count(0) <= 15 + 2 + (time.monotonic() - began)
    assert set(codes) == {0, 1013}
    assert (await city.http.get("/health/ready")).status_code == 200


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "X-Real-IP"])
async def test_an_address_cannot_be_made_up(platform: Platform, header: str) -> None:
    """Only a trusted proxy may say who is behind it; else every request of a guesser would have an own address."""
    city = await platform.start(**FEW_FAILURES)
    began, statuses = time.monotonic(), []
    for n in range(30):
        address = f"10.0.{n}.1"
        value = f"for={address}" if header == "Forwarded" else address
        bad = {"Authorization": f"Bearer ses_guess{n}", header: value}
        statuses.append((await city.http.post("/soa/post-office/list_channels", json={}, headers=bad)).status_code)
    is_held_to_ten(statuses, 429, time.monotonic() - began)


async def test_what_a_trusted_proxy_says_counts(platform: Platform) -> None:
    city = await platform.start(**FEW_FAILURES, trusted_proxies="127.0.0.1")

    async def guess(address: str) -> int:
        bad = {"Authorization": "Bearer ses_guess", "X-Forwarded-For": address}
        return (await city.http.post("/soa/post-office/list_channels", json={}, headers=bad)).status_code

    async def is_refused() -> bool:
        """What a client wrote before its proxy is not believed."""
        return await guess("6.6.6.6, 10.0.0.1") == 429

    began = time.monotonic()
    statuses = [await guess("10.0.0.1") for _ in range(25)]
    is_held_to_ten(statuses, 429, time.monotonic() - began)
    assert await guess("10.0.0.2") == 401
    await eventually(is_refused, "it is the same address")
    began = time.monotonic()
    six = [await guess(f"2001:db8:1:2::{n:x}") for n in range(1, 26)]  # a network of IPv6 is one address
    is_held_to_ten(six, 429, time.monotonic() - began)
    assert await guess("2001:db8:1:3::1") == 401
    for odd in ("", "nonsense", "10.0.0.1:99999", "'", "x" * 5000, "::ffff:10.0.0.3", "10.0.0.2, , ,", "127.0.0.1"):
        assert await guess(odd) in {401, 429}


async def test_a_flood_of_guesses_leaves_others_their_time(platform: Platform) -> None:
    city = await platform.start(**FEW_FAILURES)
    alice = await city.session(unique("alice"))
    async with city.connected(alice) as client:

        async def flood() -> None:
            for n in range(300):
                await city.call("traffic_cop.get_caller_identity", Authorization=f"Bearer svc_{n}{'x' * 40}")

        flooding = asyncio.gather(flood(), flood(), flood())
        slowest = 0.0
        while not flooding.done():
            began = time.monotonic()
            await client.nothing_but_pong()
            slowest = max(slowest, time.monotonic() - began)
            await asyncio.sleep(0.01)  # a modest pace is what is tried
        await flooding
    assert slowest < ROOM
