"""Sections 3 and 4: the Idempotency-Key and a frame's ``key`` make whatever publishes safe to repeat."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.shapes import has_only, position, problem
from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
PUBLISH = "post_office.publish_to_agent_channel"


async def depth(city: Instance, channel: str) -> int:
    status = await city.done("post_office.get_queue_status", {"channel": channel})
    return int(status["channels"][channel]["depth"])


async def logged(city: Instance, channel: str) -> int:
    return len((await city.done("post_office.get_channel_history", {"channel": channel}))["publications"])


@in_town
async def test_a_repeated_call_gets_the_first_answer_and_says_so(town: Instance, channel: str) -> None:
    arguments = {"channel": channel, "message": {"n": 1}}
    first = await town.done(PUBLISH, arguments, Idempotency_Key="k")
    assert first.get("duplicate", False) is False
    for _ in range(3):
        again = await town.done(PUBLISH, arguments, Idempotency_Key="k")
        assert again["duplicate"] is True
        for name in ("status", "channel", "message_id", "offset", "epoch"):
            assert again[name] == first[name]
    assert await logged(town, channel) == 1


@in_town
async def test_the_order_of_its_fields_makes_no_other_body(town: Instance, channel: str) -> None:
    first = await town.done(
        PUBLISH, {"channel": channel, "message": {"n": 1, "m": {"a": 1, "b": 2}}}, Idempotency_Key="k"
    )
    again = await town.done(
        PUBLISH, {"channel": channel, "message": {"m": {"b": 2, "a": 1}, "n": 1}}, Idempotency_Key="k"
    )
    assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])


@in_town
async def test_another_body_under_the_same_key_is_a_conflict(town: Instance, channel: str) -> None:
    await town.done(PUBLISH, {"channel": channel, "message": {"n": 1}}, Idempotency_Key="k")
    for message in ({"n": 2}, {}, {"n": 1, "m": 1}, {"n": "1"}):
        response = await town.call(PUBLISH, {"channel": channel, "message": message}, Idempotency_Key="k")
        assert problem(response, 409, "conflict")["retryable"] is False
    assert await logged(town, channel) == 1


@in_town
async def test_the_argument_key_is_the_same_key(town: Instance, channel: str) -> None:
    arguments = {"channel": channel, "message": {"n": 1}}
    first = await town.done(PUBLISH, arguments, Idempotency_Key="k")
    again = await town.done(PUBLISH, arguments | {"key": "k"})
    assert again["duplicate"] is True
    assert again["message_id"] == first["message_id"]


@in_town
async def test_another_channel_another_caller_and_another_key_are_none_of_it(town: Instance, channel: str) -> None:
    message = {"n": 1}
    mine, theirs = unique("mine"), unique("theirs")
    tokens = [await town.service(realm, "post_office.publish") for realm in (mine, theirs, mine)]
    bearers = [f"Bearer {token}" for token in tokens]
    arguments = {"channel": channel, "message": message}
    first = await town.done(PUBLISH, arguments, Authorization=bearers[0], Idempotency_Key="k")
    by_realm = await town.done(PUBLISH, arguments, Authorization=bearers[2], Idempotency_Key="k")
    assert by_realm["message_id"] == first["message_id"], "the caller is the realm, whichever token it has"
    others = [
        await town.done(PUBLISH, arguments, Authorization=bearers[1], Idempotency_Key="k"),
        await town.done(PUBLISH, arguments, Authorization=bearers[0], Idempotency_Key="K"),
        await town.done(PUBLISH, arguments | {"channel": "guide"}, Authorization=bearers[0], Idempotency_Key="k"),
    ]
    assert not any(other.get("duplicate") for other in others)
    assert len({other["message_id"] for other in (first, *others)}) == 4


@in_town
async def test_a_user_and_a_realm_of_the_same_name_are_two_callers(town: Instance, channel: str) -> None:
    name = unique("twin")
    token = await town.session(name, channels={channel: ["publish"]})
    bearer = f"Bearer {await town.service(name, 'post_office.publish')}"
    async with town.connected(token) as user:
        first = await user.ask(type="publish", channel=channel, payload={"n": 1}, key="k")
    second = await town.done(PUBLISH, {"channel": channel, "message": {"n": 1}}, Authorization=bearer)
    third = await town.done(
        PUBLISH, {"channel": channel, "message": {"n": 1}}, Authorization=bearer, Idempotency_Key="k"
    )
    assert len({first["message_id"], second["message_id"], third["message_id"]}) == 3


@in_town
async def test_refusals_are_not_remembered(town: Instance, channel: str) -> None:
    """A call that was wrong the first time may be corrected under its key."""
    realm = unique("reports")
    bare, able = await town.service(realm), await town.service(realm, "post_office.publish")
    message = {"n": 1}
    refusals = [
        await town.call(
            PUBLISH, {"channel": channel, "message": message}, Authorization=f"Bearer {bare}", Idempotency_Key="k"
        ),
        await town.call(
            PUBLISH, {"channel": channel, "message": message, "x": 1}, Authorization=f"Bearer {able}",
            Idempotency_Key="k",
        ),
        await town.call(
            PUBLISH, {"channel": channel, "message": {"m": "x" * (5 << 20)}}, Authorization=f"Bearer {able}",
            Idempotency_Key="k",
        ),
        await town.call(
            PUBLISH, {"channel": channel, "message": {}, "realm": "other"}, Authorization=f"Bearer {able}",
            Idempotency_Key="k",
        ),
    ]  # fmt: skip
    assert [response.status_code for response in refusals] == [403, 422, 413, 403]
    first = await town.done(
        PUBLISH, {"channel": channel, "message": message}, Authorization=f"Bearer {able}", Idempotency_Key="k"
    )
    assert not first.get("duplicate")


@in_town
async def test_a_conflict_is_not_remembered_either(town: Instance, channel: str) -> None:
    right, wrong = ({"channel": channel, "message": {"n": n}} for n in (1, 2))
    first = await town.done(PUBLISH, right, Idempotency_Key="k")
    problem(await town.call(PUBLISH, wrong, Idempotency_Key="k"), 409, "conflict")
    again = await town.done(PUBLISH, right, Idempotency_Key="k")
    assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])


@in_town
@pytest.mark.parametrize("key", ["k" * 65, "k" * 10_000])
async def test_a_key_that_is_too_long_is_refused(town: Instance, channel: str, key: str) -> None:
    arguments = {"channel": channel, "message": {}}
    problem(await town.call(PUBLISH, arguments | {"key": key}), 422, "invalid_argument")
    problem(await town.call(PUBLISH, arguments, Idempotency_Key=key), 422, "invalid_argument")
    assert await logged(town, channel) == 0


@in_town
@pytest.mark.parametrize("key", ["k" * 64, "ü" * 64, "a/b", "a b", "{x}", '"', "\x00", "*", "0", "\u2028"])
async def test_any_string_of_64_characters_is_a_key(town: Instance, channel: str, key: str) -> None:
    arguments = {"channel": channel, "message": {"n": 1}, "key": key}
    first = await town.done(PUBLISH, arguments)
    again = await town.done(PUBLISH, arguments)
    assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])


@in_town
@pytest.mark.parametrize("operation", ["send_to_user", "send_to_connection", "send_to_agent", "publish_batch"])
async def test_whatever_publishes_is_safe_to_repeat(town: Instance, channel: str, operation: str) -> None:
    user = unique("alice")
    async with town.connected(await town.session(user)) as alice:
        cases: dict[str, tuple[Frame, str]] = {
            "send_to_user": ({"user_id": user}, "message"),
            "send_to_connection": ({"connection_id": alice.id}, "message"),
            "send_to_agent": ({"channel": channel, "reply_to": "guide"}, "message"),
            "publish_batch": ({}, "items"),
        }
        fixed, place = cases[operation]

        def arguments(n: int) -> Frame:
            items = [{"channel": channel, "message": {"n": n, "i": i}} for i in (0, 1)]
            return {**fixed, place: {"n": n} if place == "message" else items}

        name = f"post_office.{operation}"
        first = await town.done(name, arguments(1), Idempotency_Key="k")
        again = await town.done(name, arguments(1), Idempotency_Key="k")
        other = await town.call(name, arguments(2), Idempotency_Key="k")
        if operation != "publish_batch":
            assert again["duplicate"] is True
            assert again["message_id"] == first["message_id"]
            problem(other, 409, "conflict")
            return
        assert [result["duplicate"] for result in again["results"]] == [True, True]
        assert [result["message_id"] for result in again["results"]] == [
            result["message_id"] for result in first["results"]
        ]
        if other.status_code == 200:
            assert {result["error"]["code"] for result in other.json()["results"]} == {"conflict"}
        else:
            problem(other, 409, "conflict")
        assert await logged(town, channel) == 2


@in_town
async def test_a_frames_key_is_good_on_every_connection_of_the_user(town: Instance, channel: str) -> None:
    token = await town.session(unique("alice"), channels={channel: ["send", "publish", "subscribe"]})
    async with town.connected(token) as one, town.connected(token) as two:
        await two.subscribe(channel)
        first = await one.ask(type="publish", channel=channel, payload={"n": 1}, key="k")
        has_only(first, {"type", "id", "channel", "status", "message_id", "offset", "epoch"}, {"duplicate"})
        again = await two.ask(type="publish", channel=channel, payload={"n": 1}, key="k")
        assert again["duplicate"] is True
        assert (again["message_id"], position(again)) == (first["message_id"], position(first))
        conflict = await two.ask(type="publish", channel=channel, payload={"n": 2}, key="k")
        assert (conflict["type"], conflict["code"], conflict["retryable"]) == ("error", "conflict", False)
        await two.messages(1, channel)
        await two.nothing_but_pong()


@in_town
async def test_a_question_asked_twice_is_queued_once(town: Instance, channel: str) -> None:
    token = await town.session(unique("alice"))
    question = {"channel": channel, "payload": {"message": "hello", "conversation_id": "c"}, "key": "k"}
    async with town.connected(token) as alice:
        first = await alice.ask(**question)
        again = await alice.ask(**question)
        assert (again["status"], again["duplicate"], again["message_id"]) == ("queued", True, first["message_id"])
        conflict = await alice.ask(**(question | {"payload": {"message": "other"}}))
        assert conflict["code"] == "conflict"
        intent = await alice.ask(**(question | {"intent": "command"}))
        assert intent["code"] == "conflict", "a command is not the chat that it was"
    assert await depth(town, channel) == 1


@in_town
async def test_a_question_that_was_answered_is_not_asked_again(town: Instance, channel: str) -> None:
    agent_token = await town.service(unique("agents"), "post_office.consume")
    question = {"channel": channel, "payload": {"message": "hello"}, "key": "k"}
    async with town.connected(await town.session(unique("alice"))) as alice, town.connected(agent_token) as agent:
        await agent.ask(type="consume", channel=channel)
        first = await alice.ask(**question)
        delivery = await agent.of("delivery")
        await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "yes"})
        await alice.of("chat_response")
        again = await alice.ask(**question)
        assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])
        await agent.nothing_but_pong()
        await alice.nothing_but_pong()


@in_town
async def test_the_keys_of_the_log_and_of_the_inbox_are_told_apart_or_conflict(town: Instance, channel: str) -> None:
    """A question and a publication under one key: never does one silently stand for the other."""
    token = await town.session(unique("alice"), channels={channel: ["send", "publish"]})
    async with town.connected(token) as alice:
        queued = await alice.ask(channel=channel, payload={"n": 1}, key="k")
        published = await alice.ask(type="publish", channel=channel, payload={"n": 1}, key="k")
    assert queued["status"] == "queued"
    assert published.get("status") == "published" or published.get("code") == "conflict"
    assert not published.get("duplicate")


async def test_of_many_at_once_one_is_the_first_on_whatever_instance(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    arguments = {"channel": "guide", "message": {"n": 1}}
    answers = await asyncio.gather(
        *(city.done(PUBLISH, arguments, Idempotency_Key="k") for city in (here, there) for _ in range(15))
    )
    assert len({(answer["message_id"], answer["offset"]) for answer in answers}) == 1
    assert sum(not answer.get("duplicate", False) for answer in answers) == 1
    assert await logged(here, "guide") == 1
    token = await here.session(unique("alice"))
    async with here.connected(token) as one, there.connected(token) as two:
        acks = await asyncio.gather(
            *(client.ask(channel="guide", payload={"n": 1}, key="q") for client in (one, two)),
        )
        assert len({ack["message_id"] for ack in acks}) == 1
    assert await depth(there, "guide") == 1


async def test_a_key_is_forgotten_after_its_time(platform: Platform) -> None:
    city = await platform.start(idempotency_seconds=1)
    arguments = {"channel": "guide", "message": {"n": 1}}
    first = await city.done(PUBLISH, arguments, Idempotency_Key="k")

    again = await city.done(PUBLISH, arguments, Idempotency_Key="k")
    assert again["duplicate"] is True

    async def fresh() -> bool:
        return not (await city.done(PUBLISH, arguments, Idempotency_Key="k")).get("duplicate", False)

    await eventually(fresh, bool, "the key is free again")
    assert first["offset"] == 1
    assert await logged(city, "guide") == 2


async def test_an_overload_is_no_answer_to_remember(platform: Platform) -> None:
    """Refused while the user's tenth was full, the same message under the same key is taken later."""
    city = await platform.start(inbox_count=10)
    agent_token = await city.service(unique("agents"), "post_office.consume")
    async with city.connected(await city.session(unique("alice"))) as alice:
        assert (await alice.ask(channel="guide", payload={"n": 1}))["status"] == "queued"
        refused = await alice.ask(channel="guide", payload={"n": 2}, key="k")
        assert (refused["code"], refused["retryable"]) == ("overloaded", True)
        async with city.connected(agent_token) as agent:
            await agent.ask(type="consume", channel="guide")
            delivery = await agent.of("delivery")
            await agent.ask(type="done", delivery_ids=[delivery["delivery_id"]])
            taken = await alice.ask(channel="guide", payload={"n": 2}, key="k")
            assert taken["status"] == "queued"
            assert not taken.get("duplicate")
            assert (await agent.of("delivery"))["message"]["payload"] == {"n": 2}
