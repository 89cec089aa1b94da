"""Rates of users, sessions, tokens and operations: as many as were granted and no more, wherever they come in."""

from __future__ import annotations

import asyncio
import re
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.contract.commands import smart_city
from tests.contract.packed import binary, unpacked, upgraded_packed
from tests.contract.raw import text, upgraded
from tests.contract.shapes import problem
from tests.contract.tools import opened
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
SLOW = {"per_second": 0.05, "burst": 10}
"""Slow enough that a busy machine is not given one more while it is counted."""
CALL = "traffic_cop.get_caller_identity"


async def pinged(city: Instance, token: str, count: int, encoding: str = "json") -> list[Frame]:
    """So many pings in one write; the answers in their order."""
    pings = [{"type": "ping", "id": str(n)} for n in range(count)]
    if encoding == "json":
        async with upgraded(city.url, token) as raw:
            await raw.send(b"".join(text(ping) for ping in pings))
            answers = [await raw.json() for _ in pings]
    else:
        async with upgraded_packed(city.url, token) as raw:
            await raw.send(b"".join(binary(ping) for ping in pings))
            answers = [await unpacked(raw) for _ in pings]
    assert {answer["id"] for answer in answers} == {ping["id"] for ping in pings}
    return answers


def let_through(answers: list[Frame]) -> int:
    refused = [answer for answer in answers if answer["type"] == "error"]
    for refusal in refused:
        assert (refusal["code"], refusal["retryable"]) == ("rate_limited", True)
        assert refusal["retry_after"] > 0
    return len(answers) - len(refused)


async def called(city: Instance, token: str, count: int) -> list[httpx2.Response]:
    bearer = f"Bearer {token}"
    return list(await asyncio.gather(*(city.call(CALL, Authorization=bearer) for _ in range(count))))


def done(answers: list[httpx2.Response]) -> int:
    for answer in answers:
        if answer.status_code != 200:
            refusal = problem(answer, 429, "rate_limited")
            assert refusal["retryable"] is True
            assert refusal["retry_after"] > 0
            assert int(answer.headers["retry-after"]) >= refusal["retry_after"]
    return sum(answer.status_code == 200 for answer in answers)


