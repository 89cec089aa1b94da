"""Section 6, Traffic Cop: sessions and service tokens, from their creation to the last socket that they close."""

from __future__ import annotations

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.contract.shapes import TIMESTAMP, fields, has_only, problem
from tests.contract.watching import close_code_of, eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM, until
from tests.support.wire_client import WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


def seconds_until(timestamp: str) -> float:
    return (datetime.fromisoformat(timestamp) - datetime.now(UTC)).total_seconds()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def created(city: Instance, user: str, **arguments: Any) -> Frame:
    return await city.done("traffic_cop.create_session", {"user_id": user, **arguments})


async def is_closed_within(client: WireClient, seconds: float, code: int = 4501) -> None:
    began = time.monotonic()
    assert await client.close_code(seconds + PATIENCE) == code
    assert time.monotonic() - began < seconds + ROOM, "it closes, but too late"


@in_town
async def test_a_new_session_has_its_fields(town: Instance) -> None:
    user = unique("alice")
    session = await created(town, user)
    has_only(session, {"session_id", "session_token", "user_id", "status", "expires_at"})
    assert session["user_id"] == user
    assert session["status"] == "active"
    assert TIMESTAMP.fullmatch(session["expires_at"])
    assert 3590 < seconds_until(session["expires_at"]) <= 3601
    assert session["session_id"] not in session["session_token"]


@in_town
async def test_tokens_are_random_and_long_enough_to_carry_256_bits(town: Instance) -> None:
    tokens = [await town.session(unique("alice")) for _ in range(20)]
    tokens += [await town.service("reports") for _ in range(20)]
    assert len({token[-40:] for token in tokens}) == 40
    assert all(len(token.partition("_")[2]) >= 43 for token in tokens)


@in_town
@pytest.mark.parametrize("ttl", [1, 60, 86400])
async def test_a_session_lives_as_long_as_asked(town: Instance, ttl: int) -> None:
    session = await created(town, unique("alice"), ttl_seconds=ttl)
    assert ttl - 2 < seconds_until(session["expires_at"]) <= ttl + 1


WRONG: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("user_id", ("", "~bob", "~", "a b", "a/b", "a:b", "a*", "{a}", "é", "x" * 129, "a\n", 7, None, ["alice"])),
    ("ttl_seconds", (0, -1, 1.5, "60", True)),
    ("context", ("text", [], 7)),
    ("channels", ("guide", ["guide"], 7)),
    ("session_type", (7,)),
    ("colour", ("red",)),
)


@in_town
@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG for value in values])
async def test_what_no_session_can_have_is_named(town: Instance, field: str, value: Any) -> None:
    response = await town.call("traffic_cop.create_session", {"user_id": unique("alice"), field: value})
    assert fields(problem(response, 422, "invalid_argument")) == {field}


@in_town
@pytest.mark.parametrize("user", ["a", "A.b_c-d~e@f|g", "0", "x" * 128, "alice@example.com", "auth0|5f7c"])
async def test_a_user_is_whatever_fits_the_channel_pattern(town: Instance, user: str) -> None:
    async with town.connected(await town.session(user)) as client:
        assert client.welcome["user_id"] == user
        assert "error" not in (await client.subscribe(f"user:{user}"))[f"user:{user}"]


@in_town
async def test_validating_and_getting_tell_what_a_session_is_but_not_its_token(town: Instance) -> None:
    user, context = unique("alice"), {"tenant": "blue", "n": [1, {"x": None}]}
    session = await created(
        town, user, session_type="kiosk", context=context, channels={"guide": ["subscribe"]}, ttl_seconds=600
    )
    validated = await town.done("traffic_cop.validate_session", {"session_token": session["session_token"]})
    got = await town.done("traffic_cop.get_session", {"session_id": session["session_id"]})
    assert validated == got
    assert got["session_id"] == session["session_id"]
    assert got["user_id"] == user
    assert got["status"] == "active"
    assert got["context"] == context
    assert got["channels"] == {"guide": ["subscribe"]}
    assert got["session_type"] == "kiosk"
    assert got["expires_at"] == session["expires_at"]
    assert session["session_token"] not in str(got)


