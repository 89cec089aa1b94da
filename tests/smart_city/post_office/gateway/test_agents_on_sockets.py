"""Agents on a socket: they consume, answer at once and in parts, hand on, and nothing they drop is lost."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.platform import Instance, Platform, unique
from tests.support.wire_client import Frame, WireClient

SCOPES = ("post_office.consume", "post_office.history", "post_office.publish")


async def ask(client: WireClient, text: str, channel: str = "guide", **payload: Any) -> str:
    """Asks a question; its message id."""
    ack = await client.ask(channel=channel, payload={"message": text, **payload})
    assert ack["status"] == "queued", ack
    return str(ack["message_id"])


async def consume(agent: WireClient, channel: str = "guide", most: int = 64) -> None:
    assert (await agent.ask(type="consume", channel=channel, max=most))["type"] == "ack"


async def answer_of(client: WireClient) -> Frame:
    return await client.of("chat_response", 10)


async def test_a_question_reaches_one_agent_with_all_that_it_needs(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name, context={"language": "de"})
    async with city.connected(token) as alice, city.connected(await city.service("guide", *SCOPES)) as agent:
        await consume(agent)
        message_id = await ask(alice, "hello", conversation_id="c1")
        delivery = await agent.of("delivery")
        assert delivery["channel"] == "guide"
        assert delivery["attempt"] == 1
        message = delivery["message"]
        assert message["message_id"] == message_id
        assert message["sender"] == {"kind": "user", "id": name}
        assert message["intent"] == "chat"
        assert message["payload"] == {"message": "hello", "conversation_id": "c1"}
        assert message["conversation_id"] == "c1"
        assert message["context"] == {"language": "de"}
        assert message["traceparent"].startswith("00-")


async def test_questions_in_turn_about_other_things_say_each_what_they_are_about(city: Instance) -> None:
    asked = [("c1", "chat"), ("c2", "chat"), ("c2", "query"), ("", "query"), ("c1", "chat")]
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent)
        for conversation, intent in asked:
            about = {"conversation_id": conversation} if conversation else {}
            await alice.ask(channel="guide", payload={"message": "hello", **about}, intent=intent)
            delivery = await agent.of("delivery")
            message = delivery["message"]
            assert (message.get("conversation_id", ""), message["intent"]) == (conversation, intent)
            await agent.send(type="reply", delivery_id=delivery["delivery_id"], payload={"response": "hi"})
            assert (await answer_of(alice)).get("conversation_id", "") == conversation


async def test_only_the_asking_connection_sees_the_answer(city: Instance) -> None:
    token = await city.session(unique("alice"))
    async with (
        city.connected(token) as asking,
        city.connected(token) as other,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await other.subscribe("guide")
        await consume(agent)
        message_id = await ask(asking, "hello", conversation_id="c1")
        delivery = await agent.of("delivery")
        ack = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "hi"})
        assert ack["type"] == "ack"
        answer = await answer_of(asking)
        assert answer["channel"] == "guide"
        assert answer["agent"] == "guide"
        assert answer["in_reply_to"] == message_id
        assert answer["conversation_id"] == "c1"
        assert answer["payload"] == {"message": "hi"}
        assert answer["log"] == f"connection:{asking.id}"
        assert answer["offset"] == 1
        await other.nothing_but_pong()
    status = (await city.done("post_office.get_queue_status", {"channel": "guide"}))["channels"]["guide"]
    assert status["depth"] == 0


async def test_an_answer_in_parts_is_assembled_from_start_deltas_and_end(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent)
        message_id = await ask(alice, "tell me")
        delivery_id = (await agent.of("delivery"))["delivery_id"]
        await agent.send(type="reply", delivery_id=delivery_id, stream="start", payload={})
        for word in ("one ", "two ", "three"):
            await agent.send(type="reply", delivery_id=delivery_id, stream="delta", payload={"message": word})
        await agent.ask(type="reply", delivery_id=delivery_id, stream="end")
        frames = [await answer_of(alice)]
        while frames[-1]["stream"] != "end":
            frames.append(await answer_of(alice))
        assert frames[0]["stream"] == "start"
        assert frames[0]["part"] == 0
        assert {frame["message_id"] for frame in frames} == {frames[0]["message_id"]}
        assert {frame["in_reply_to"] for frame in frames} == {message_id}
        deltas = [frame for frame in frames if frame["stream"] == "delta"]
        assert all("offset" not in frame for frame in deltas)
        parts = [frame["part"] for frame in deltas]
        assert parts == list(range(1, len(parts) + 1))
        assert frames[-1]["payload"]["message"] == "one two three"
        assert frames[-1]["offset"] == frames[0]["offset"] + 1


async def test_an_agent_that_dies_in_mid_answer_leaves_an_error_and_the_next_one_starts_again(
    city: Instance,
) -> None:
    service = await city.service("guide", *SCOPES)
    async with city.connected(await city.session(unique("alice"))) as alice:
        message_id = await ask(alice, "tell me")
        async with city.connected(service) as first:
            await consume(first)
            delivery = await first.of("delivery")
            await first.send(type="reply", delivery_id=delivery["delivery_id"], stream="start", payload={})
            assert (await answer_of(alice))["stream"] == "start"
            first.socket.transport.abort()
        error = await alice.until(lambda frame: frame.get("stream") == "error", 10)
        assert error["retrying"] is True
        assert error["error"]["code"]
        async with city.connected(service) as second:
            await consume(second)
            again = await second.of("delivery")
            assert again["attempt"] == 2
            assert again["message"]["message_id"] == message_id
            stale = await second.ask(type="done", delivery_ids=[delivery["delivery_id"]])
            assert stale["code"] == "stale_delivery"
            await second.ask(type="reply", delivery_id=again["delivery_id"], payload={"message": "done"})
        final = await alice.until(lambda frame: frame.get("payload", {}).get("message") == "done", 10)
        assert final["message_id"] != error["message_id"]
        assert final["in_reply_to"] == message_id


async def test_a_failed_delivery_comes_again_and_at_last_the_asker_is_told(platform: Platform) -> None:
    city = await platform.start(inbox_tries=2)
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent)
        message_id = await ask(alice, "hard one")
        for attempt in (1, 2):
            delivery = await agent.of("delivery")
            assert delivery["attempt"] == attempt
            await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="too hard", retry=True)
        answer = await answer_of(alice)
        assert answer["stream"] == "error"
        assert answer["in_reply_to"] == message_id
        assert answer.get("retrying") in {False, None}


async def test_a_question_without_a_retry_fails_at_once(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent)
        await ask(alice, "impossible")
        delivery = await agent.of("delivery")
        await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="no", retry=False)
        assert (await answer_of(alice))["stream"] == "error"


async def test_a_forwarded_question_keeps_its_asker(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as guide,
        city.connected(await city.service("content", *SCOPES)) as content,
    ):
        await consume(guide)
        await consume(content, "pillar:content")
        message_id = await ask(alice, "about content", conversation_id="c7")
        delivery = await guide.of("delivery")
        forward = await guide.ask(type="forward", delivery_id=delivery["delivery_id"], channel="pillar:content")
        assert forward["type"] == "ack"
        handed = await content.of("delivery", 10)
        assert handed["message"]["message_id"] == message_id
        assert handed["attempt"] == 1
        await content.ask(type="reply", delivery_id=handed["delivery_id"], payload={"message": "here"})
        answer = await answer_of(alice)
        assert (answer["agent"], answer["in_reply_to"], answer["conversation_id"]) == (
            "content",
            message_id,
            "c7",
        )


async def test_questions_of_one_conversation_come_in_order_one_at_a_time(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent)
        for number in range(3):
            await ask(alice, str(number), conversation_id="c1")
        for number in range(3):
            delivery = await agent.of("delivery")
            assert delivery["message"]["payload"]["message"] == str(number)
            await agent.nothing_but_pong()
            await agent.ask(type="done", delivery_ids=[delivery["delivery_id"]])


async def test_an_agent_holds_no_more_than_it_asked_for_and_zero_pauses(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent, most=2)
        for number in range(4):
            await ask(alice, str(number), conversation_id=f"c{number}")
        first, _second = await agent.of("delivery"), await agent.of("delivery")
        await agent.nothing_but_pong()
        await consume(agent, most=0)
        await agent.ask(type="done", delivery_ids=[first["delivery_id"]])
        await agent.nothing_but_pong()
        await consume(agent, most=2)
        assert (await agent.of("delivery"))["message"]["payload"]["message"] == "2"


async def test_an_agent_that_is_full_gets_the_next_delivery_as_soon_as_it_has_room(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent, most=2)
        for number in range(4):
            await ask(alice, str(number), conversation_id=f"c{number}")
        held = [await agent.of("delivery"), await agent.of("delivery")]
        await agent.nothing_but_pong()
        await agent.ask(type="done", delivery_ids=[held[0]["delivery_id"]])
        assert (await agent.of("delivery"))["message"]["payload"]["message"] == "2"
        await agent.ask(type="reply", delivery_id=held[1]["delivery_id"], payload={})
        assert (await agent.of("delivery"))["message"]["payload"]["message"] == "3"


async def test_an_answer_whose_connection_is_gone_reaches_the_user_elsewhere(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name)
    async with city.connected(token) as other, city.connected(await city.service("guide", *SCOPES)) as agent:
        async with city.connected(token) as asking:
            message_id = await ask(asking, "slow one")
        await consume(agent)
        delivery = await agent.of("delivery")
        await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "late"})
        answer = await answer_of(other)
        assert answer["log"] == f"user:{name}"
        assert answer["in_reply_to"] == message_id


async def test_who_joins_during_an_answer_gets_the_text_so_far(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name)
    async with city.connected(await city.service("guide", *SCOPES)) as agent:
        async with city.connected(token) as asking:
            await ask(asking, "slow one")
        await consume(agent)
        delivery_id = (await agent.of("delivery"))["delivery_id"]
        async with city.connected(token) as first:
            await agent.ask(type="reply", delivery_id=delivery_id, stream="start", payload={})
            await agent.send(type="reply", delivery_id=delivery_id, stream="delta", payload={"message": "one "})
            await first.until(lambda frame: frame.get("stream") == "delta")
            async with city.connected(token) as late:
                snapshot = await late.until(lambda frame: frame.get("stream") == "delta")
                assert snapshot["snapshot"] is True
                assert snapshot["payload"]["message"] == "one "
                await agent.send(type="reply", delivery_id=delivery_id, stream="delta", payload={"message": "two"})
                following = await late.until(lambda frame: frame.get("stream") == "delta")
                assert following["part"] == snapshot["part"] + 1
                assert following["payload"]["message"] == "two"
                await agent.ask(type="reply", delivery_id=delivery_id, stream="end")
                end = await late.until(lambda frame: frame.get("stream") == "end")
                assert end["payload"]["message"] == "one two"


async def test_a_hanging_agent_loses_its_lease_to_another(platform: Platform) -> None:
    city = await platform.start(inbox_lease_seconds=1)
    service = await city.service("guide", *SCOPES)
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(service) as hanging,
        city.connected(service) as working,
    ):
        await consume(hanging, most=1)
        await ask(alice, "hello")
        first = await hanging.of("delivery")
        await consume(hanging, most=0)
        await consume(working)
        second = await working.of("delivery", 10)
        assert second["attempt"] == 2
        late = await hanging.ask(type="reply", delivery_id=first["delivery_id"], payload={"message": "late"})
        assert (late["code"], late["delivery_id"]) == ("stale_delivery", first["delivery_id"])


async def test_working_keeps_a_delivery(platform: Platform) -> None:
    city = await platform.start(inbox_lease_seconds=2)
    service = await city.service("guide", *SCOPES)
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(service) as busy,
        city.connected(service) as other,
    ):
        await consume(busy, most=1)
        await ask(alice, "hello")
        delivery = await busy.of("delivery")
        await consume(busy, most=0)
        await consume(other)
        loop = asyncio.get_running_loop()
        until = loop.time() + 3.5
        while loop.time() < until:
            assert (await busy.ask(type="working", delivery_id=delivery["delivery_id"]))["type"] == "ack"
        await other.nothing_but_pong()
        done = await busy.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "at last"})
        assert done["type"] == "ack"
        assert (await answer_of(alice))["payload"]["message"] == "at last"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "reply", "delivery_id": "nonsense", "payload": {}}, "stale_delivery"),
        ({"type": "reply", "delivery_id": "guide/x/1", "payload": []}, "invalid_message"),
        ({"type": "reply", "delivery_id": "guide/x/1"}, "invalid_message"),
        ({"type": "working", "delivery_id": "guide/x/1"}, "stale_delivery"),
        ({"type": "failed", "delivery_id": "guide/x/1"}, "stale_delivery"),
        ({"type": "forward", "delivery_id": "guide/x/1", "channel": "pillar:content"}, "stale_delivery"),
        ({"type": "consume", "channel": "user:alice"}, "unknown_channel"),
        ({"type": "consume", "channel": "guide", "max": 1001}, "invalid_message"),
    ],
)
async def test_what_an_agent_cannot_say_is_answered_with_a_code(
    city: Instance, frame: dict[str, Any], code: str
) -> None:
    async with city.connected(await city.service("guide", *SCOPES)) as agent:
        answer = await agent.ask(**frame)
        assert (answer["type"], answer["code"]) == ("error", code)


async def test_an_agent_is_told_how_long_it_has_for_each_delivery(platform: Platform) -> None:
    city = await platform.start(inbox_lease_seconds=7)
    async with city.connected(await city.service("guide", *SCOPES)) as agent:
        assert (await agent.ask(type="consume", channel="guide", max=1))["lease_seconds"] == 7


async def test_a_service_asks_an_agent_and_the_answer_comes_to_a_channel(city: Instance) -> None:
    async with (
        city.connected(await city.service("content", *SCOPES)) as agent,
        city.connected(await city.session(unique("alice"))) as alice,
    ):
        await alice.subscribe("guide")
        await consume(agent, "pillar:content")
        asked = await city.done(
            "post_office.send_to_agent",
            {"channel": "pillar:content", "message": {"message": "summary?"}, "reply_to": "guide"},
        )
        delivery = await agent.of("delivery")
        assert delivery["message"]["sender"] == {"kind": "service", "id": "operator"}
        await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "short"})
        message = await alice.of("message")
        assert message["sender"] == {"kind": "agent", "id": "content"}
        assert message["in_reply_to"] == asked["message_id"]
        assert message["payload"] == {"message": "short"}


async def test_an_agent_whose_new_token_may_not_consume_gives_back_what_it_holds(city: Instance) -> None:
    lesser = await city.service("guide", "post_office.history")
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.service("guide", *SCOPES)) as agent,
    ):
        await consume(agent)
        await ask(alice, "hello")
        await agent.of("delivery")
        assert (await agent.ask(type="refresh", session_token=lesser))["type"] == "ack"
        assert (await agent.ask(type="consume", channel="guide"))["code"] == "forbidden"
        async with city.connected(await city.service("other", *SCOPES)) as other:
            await consume(other)
            assert (await other.of("delivery", 10))["attempt"] == 2