@in_town
class TestSessions:
    @pytest.mark.parametrize("encoding", ["json", "msgpack"])
    async def test_a_session_sends_as_much_as_it_was_granted(self, town: Instance, encoding: str) -> None:
        token = await town.session(unique("alice"), rates={"messages": SLOW})
        assert 10 <= let_through(await pinged(town, token, 40, encoding)) <= 12
        assert let_through(await pinged(town, token, 20, encoding)) <= 3, "a new connection has no new burst"

    async def test_a_session_calls_as_much_as_it_was_granted(self, town: Instance) -> None:
        token = await town.session(unique("alice"), rates={"calls": SLOW})
        answers = await called(town, token, 40)
        assert 10 <= done(answers) <= 12
        (refused, *_) = [answer for answer in answers if answer.status_code == 429]
        assert re.search(r'"session\.calls";\s*q=10;\s*w=200', refused.headers["ratelimit-policy"])
        assert re.search(r'"session\.calls";\s*r=0;\s*t=\d+', refused.headers["ratelimit"])

    async def test_a_tool_call_is_a_call(self, town: Instance) -> None:
        token = await town.session(unique("alice"), rates={"calls": SLOW})
        async with opened(town, token) as client:
            results = [await client.call_tool("traffic_cop_get_caller_identity", {}) for _ in range(16)]
        refused = [result.structured_content or {} for result in results if result.is_error]
        assert refused
        assert {content["code"] for content in refused} == {"rate_limited"}
        assert all(content["retry_after"] > 0 for content in refused)
        assert done(await called(town, token, 10)) <= 2, "and both are held to the same"

    async def test_who_waits_as_long_as_was_said_is_let_through(self, town: Instance) -> None:
        token = await town.session(unique("alice"), rates={"calls": {"per_second": 2, "burst": 2}})
        answers = await called(town, token, 12)
        waits = [answer.json()["retry_after"] for answer in answers if answer.status_code == 429]
        await asyncio.sleep(max(waits))  # what was told to a client is what is tried
        assert (await called(town, token, 1))[0].status_code == 200

    async def test_hammering_does_not_make_it_longer(self, town: Instance) -> None:
        token = await town.session(unique("alice"), rates={"calls": {"per_second": 2, "burst": 1}})
        let, began = 0, time.monotonic()
        while time.monotonic() - began < 2:
            let += done(await called(town, token, 5))
        assert 3 <= let <= 3 + 2 * (time.monotonic() - began)

    async def test_sessions_of_one_user_do_not_share_what_was_granted_to_each(self, town: Instance) -> None:
        user = unique("alice")
        tokens = [await town.session(user, rates={"messages": SLOW}) for _ in range(2)]
        for token in tokens:
            assert 10 <= let_through(await pinged(town, token, 20)) <= 12

    async def test_a_refreshed_token_has_no_new_burst(self, town: Instance) -> None:
        token = await town.session(unique("alice"), rates={"messages": SLOW, "calls": {"per_second": 5, "burst": 20}})
        assert let_through(await pinged(town, token, 20)) <= 12
        bearer = f"Bearer {token}"
        refreshed = await town.done("traffic_cop.refresh_session", {"session_token": token}, Authorization=bearer)
        assert let_through(await pinged(town, refreshed["session_token"], 20)) <= 4

    async def test_what_is_refused_is_not_done(self, town: Instance, channel: str) -> None:
        rights = {channel: ["publish"]}
        token = await town.session(unique("alice"), channels=rights, rates={"messages": SLOW})
        async with upgraded(town.url, token) as raw:
            frames = [{"type": "publish", "channel": channel, "payload": {"n": n}, "id": str(n)} for n in range(30)]
            await raw.send(b"".join(text(frame) for frame in frames))
            answers = [await raw.json() for _ in frames]
        accepted = sorted(int(answer["id"]) for answer in answers if answer["type"] == "ack")
        page = await town.done("post_office.get_channel_history", {"channel": channel, "limit": 100})
        assert [entry["payload"]["n"] for entry in page["publications"]] == accepted
        assert 10 <= len(accepted) <= 12

    async def test_it_shows_wherever_the_session_is_described(self, town: Instance) -> None:
        user = unique("alice")
        made = await town.done("traffic_cop.create_session", {"user_id": user, "rates": {"calls": SLOW}})
        described = await town.done("traffic_cop.get_session", {"session_id": made["session_id"]})
        assert described["rates"]["calls"] == SLOW
        own = await town.done(CALL, Authorization=f"Bearer {made['session_token']}")
        assert own["rates"]["calls"] == SLOW
        listed = await town.done("traffic_cop.list_sessions", {"user_id": user})
        assert listed["sessions"][0]["rates"]["calls"] == SLOW

    @pytest.mark.parametrize(
        "rates",
        [{"messages": {"per_second": 0, "burst": 1}}, {"messages": {"per_second": -1, "burst": 1}},
         {"messages": {"per_second": 1}}, {"messages": {"burst": 1}}, {"messages": 5}, {"flying": SLOW}, [SLOW], "fast",
         {"messages": {"per_second": 1, "burst": 0}}, {"messages": {"per_second": 1, "burst": 1.5}},
         {"messages": {"per_second": "1", "burst": 1}}, {"messages": {"per_second": 1e300, "burst": 1}},
         {"messages": {"per_second": True, "burst": True}}, {"messages": {**SLOW, "x": 1}}, {"session.messages": SLOW}],
        ids=str,
    )  # fmt: skip
    async def test_what_is_no_rate_is_refused(self, town: Instance, rates: Any) -> None:
        answer = await town.call("traffic_cop.create_session", {"user_id": unique("a"), "rates": rates})
        problem(answer, 422, "invalid_argument")
        made = {"realm": unique("r"), "scopes": [], "rates": rates}
        problem(await town.call("traffic_cop.create_service_token", made), 422, "invalid_argument")


@in_town
class TestTokens:
    async def test_a_token_calls_as_much_as_it_was_granted(self, town: Instance) -> None:
        realm = unique("reports")
        made = {"realm": realm, "scopes": ["post_office.publish"], "rates": {"calls": SLOW}}
        token = str((await town.done("traffic_cop.create_service_token", made))["token"])
        other = await town.service(realm, "post_office.publish")
        assert 10 <= done(await called(town, token, 30)) <= 12
        assert done(await called(town, other, 30)) == 30, "another token of the realm is not held to it"

    async def test_a_service_gives_at_most_what_it_has(self, town: Instance) -> None:
        made = {"realm": unique("front"), "scopes": ["traffic_cop.sessions"], "rates": {"messages": SLOW}}
        token = str((await town.done("traffic_cop.create_service_token", made))["token"])
        for rates in (None, {"messages": {"per_second": 100, "burst": 1000}}):
            arguments: Frame = {"user_id": unique("alice")} | ({"rates": rates} if rates else {})
            answer = await town.call("traffic_cop.create_session", arguments, Authorization=f"Bearer {token}")
            if answer.status_code == 200:
                assert let_through(await pinged(town, answer.json()["session_token"], 40)) <= 12, rates
            else:
                assert answer.json()["code"] in {"forbidden", "invalid_argument"}

    async def test_asking_how_one_stands_costs_nothing(self, town: Instance) -> None:
        made = await town.done("traffic_cop.create_session", {"user_id": unique("alice"), "rates": {"messages": SLOW}})
        subject = {"subject": made["session_id"], "limit": "session.messages"}
        for _ in range(30):
            standing = await town.done("traffic_cop.check_rate_limit", subject)
            assert standing["allowed"] is True
            assert standing["remaining"] == 10
        let_through(await pinged(town, made["session_token"], 30))
        standing = await town.done("traffic_cop.check_rate_limit", subject)
        assert standing["allowed"] is (standing["remaining"] > 0)
        assert standing["remaining"] <= 2
        if not standing["allowed"]:
            assert 0 < standing["retry_after"] <= 20.1