@in_town
async def test_listing_shows_the_living_sessions_of_one_user(town: Instance) -> None:
    user = unique("alice")
    sessions = [await created(town, user) for _ in range(3)]
    await created(town, unique("bob"))
    await town.done("traffic_cop.revoke_session", {"session_id": sessions[0]["session_id"]})
    listed = await town.done("traffic_cop.list_sessions", {"user_id": user})
    assert {entry["session_id"] for entry in listed["sessions"]} == {entry["session_id"] for entry in sessions[1:]}
    assert all(session["session_token"] not in str(listed) for session in sessions)
    assert (await town.done("traffic_cop.list_sessions", {"user_id": unique("nobody")}))["sessions"] == []


@in_town
async def test_what_is_not_there_is_not_found_or_unauthenticated(town: Instance) -> None:
    problem(await town.call("traffic_cop.get_session", {"session_id": "nobody"}), 404, "not_found")
    unknown = await town.call("traffic_cop.validate_session", {"session_token": "ses_" + "x" * 45})
    problem(unknown, 401, "unauthenticated")


@in_town
async def test_refreshing_gives_another_token_of_the_same_session_and_touches_no_socket(town: Instance) -> None:
    user = unique("alice")
    session = await created(town, user, ttl_seconds=100, context={"c": 1}, channels={"guide": ["subscribe"]})
    async with town.connected(session["session_token"]) as alice:
        arguments = {"session_token": session["session_token"], "ttl_seconds": 500}
        renewed = await town.done("traffic_cop.refresh_session", arguments)
        has_only(renewed, {"session_id", "session_token", "user_id", "status", "expires_at"})
        assert renewed["session_id"] == session["session_id"]
        assert renewed["session_token"] != session["session_token"]
        assert 498 < seconds_until(renewed["expires_at"]) <= 501
        for token in (session["session_token"], renewed["session_token"]):
            told = await town.done("traffic_cop.validate_session", {"session_token": token})
            assert told["session_id"] == session["session_id"]
            assert told["context"] == {"c": 1}
            assert told["channels"] == {"guide": ["subscribe"]}
            async with town.connected(token):
                pass
        await alice.nothing_but_pong()


@in_town
async def test_a_session_refreshes_itself_and_nobody_else(town: Instance) -> None:
    mine, theirs = await created(town, unique("alice")), await created(town, unique("bob"))
    renewed = await town.done("traffic_cop.refresh_session", {}, **bearer(mine["session_token"]))
    assert renewed["session_id"] == mine["session_id"]
    arguments = {"session_token": theirs["session_token"]}
    response = await town.call("traffic_cop.refresh_session", arguments, **bearer(mine["session_token"]))
    assert response.status_code in {401, 403, 422}, response.text


@in_town
async def test_the_old_token_lives_to_its_own_end_and_the_new_one_longer(town: Instance) -> None:
    session = await created(town, unique("alice"), ttl_seconds=4)
    arguments = {"session_token": session["session_token"], "ttl_seconds": 60}
    renewed = await town.done("traffic_cop.refresh_session", arguments)
    async with town.connected(session["session_token"]) as old, town.connected(renewed["session_token"]) as new:
        remaining = seconds_until(session["expires_at"])
        await is_closed_within(old, remaining + 1)
        assert seconds_until(session["expires_at"]) < 0.1, "it was closed before its end"
        problem(
            await town.call("traffic_cop.validate_session", {"session_token": session["session_token"]}),
            401, "unauthenticated",
        )  # fmt: skip
        await town.done("traffic_cop.validate_session", {"session_token": renewed["session_token"]})
        assert (await new.ask(type="ping"))["type"] == "pong"


@in_town
async def test_a_socket_that_refreshes_outlives_its_first_token(town: Instance) -> None:
    user = unique("alice")
    session = await created(town, user, ttl_seconds=4)
    longer = await created(town, user, ttl_seconds=60)
    async with town.connected(session["session_token"]) as alice:
        await alice.subscribe("guide")
        assert await alice.ask(type="refresh", session_token=longer["session_token"], id="r") == {
            "type": "ack",
            "id": "r",
        }

        async def old_token() -> int:
            arguments = {"session_token": session["session_token"]}
            return (await town.call("traffic_cop.validate_session", arguments)).status_code

        await eventually(old_token, lambda status: status == 401, "the first token ends")
        await town.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"still": "here"}})
        (got,) = await alice.messages(1, "guide")
        assert got["payload"] == {"still": "here"}


