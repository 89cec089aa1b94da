"""Section 4: lanes, fairness, bounds of an inbox, and what becomes of messages whose agent fails, hangs or dies."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.agents import agent_on, asked, asker_of, is_error, reply
from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM
from tests.support.wire_client import WireClient

Frame = dict[str, Any]


async def depth(city: Instance, channel: str = "guide") -> int:
    status = await city.done("post_office.get_queue_status", {"channel": channel})
    return int(status["channels"][channel]["depth"])


def text_of(delivery: Frame) -> str:
    return str(delivery["message"]["payload"]["message"])


async def done(agent: WireClient, *deliveries: Frame) -> None:
    answer = await agent.ask(type="done", delivery_ids=[delivery["delivery_id"] for delivery in deliveries])
    assert answer["type"] == "ack"


async def failed(agent: WireClient, delivery: Frame, *, retry: bool = True) -> None:
    answer = await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="busy", retry=retry)
    assert answer["type"] == "ack"


@pytest.mark.asyncio(loop_scope="module")
class TestLanes:
    async def test_a_conversation_is_answered_in_order_one_at_a_time(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel, max=64) as agent, agent_on(town, channel) as other:
            for n in range(10):
                await asked(alice, channel, "c", message=str(n))
            for n in range(10):
                taker, delivery = await first_of(agent, other)
                assert text_of(delivery) == str(n)
                await agent.nothing_but_pong()
                await other.nothing_but_pong()
                await done(taker, delivery)

    async def test_conversations_and_users_do_not_wait_for_one_another(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, asker_of(town) as bob, agent_on(town, channel) as agent:
            await asked(alice, channel, "c")
            await asked(alice, channel, "d")
            await asked(alice, channel)
            await asked(bob, channel, "c")
            await asked(bob, channel)
            assert len([await agent.of("delivery") for _ in range(5)]) == 5

    async def test_lanes_are_served_in_turn(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, asker_of(town) as bob:
            for n in range(20):
                await asked(alice, channel, "long", message=f"alice {n}")
            await asked(bob, channel, "short", message="bob 0")
            await asked(bob, channel, "short", message="bob 1")
            async with agent_on(town, channel, max=1) as agent:
                order = []
                for _ in range(6):
                    delivery = await agent.of("delivery")
                    order.append(text_of(delivery))
                    await done(agent, delivery)
        assert order.index("bob 0") <= 1
        assert order.index("bob 1") <= 3
        assert [text for text in order if text.startswith("alice")] == [f"alice {n}" for n in range(4)]

    async def test_what_is_given_back_is_not_overtaken_in_its_lane(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            for n in range(3):
                await asked(alice, channel, "c", message=str(n))
            first = await agent.of("delivery")
            await failed(agent, first)
            again = await agent.of("delivery")
            assert (text_of(again), again["attempt"]) == ("0", 2)
            await done(agent, again)
            for n in (1, 2):
                delivery = await agent.of("delivery")
                assert (text_of(delivery), delivery["attempt"]) == (str(n), 1)
                await done(agent, delivery)

    async def test_a_dead_letter_sets_its_lane_free(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel, "c", message="bad")
            await asked(alice, channel, "c", message="good")
            await failed(agent, await agent.of("delivery"), retry=False)
            assert text_of(await agent.of("delivery")) == "good"

    async def test_a_service_has_lanes_of_its_realm(self, town: Instance, channel: str) -> None:
        async with agent_on(town, channel) as agent:
            for n in range(3):
                arguments = {
                    "channel": channel, "message": {"message": str(n)}, "reply_to": "pillar:content",
                    "conversation_id": "daily",
                }  # fmt: skip
                await town.done("post_office.send_to_agent", arguments)
            for n in range(3):
                delivery = await agent.of("delivery")
                assert text_of(delivery) == str(n)
                await agent.nothing_but_pong()
                await done(agent, delivery)


async def first_of(*agents: WireClient) -> tuple[WireClient, Frame]:
    """The one who is given the next delivery."""
    tasks = {asyncio.create_task(agent.of("delivery")): agent for agent in agents}
    finished, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=PATIENCE)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    (task,) = finished
    return tasks[task], task.result()


class TestRedelivery:
    async def test_a_closed_socket_gives_back_within_two_seconds(self, city: Instance) -> None:
        async with asker_of(city) as alice, agent_on(city, "guide") as stays:
            await stays.ask(type="consume", channel="guide", max=0)
            for abrupt in (False, True):
                question = await asked(alice, "guide")
                async with agent_on(city, "guide") as leaves:
                    first = await leaves.of("delivery")
                    if abrupt:
                        leaves.socket.transport.abort()
                began = time.monotonic()
                await stays.ask(type="consume", channel="guide", max=1)
                second = await stays.of("delivery")
                assert time.monotonic() - began < 2 + ROOM
                assert second["message"]["message_id"] == question
                assert (first["attempt"], second["attempt"]) == (1, 2)
                stale = await stays.ask(type="reply", delivery_id=first["delivery_id"], payload={})
                assert stale["code"] == "stale_delivery"
                await stays.ask(type="consume", channel="guide", max=0)
                await reply(stays, second, payload={"message": "saved"})
                assert (await alice.of("chat_response"))["payload"] == {"message": "saved"}

    async def test_an_agent_that_hangs_loses_its_lease_and_not_earlier(self, platform: Platform) -> None:
        city = await platform.start(inbox_lease_seconds=1)
        async with asker_of(city) as alice, agent_on(city, "guide", max=1) as hangs:
            question = await asked(alice, "guide")
            first, began = await hangs.of("delivery"), time.monotonic()
            await hangs.ask(type="consume", channel="guide", max=0)
            async with agent_on(city, "guide", max=1) as other:
                second = await other.of("delivery")
                assert 0.5 < time.monotonic() - began < 1 + ROOM
                assert (second["message"]["message_id"], second["attempt"]) == (question, 2)
                for frame in ({"type": "reply", "payload": {"message": "too late"}}, {"type": "working"}):
                    stale = await hangs.ask(delivery_id=first["delivery_id"], **frame)
                    assert stale["code"] == "stale_delivery"
                    assert stale["delivery_id"] == first["delivery_id"]
                await reply(other, second, payload={"message": "in time"})
                assert (await alice.of("chat_response"))["payload"] == {"message": "in time"}
                await alice.nothing_but_pong()

    @pytest.mark.parametrize("sign", ["working", "delta"])
    async def test_who_shows_that_it_works_keeps_its_delivery(self, platform: Platform, sign: str) -> None:
        """Whether a delta alone is such a sign is left open, so it goes with ``working`` there."""
        city = await platform.start(inbox_lease_seconds=1.5)
        async with asker_of(city) as alice, agent_on(city, "guide", max=1) as works, agent_on(city, "guide") as other:
            await asked(alice, "guide")
            taker, delivery = await first_of(works, other)
            idle = other if taker is works else works
            if sign == "delta":
                await reply(taker, delivery, stream="start", payload={})
            began = time.monotonic()
            while time.monotonic() < began + 2.5:
                answer = await taker.ask(type="working", delivery_id=delivery["delivery_id"])
                assert answer["type"] == "ack", answer
                if sign == "delta":
                    await reply(taker, delivery, stream="delta", payload={"message": "."})
                await idle.nothing_but_pong()
            await reply(
                taker, delivery, payload={"message": "long work"}, **({"stream": "end"} if sign == "delta" else {})
            )
            await alice.until(lambda frame: frame.get("payload") == {"message": "long work"})

    async def test_later_tries_wait_and_after_the_last_the_asker_is_told(self, platform: Platform) -> None:
        city = await platform.start(inbox_tries=3)
        async with asker_of(city) as alice, agent_on(city, "guide") as agent:
            question = await asked(alice, "guide", "c-1")
            await failed(agent, await agent.of("delivery"))
            second = await agent.of("delivery")
            await failed(agent, second)
            began = time.monotonic()
            third = await agent.of("delivery")
            assert 1 < time.monotonic() - began < 2 + ROOM
            assert (second["attempt"], third["attempt"]) == (2, 3)
            await alice.nothing_but_pong()
            await failed(agent, third)
            error = await alice.of("chat_response")
            is_error(error, question, retrying=False)
            assert error["conversation_id"] == "c-1"
            await agent.nothing_but_pong()
            await alice.nothing_but_pong()
        assert await depth(city) == 0

    async def test_an_answer_that_broke_off_at_the_last_try_ends_once_and_for_good(self, platform: Platform) -> None:
        city = await platform.start(inbox_tries=1)
        async with asker_of(city) as alice:
            question = await asked(alice, "guide")
            async with agent_on(city, "guide") as agent:
                await reply(agent, await agent.of("delivery"), stream="start", payload={})
                start = await alice.of("chat_response")
            error = await alice.of("chat_response")
            is_error(error, question, retrying=False)
            assert error["message_id"] == start["message_id"]
            await alice.nothing_but_pong()

    async def test_what_nobody_takes_within_the_age_is_a_dead_letter_and_told(self, platform: Platform) -> None:
        city = await platform.start(inbox_age_seconds=1)
        token = await city.session(unique("alice"))
        async with city.connected(token) as alice, city.connected(token) as again:
            async with city.connected(token) as gone:
                elsewhere = await asked(gone, "pillar:content")
            question = await asked(alice, "guide")
            is_error(await alice.of("chat_response", 10), question, retrying=False)
            told = await again.of("chat_response", 10)
            is_error(told, elsewhere, retrying=False)
            assert told["log"].startswith("user:"), "its connection is gone"
        assert await depth(city) == 0

    async def test_a_service_that_asked_is_told_as_well(self, city: Instance) -> None:
        async with asker_of(city) as reader, agent_on(city, "guide") as agent:
            await reader.subscribe("pillar:content")
            arguments = {"channel": "guide", "message": {"message": "?"}, "reply_to": "pillar:content"}
            sent = await city.done("post_office.send_to_agent", arguments)
            await failed(agent, await agent.of("delivery"), retry=False)
            told = await reader.until(lambda frame: frame.get("in_reply_to") == sent["message_id"])
            assert told["channel"] == "pillar:content"

    async def test_a_drain_is_no_try(self, platform: Platform) -> None:
        here = await platform.start(inbox_tries=1)
        leaving = platform.instance(inbox_tries=1)
        there = await leaving.__aenter__()
        async with asker_of(here) as alice, agent_on(there, "guide") as agent:
            question = await asked(alice, "guide")
            await agent.of("delivery")
            drained = asyncio.create_task(leaving.__aexit__(None, None, None))
            assert await agent.close_code(10) == 1012
            async with agent_on(here, "guide") as other:
                delivery = await other.of("delivery", 10)
                assert delivery["message"]["message_id"] == question
                await reply(other, delivery, payload={"message": "saved"})
            assert (await alice.of("chat_response"))["payload"] == {"message": "saved"}
            await drained

    async def test_asker_and_agent_may_be_on_different_instances(self, platform: Platform) -> None:
        here, there = await platform.start(), await platform.start()
        async with asker_of(here) as alice, agent_on(there, "guide") as agent:
            for n in range(5):
                question = await asked(alice, "guide", message=str(n))
                delivery = await agent.of("delivery")
                await reply(agent, delivery, stream="start", payload={})
                await reply(agent, delivery, stream="delta", payload={"message": str(n)})
                await reply(agent, delivery, stream="end", payload={})
                end = await alice.until(lambda frame: frame.get("stream") == "end")
                assert (end["in_reply_to"], end["payload"]["message"]) == (question, str(n))


class TestBounds:
    async def test_no_user_fills_more_than_a_tenth_and_nobody_more_than_all(self, platform: Platform) -> None:
        here, there = await platform.start(inbox_count=30), await platform.start(inbox_count=30)
        async with AsyncExitStack() as stack:
            user = unique("alice")
            token = await here.session(user)
            one = await stack.enter_async_context(here.connected(token))
            two = await stack.enter_async_context(there.connected(token))
            for n in range(3):
                await asked(one if n % 2 else two, "guide", f"c{n}")
            for client in (one, two):
                refused = await client.ask(channel="guide", payload={})
                assert (refused["code"], refused["retryable"]) == ("overloaded", True)
                assert (await client.ask(channel="pillar:content", payload={}))["status"] == "queued"
            for number in range(9):
                other = await stack.enter_async_context(asker_of(here, unique(f"user{number}")))
                for n in range(3):
                    await asked(other, "guide", f"c{n}")
            assert await depth(there) == 30
            late = await stack.enter_async_context(asker_of(there))
            assert (await late.ask(channel="guide", payload={}))["code"] == "overloaded"
            service = await here.call(
                "post_office.send_to_agent", {"channel": "guide", "message": {}, "reply_to": "guide"}
            )
            assert (service.status_code, service.json()["code"]) == (503, "overloaded")
            assert 0 < service.json()["retry_after"] <= 10
            agent = await stack.enter_async_context(agent_on(here, "guide"))
            for _ in range(6):
                assert (await late.ask(channel="guide", payload={}))["code"] == "overloaded", "until a fifth is free"
                await done(agent, await agent.of("delivery"))
            assert (await late.ask(channel="guide", payload={}))["status"] == "queued"

    async def test_an_inbox_is_bounded_in_bytes(self, platform: Platform) -> None:
        city = await platform.start(inbox_bytes=1 << 20)
        async with asker_of(city) as alice, asker_of(city) as bob:
            answers = [await alice.ask(channel="guide", payload={"m": "x" * (1 << 16)}) for _ in range(20)]
            taken = [answer for answer in answers if answer["type"] == "ack"]
            assert 1 <= len(taken) <= 16
            assert {answer["code"] for answer in answers if answer["type"] == "error"} <= {"overloaded", "too_large"}
            assert (await bob.ask(channel="guide", payload={}))["status"] == "queued"

    async def test_settled_messages_leave_nothing_in_the_inbox(self, city: Instance) -> None:
        async with asker_of(city) as alice, agent_on(city, "guide") as agent:
            for n in range(60):
                await asked(alice, "guide", f"c{n}")

            got: list[Frame] = []
            while len(got) < 60:
                delivery = await agent.of("delivery")
                got.append(delivery)
                if len(got) % 3 == 0:
                    await done(agent, delivery)
                elif len(got) % 3 == 1:
                    await reply(agent, delivery, payload={})
                else:
                    await failed(agent, delivery, retry=False)
            answered = [await alice.of("chat_response") for _ in range(40)]
        assert len({answer["in_reply_to"] for answer in answered}) == 40
        assert len({delivery["message"]["message_id"] for delivery in got}) == 60
        status = (await city.done("post_office.get_queue_status", {"channel": "guide"}))["channels"]["guide"]
        assert status["depth"] == 0
        assert not status.get("oldest_age_seconds")

        async def consumers() -> int:
            status = await city.done("post_office.get_queue_status", {"channel": "guide"})
            return int(status["channels"]["guide"]["consumers"])

        await eventually(consumers, lambda count: count == 0, "the agent is gone")


async def test_a_question_outlives_a_restart_of_everything_that_holds_no_state(platform: Platform) -> None:
    """All instances stop; the question and its asker's log are there for those who come."""
    async with platform.instance() as first, asker_of(first, unique("alice")) as alice:
        user = str(alice.welcome["user_id"])
        question = await asked(alice, "guide")
    second = await platform.start()
    async with second.connected(await second.session(user)) as alice, agent_on(second, "guide") as agent:
        delivery = await agent.of("delivery", 10)
        assert delivery["message"]["message_id"] == question
        await reply(agent, delivery, payload={"message": "after all"})
        answer = await alice.of("chat_response")
        assert (answer["log"], answer["payload"]) == (f"user:{user}", {"message": "after all"})
