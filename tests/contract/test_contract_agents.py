"""Section 4, agents on the same socket: who is given which message, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.agents import agent_on, asked, asker_of, reply
from tests.contract.shapes import TIMESTAMP, TRACEPARENT, has_only
from tests.support.platform import Instance, unique
from tests.support.waiting import PATIENCE
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


class TestDeliveries:
    async def test_a_delivery_has_what_an_agent_needs(self, town: Instance, channel: str) -> None:
        user = unique("alice")
        async with asker_of(town, user, context={"tenant": "blue"}) as alice, agent_on(town, channel) as agent:
            payload = {"message": "hello", "conversation_id": "c-1", "metadata": {"n": 1}}
            ack = await alice.ask(channel=channel, payload=payload, intent="query")
            delivery = await agent.of("delivery")
        has_only(delivery, {"type", "channel", "delivery_id", "attempt", "message"})
        assert (delivery["channel"], delivery["attempt"]) == (channel, 1)
        message = delivery["message"]
        has_only(
            message,
            {"channel", "sender", "intent", "payload", "message_id", "conversation_id", "context", "timestamp",
             "traceparent"},
        )  # fmt: skip
        assert message["channel"] == channel
        assert (message["sender"]["kind"], message["sender"]["id"]) == ("user", user)
        assert message["intent"] == "query"
        assert message["payload"] == payload
        assert message["message_id"] == ack["message_id"]
        assert message["conversation_id"] == "c-1"
        assert message["context"] == {"tenant": "blue"}
        assert TIMESTAMP.fullmatch(message["timestamp"])
        assert TRACEPARENT.fullmatch(message["traceparent"])

    async def test_what_was_not_given_is_not_there(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            message = (await agent.of("delivery"))["message"]
        assert "conversation_id" not in message
        assert message["intent"] == "chat"
        assert message["context"] == {}

    async def test_what_waited_before_the_agent_came_is_delivered(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice:
            wanted = [await asked(alice, channel, f"c{n}") for n in range(5)]
            async with agent_on(town, channel) as agent:
                got = [(await agent.of("delivery"))["message"]["message_id"] for _ in range(5)]
        assert sorted(got) == sorted(wanted)

    async def test_each_message_goes_to_one_agent_only(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as one, agent_on(town, channel) as two:
            wanted = [await asked(alice, channel, f"c{n}") for n in range(30)]
            got: list[str] = []

            async def collect(agent: WireClient) -> None:
                while len(got) < 30:
                    delivery = await agent.of("delivery")
                    got.append(delivery["message"]["message_id"])
                    await agent.send(type="done", delivery_ids=[delivery["delivery_id"]])

            collecting = [asyncio.create_task(collect(agent)) for agent in (one, two)]
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait(collecting, return_when=asyncio.FIRST_COMPLETED)
            for task in collecting:
                task.cancel()
            await asyncio.gather(*collecting, return_exceptions=True)
        assert sorted(got) == sorted(wanted)

    async def test_no_more_than_max_are_unacknowledged(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel, max=2) as agent:
            for n in range(5):
                await asked(alice, channel, f"c{n}")
            held = [await agent.of("delivery") for _ in range(2)]
            await agent.nothing_but_pong()
            for settled in (
                {"type": "done", "delivery_ids": [held[0]["delivery_id"]]},
                {"type": "reply", "delivery_id": held[1]["delivery_id"], "payload": {}},
            ):
                assert (await agent.ask(**settled))["type"] == "ack"
                await agent.of("delivery")
                await agent.nothing_but_pong()

    async def test_a_stream_counts_until_its_end(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel, max=1) as agent:
            await asked(alice, channel, "a")
            await asked(alice, channel, "b")
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={})
            await reply(agent, delivery, stream="delta", payload={"message": "x"})
            await agent.nothing_but_pong()
            await reply(agent, delivery, stream="end", payload={})
            await agent.of("delivery")

    async def test_zero_pauses_and_another_number_goes_on(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel, max=0) as agent:
            await asked(alice, channel, "a")
            await agent.nothing_but_pong()
            await agent.ask(type="consume", channel=channel, max=1)
            await agent.of("delivery")
            await agent.ask(type="consume", channel=channel, max=0)
            await asked(alice, channel, "b")
            await agent.nothing_but_pong()
            await agent.ask(type="consume", channel=channel, max=5)
            await agent.of("delivery")

    @pytest.mark.parametrize(
        "frame",
        [
            {"channel": "guide", "max": -1}, {"channel": "guide", "max": "1"}, {"channel": "guide", "max": 1.5},
            {"channel": "guide", "max": True}, {"channel": "guide", "max": 10**9}, {"max": 1}, {"channel": 7},
            {"channel": "guide", "other": 1},
        ],
        ids=str,
    )  # fmt: skip
    async def test_a_consume_that_breaks_the_protocol_is_refused(self, town: Instance, frame: Frame) -> None:
        async with agent_on(town) as agent:
            answer = await agent.ask(type="consume", **frame)
            if frame.get("max") == 10**9 and answer["type"] == "ack":
                return  # a bound of its own is left open
            assert answer["code"] == "invalid_message"
            await agent.nothing_but_pong()

    @pytest.mark.parametrize("channel_", ["nowhere", "pillar:nobody", "user:alice", "connection:c1"])
    async def test_only_an_agent_channel_has_an_inbox(self, town: Instance, channel_: str) -> None:
        async with agent_on(town) as agent:
            answer = await agent.ask(type="consume", channel=channel_, max=1)
            assert answer["type"] == "error"
            assert answer["code"] in {"unknown_channel", "forbidden", "invalid_message"}

    @pytest.mark.parametrize(
        "frame",
        [
            {"type": "done"}, {"type": "done", "delivery_ids": "x"}, {"type": "done", "delivery_ids": [7]},
            {"type": "failed"}, {"type": "failed", "delivery_id": 7, "reason": "x", "retry": True},
            {"type": "failed", "delivery_id": "x", "reason": 7, "retry": True},
            {"type": "failed", "delivery_id": "x", "reason": "x", "retry": "yes"},
            {"type": "working"}, {"type": "working", "delivery_id": 7},
            {"type": "reply", "payload": {}}, {"type": "reply", "delivery_id": "x"},
            {"type": "reply", "delivery_id": "x", "payload": "text"},
            {"type": "reply", "delivery_id": "x", "payload": {}, "stream": "middle"},
            {"type": "reply", "delivery_id": "x", "payload": {}, "stream": "error"},
            {"type": "reply", "delivery_id": "x", "payload": {}, "channel": "guide"},
            {"type": "forward", "delivery_id": "x"}, {"type": "forward", "delivery_id": "x", "channel": 7},
            {"type": "forward", "channel": "guide"},
        ],
        ids=str,
    )  # fmt: skip
    async def test_what_breaks_the_protocol_is_refused(self, town: Instance, frame: Frame) -> None:
        async with agent_on(town) as agent:
            assert (await agent.ask(**frame))["code"] == "invalid_message"
            await agent.nothing_but_pong()

    @pytest.mark.parametrize(
        "delivery_id",
        ["", "x", "guide/x/1", "guide/01938f3a-7c11-7000-8000-000000000000/1", "a/b/c/d", "\x00", "x" * 5000,
         "guide//1", "{guide}/x/-1", "guide/01938f3a-7c11-7000-8000-000000000000/99999999999999999999"],
        ids=lambda value: repr(value)[:50],
    )  # fmt: skip
    async def test_a_delivery_id_of_nothing_is_stale(self, town: Instance, delivery_id: str) -> None:
        frames: list[Frame] = [
            {"type": "reply", "payload": {}}, {"type": "failed", "reason": "x", "retry": True}, {"type": "working"},
            {"type": "forward", "channel": "guide"}, {"type": "reply", "payload": {"message": "x"}, "stream": "delta"},
        ]  # fmt: skip
        async with agent_on(town) as agent:
            for frame in frames:
                answer = await agent.ask(delivery_id=delivery_id, **frame)
                assert answer["type"] == "error"
                assert answer["code"] in {"stale_delivery", "invalid_message"}, answer
                if answer["code"] == "stale_delivery":
                    assert answer.get("delivery_id", "") == delivery_id
            answer = await agent.ask(type="done", delivery_ids=[delivery_id])
            assert answer["type"] == "ack" or answer["code"] in {"stale_delivery", "invalid_message"}
            await agent.nothing_but_pong()