@in_town
@pytest.mark.parametrize("kind", ["another user", "nonsense", "revoked", "service", "ticket", "empty"])
async def test_a_refresh_with_the_wrong_token_is_refused_and_the_socket_stays(town: Instance, kind: str) -> None:
    user = unique("alice")
    other = await created(town, user)
    if kind == "revoked":
        await town.done("traffic_cop.revoke_session", {"session_id": other["session_id"]})
    tokens = {
        "another user": await town.session(unique("bob")), "nonsense": "nonsense", "empty": "",
        "revoked": other["session_token"], "service": await town.service(user, "post_office.publish"),
        "ticket": "tkt_" + "x" * 45,
    }  # fmt: skip
    async with town.connected(await town.session(user)) as alice:
        answer = await alice.ask(type="refresh", session_token=tokens[kind])
        assert answer["type"] == "error"
        assert answer["code"] in {"forbidden", "unauthenticated", "invalid_message"}
        assert "ses_" not in answer["message"]
        await alice.nothing_but_pong()


@in_town
async def test_a_refresh_to_a_lesser_token_ends_what_it_does_not_allow(town: Instance, channel: str) -> None:
    user = unique("alice")
    lesser = await town.session(user, channels={"guide": ["subscribe"]})
    async with town.connected(await town.session(user)) as alice:
        await alice.subscribe("guide", channel)
        await alice.ask(type="refresh", session_token=lesser)
        ended = await alice.of("unsubscribed")
        has_only(ended, {"type", "channel", "code", "message"})
        assert (ended["channel"], ended["code"]) == (channel, "forbidden")
        for name in (channel, "guide", f"user:{user}"):
            operation, arguments = ("publish_to_agent_channel", {"channel": name})
            if name.startswith("user:"):
                operation, arguments = "send_to_user", {"user_id": user}
            await town.done(f"post_office.{operation}", {**arguments, "message": {"to": name}})
        got = await alice.messages(2)
        assert [frame["channel"] for frame in got] == ["guide", f"user:{user}"]
        assert (await alice.ask(channel="guide", payload={}))["code"] == "forbidden"


@in_town
async def test_the_end_of_a_session_is_told_a_minute_before(town: Instance) -> None:
    session = await created(town, unique("alice"), ttl_seconds=61)
    async with town.connected(session["session_token"]) as alice:
        word = await alice.of("system")
        has_only(word, {"type", "event", "expires_at"})
        assert (word["event"], word["expires_at"]) == ("session_expiring", session["expires_at"])
        assert 58 < seconds_until(word["expires_at"]) < 60.5
        await alice.nothing_but_pong()


@in_town
@pytest.mark.parametrize("by", ["session", "user"])
async def test_revoking_closes_the_sockets_and_the_tokens(town: Instance, by: str) -> None:
    user = unique("alice")
    session, other = await created(town, user), await created(town, user)
    renewed = await town.done("traffic_cop.refresh_session", {"session_token": session["session_token"]})
    asked = {"session_token": session["session_token"], "realm": "operator", "ticket": True}
    ticket = (await town.done("post_office.get_websocket_endpoint", asked))["websocket_url"].rpartition("=")[2]
    async with (
        town.connected(session["session_token"]) as first,
        town.connected(renewed["session_token"]) as second,
        town.connected(other["session_token"]) as third,
    ):
        arguments = {"session_id": session["session_id"]} if by == "session" else {"user_id": user}
        await town.done("traffic_cop.revoke_session", arguments)
        await is_closed_within(first, 1)
        await is_closed_within(second, 1)
        if by == "user":
            await is_closed_within(third, 1)
        else:
            await third.nothing_but_pong()
    dead = [session["session_token"], renewed["session_token"], ticket]
    for token in dead + ([other["session_token"]] if by == "user" else []):
        if not token.startswith("tkt_"):
            response = await town.call("post_office.get_channel_history", {"channel": "guide"}, **bearer(token))
            problem(response, 401, "unauthenticated")
        assert await close_code_of(town.ws_url, token) == 4501


@in_town
async def test_who_comes_in_while_the_session_is_revoked_does_not_stay(town: Instance) -> None:
    """Between the check of a token and its socket's place in the hub nothing may slip through."""
    for _ in range(10):
        session = await created(town, unique("alice"))
        coming = [asyncio.create_task(close_code_of(town.ws_url, session["session_token"])) for _ in range(5)]
        await town.done("traffic_cop.revoke_session", {"session_id": session["session_id"]})
        assert await asyncio.gather(*coming) == [4501] * 5