async def test_what_was_granted_holds_over_all_instances(platform: Platform) -> None:
    east, west = await platform.start(), await platform.start()
    token = await east.session(unique("alice"), rates={"messages": SLOW, "calls": SLOW})
    answers = await asyncio.gather(*(pinged(city, token, 20) for city in (east, west)))
    assert 10 <= sum(map(let_through, answers)) <= 13
    calls = await asyncio.gather(*(called(city, token, 20) for city in (east, west)))
    assert 10 <= sum(map(done, calls)) <= 13


async def test_sessions_of_one_user_share_what_a_user_has(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=1, user_messages_burst=20, calls_per_second=1, calls_burst=20)
    user = unique("mallory")
    tokens = [await city.session(user) for _ in range(6)]
    began = time.monotonic()
    let = sum([let_through(await pinged(city, token, 20)) for token in tokens])
    assert 20 <= let <= 22 + (time.monotonic() - began)
    assert let_through(await pinged(city, await city.session(unique("alice")), 20)) == 20, "others are not held to it"


async def test_one_session_leaves_something_to_the_others(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=40, user_messages_burst=40)
    user = unique("alice")
    greedy, modest = await city.session(user), await city.session(user)
    over = asyncio.Event()

    async def flood() -> None:
        async with upgraded(city.url, greedy) as raw:
            while not over.is_set():
                await raw.send(text({"type": "ping", "id": "x"}) * 20)
                for _ in range(20):
                    await raw.json()

    flooding = asyncio.create_task(flood())
    let = 0
    async with upgraded(city.url, modest) as raw:
        for _ in range(8):
            await asyncio.sleep(0.25)  # a modest pace is what is tried
            await raw.send(text({"type": "ping", "id": "y"}))
            let += (await raw.json())["type"] == "pong"
    over.set()
    await flooding
    assert let >= 6


async def test_an_operation_has_a_rate_of_its_own(platform: Platform) -> None:
    city = await platform.start(operation_rates=f"{CALL}=1/5")
    alice, bob = await city.session(unique("alice")), await city.session(unique("bob"))
    began = time.monotonic()
    answers = await called(city, alice, 20)
    assert 5 <= done(answers) <= 6 + (time.monotonic() - began)
    assert CALL in next(answer.headers["ratelimit-policy"] for answer in answers if answer.status_code == 429)
    assert done(await called(city, bob, 5)) == 5, "each caller has it for itself"
    history = await city.call("post_office.get_channel_history", {"channel": "guide"}, Authorization=f"Bearer {alice}")
    assert history.status_code == 200, "other operations are not held to it"


async def test_a_flood_that_is_refused_does_not_hold_up_others(platform: Platform) -> None:
    city = await platform.start(calls_per_second=5, calls_burst=5)
    mallory, alice = await city.session(unique("mallory")), await city.session(unique("alice"))
    flood = asyncio.create_task(called(city, mallory, 500))
    assert done(await called(city, alice, 3)) == 3
    assert not flood.done(), "nobody waits until all of it is refused"
    began = time.monotonic()
    assert done(await flood) <= 6 + 5 * (time.monotonic() - began)


async def test_histories_and_events_are_held_to_rates_as_well(platform: Platform) -> None:
    """They are calls, too: otherwise the way around a limit would be another address of the same log."""
    city = await platform.start()
    token = await city.session(unique("alice"), rates={"calls": SLOW})
    bearer = {"Authorization": f"Bearer {token}"}
    pages = [await city.http.get("/api/channels/guide/history", headers=bearer) for _ in range(30)]
    statuses = [page.status_code for page in pages]
    assert statuses.count(200) <= 13, statuses
    problem(pages[-1], 429, "rate_limited")


async def test_a_rate_of_no_operation_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    given = {"SMART_CITY_OPERATION_RATES": "post_office.fly=1/2", "SMART_CITY_DATA_DIR": str(tmp_path)}
    ended = await smart_city("serve", "--port", "0", "--no-demo", env=given)
    assert ended.status in {1, 2}, ended.err
    assert "OPERATION_RATES" in ended.err
    assert "Traceback" not in ended.err


@in_town
async def test_the_operator_is_not_held_to_what_users_are(town: Instance) -> None:
    assert done(await called(town, OPERATOR_TOKEN, 60)) == 60