@in_town
async def test_a_service_token_is_shown_once_and_listed_by_its_id(town: Instance) -> None:
    realm = unique("reports")
    arguments = {"realm": realm, "scopes": ["post_office.publish"], "ttl_seconds": 600}
    made = await town.done("traffic_cop.create_service_token", arguments)
    assert made["realm"] == realm
    assert made["scopes"] == ["post_office.publish"]
    listed = await town.done("traffic_cop.list_service_tokens", {"realm": realm})
    assert [entry["token_id"] for entry in listed["tokens"]] == [made["token_id"]]
    everything = await town.call("traffic_cop.list_service_tokens")
    assert made["token_id"] in everything.text
    assert made["token"] not in everything.text + str(listed)
    assert made["token_id"] not in made["token"]


@in_town
async def test_a_revoked_service_token_closes_its_sockets_and_opens_nothing(town: Instance) -> None:
    realm = unique("reports")
    scopes = ["post_office.publish", "post_office.consume"]
    made = await town.done("traffic_cop.create_service_token", {"realm": realm, "scopes": scopes})
    kept = await town.service(realm, "post_office.publish")
    async with town.connected(made["token"]) as first, town.connected(kept) as second:
        await town.done("traffic_cop.revoke_service_token", {"token_id": made["token_id"]})
        await is_closed_within(first, 1)
        await second.nothing_but_pong()
    arguments: Frame = {"channel": "guide", "message": {}}
    gone = await town.call("post_office.publish_to_agent_channel", arguments, **bearer(made["token"]))
    problem(gone, 401, "unauthenticated")
    await town.done("post_office.publish_to_agent_channel", arguments, **bearer(kept))
    assert made["token_id"] not in str(await town.done("traffic_cop.list_service_tokens", {"realm": realm}))


@in_town
async def test_a_service_token_ends_after_its_time(town: Instance) -> None:
    arguments = {"realm": unique("reports"), "scopes": ["post_office.publish"], "ttl_seconds": 1}
    made = await town.done("traffic_cop.create_service_token", arguments)
    async with town.connected(made["token"]) as service:
        assert await service.close_code() == 4501

    async def publish() -> str:
        arguments = {"channel": "guide", "message": {}}
        response = await town.call("post_office.publish_to_agent_channel", arguments, **bearer(made["token"]))
        return str(response.json().get("code"))

    await eventually(publish, lambda code: code == "unauthenticated", "the token has ended")


@in_town
@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"realm": "", "scopes": []}, "realm"), ({"realm": "~x", "scopes": []}, "realm"),
        ({"realm": "a b", "scopes": []}, "realm"), ({"realm": "operator", "scopes": []}, "realm"),
        ({"realm": "x", "scopes": ["fly"]}, "scopes"), ({"realm": "x", "scopes": "post_office.publish"}, "scopes"),
        ({"realm": "x", "scopes": [7]}, "scopes"), ({"realm": "x", "scopes": [], "ttl_seconds": 0}, "ttl_seconds"),
    ],
    ids=str,
)  # fmt: skip
async def test_what_no_service_token_can_have_is_named(town: Instance, arguments: Frame, field: str) -> None:
    response = await town.call("traffic_cop.create_service_token", arguments)
    assert fields(problem(response, 422, "invalid_argument")) == {field}


@in_town
async def test_a_websocket_endpoint_has_what_a_browser_needs(town: Instance) -> None:
    token = await town.session(unique("alice"), channels={"guide": ["subscribe"], "pillar:content": ["send"]})
    arguments = {"session_token": token, "realm": "operator"}
    endpoint = await town.done("post_office.get_websocket_endpoint", arguments)
    has_only(endpoint, {"websocket_url", "channels", "message_format"})
    assert endpoint["websocket_url"] == f"{town.ws_url}?session_token={token}"
    assert {"guide", "pillar:content"} <= set(endpoint["channels"])
    ticketed = await town.done("post_office.get_websocket_endpoint", {**arguments, "ticket": True})
    ticket = re.fullmatch(rf"{re.escape(town.ws_url)}\?session_token=(\S+)", ticketed["websocket_url"])
    assert ticket and ticket.group(1) != token
    wrong = await town.call("post_office.get_websocket_endpoint", {"session_token": "ses_x", "realm": "operator"})
    problem(wrong, 401, "unauthenticated")


@in_town
async def test_a_rate_limit_can_be_looked_up_without_spending(town: Instance) -> None:
    arguments = {"subject": unique("alice"), "limit": "messages"}
    looks = [await town.done("traffic_cop.check_rate_limit", arguments) for _ in range(3)]
    has_only(looks[0], {"allowed", "remaining", "retry_after"})
    assert looks[0]["allowed"] is True
    assert looks[0] == looks[1] == looks[2]


async def test_a_revocation_reaches_every_instance_within_a_second(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    user, realm = unique("alice"), unique("reports")
    session = await created(here, user)
    made = await here.done("traffic_cop.create_service_token", {"realm": realm, "scopes": []})
    async with (
        here.connected(session["session_token"]) as near,
        there.connected(session["session_token"]) as far,
        there.connected(made["token"]) as service,
    ):
        await there.done("traffic_cop.validate_session", {"session_token": session["session_token"]})
        await here.done("traffic_cop.revoke_session", {"user_id": user})
        await here.done("traffic_cop.revoke_service_token", {"token_id": made["token_id"]})
        await asyncio.gather(*(is_closed_within(client, 1) for client in (near, far, service)))
    response = await there.call(
        "post_office.get_channel_history", {"channel": "guide"}, **bearer(session["session_token"])
    )
    problem(response, 401, "unauthenticated")


async def test_a_ticket_ends_after_its_time(platform: Platform) -> None:
    city = await platform.start(ticket_seconds=1)
    asked = {"session_token": await city.session(unique("alice")), "realm": "operator", "ticket": True}

    async def endpoint() -> str:
        return str((await city.done("post_office.get_websocket_endpoint", asked))["websocket_url"])

    unused, began = await endpoint(), time.monotonic()
    async with WireClient.connected(await endpoint(), ""):
        pass
    await until(lambda: time.monotonic() > began + 1.1, "a little more than a second has passed")
    assert await close_code_of(unused, "") == 4501


async def test_who_sends_too_much_is_told_when_to_come_back(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=5, user_messages_burst=10)
    user = unique("alice")
    token = await city.session(user)
    async with city.connected(token) as alice, city.connected(await city.session(unique("bob"))) as bob:
        began = time.monotonic()
        for n in range(60):
            await alice.send(channel="guide", payload={"n": n}, id=str(n))
        answers = [await alice.next() for _ in range(60)]
        credit = 10 + 5 * (time.monotonic() - began)
        assert sorted(int(answer["id"]) for answer in answers) == list(range(60))
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert 10 <= len(answers) - len(refused) <= credit + 5, "what was paid, and a slice more at most"
        for answer in refused:
            assert answer["code"] == "rate_limited"
            assert answer["retryable"] is True
            assert 0 < answer["retry_after"] <= 10
        assert (await bob.ask(channel="guide", payload={}))["status"] == "queued"
        looked = await city.done("traffic_cop.check_rate_limit", {"subject": user, "limit": "messages"})
        assert looked["allowed"] is False or looked["remaining"] < 10
    async with city.connected(token) as again:
        answers = [await again.ask(channel="guide", payload={}) for _ in range(5)]
        assert "rate_limited" in {answer.get("code") for answer in answers}, "a new connection is no new credit"


async def test_calls_have_a_limit_too_and_a_refusal_costs_nothing_but_itself(platform: Platform) -> None:
    city = await platform.start(calls_per_second=5, calls_burst=10)
    token = await city.service(unique("reports"), "post_office.observe")
    began = time.monotonic()
    responses = await asyncio.gather(
        *(city.call("post_office.list_channels", {}, **bearer(token)) for _ in range(60)),
    )
    credit = 10 + 5 * (time.monotonic() - began)
    refused = [response for response in responses if response.status_code != 200]
    assert 10 <= len(responses) - len(refused) <= credit + 5, "what was paid, and a slice more at most"
    for response in refused:
        body = problem(response, 429, "rate_limited")
        assert body["retryable"] is True
        assert body["retry_after"] > 0
        assert float(response.headers["retry-after"]) >= 1
