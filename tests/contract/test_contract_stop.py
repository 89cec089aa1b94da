"""``stop``: the answer to a question is no longer wanted. The agent hears it, and whoever asked hears what became."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.agents import agent_on, asked, asker_of, is_error, reply
from tests.contract.resuming import lost
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

in_town = pytest.mark.asyncio(loop_scope="module")


async def stopped(client: WireClient, question: str) -> str:
    """The outcome of a stop."""
    ack = await client.ask(type="stop", message_id=question)
    assert ack["type"] == "ack", ack
    return str(ack["outcome"])


async def depth(city: Instance, channel: str) -> int:
    status = await city.done("post_office.get_queue_status", {"channel": channel})
    return int(status["channels"][channel]["depth"])


@in_town
async def test_a_question_that_nobody_has_taken_is_taken_out(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice:
        question = await asked(alice, channel)
        assert await stopped(alice, question) == "stopped"
        assert await depth(town, channel) == 0
        async with agent_on(town, channel) as agent:
            await agent.nothing_but_pong()


@in_town
async def test_the_agent_that_has_it_hears_the_stop(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        question = await asked(alice, channel)
        delivery = await agent.of("delivery")
        assert await stopped(alice, question) == "stopped"
        heard = await agent.of("stop")
        assert heard == {"type": "stop", "delivery_id": delivery["delivery_id"]}
        late = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "too late"})
        assert (late["type"], late["code"]) == ("error", "stale_delivery")
        assert not [f for f in await alice.left() if f.get("payload") == {"message": "too late"}]
        assert await depth(town, channel) == 0


@in_town
async def test_a_stopped_stream_ends_once_with_the_error_stopped(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        question = await asked(alice, channel)
        delivery = await agent.of("delivery")
        await reply(agent, delivery, stream="start", payload={})
        await reply(agent, delivery, stream="delta", payload={"message": "a long "})
        assert [(await alice.of("chat_response"))["stream"] for _ in range(2)] == ["start", "delta"]
        assert await stopped(alice, question) == "stopped"
        await agent.of("stop")
        error = await alice.until(lambda frame: frame.get("stream") == "error")
        is_error(error, question, retrying=False)
        assert error["error"]["code"] == "stopped"
        for word in ({"stream": "delta", "payload": {"message": "story"}}, {"stream": "end", "payload": {}}):
            late = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], **word)
            assert late["code"] == "stale_delivery"
        assert not [frame for frame in await alice.left() if frame["type"] == "chat_response"]


@in_town
async def test_what_is_answered_is_finished(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        question = await asked(alice, channel)
        await reply(agent, await agent.of("delivery"), payload={"message": "done"})
        await alice.of("chat_response")
        assert await stopped(alice, question) == "finished"
        await agent.nothing_but_pong()


@in_town
async def test_a_second_stop_has_nothing_to_stop(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice:
        question = await asked(alice, channel)
        assert await stopped(alice, question) == "stopped"
        assert await stopped(alice, question) in {"stopped", "finished", "unknown"}


@in_town
@pytest.mark.parametrize(
    "question", ["01a1f92b-37ba-7000-88ac-4a4876347e31", "no id at all", "x" * 100], ids=["an id", "none", "long"]
)
async def test_what_was_never_asked_is_unknown_or_invalid(town: Instance, question: str) -> None:
    async with asker_of(town) as alice:
        answer = await alice.ask(type="stop", message_id=question)
        assert answer.get("outcome") == "unknown" or answer.get("code") == "invalid_message", answer
        await alice.nothing_but_pong()


@in_town
@pytest.mark.parametrize(
    "frame", [{}, {"message_id": 1}, {"message_id": None}, {"message_id": "m", "channel": "guide"}]
)
async def test_a_stop_that_breaks_the_protocol_is_refused(town: Instance, frame: dict[str, Any]) -> None:
    async with asker_of(town) as alice:
        assert (await alice.ask(type="stop", **frame))["code"] == "invalid_message"
        await alice.nothing_but_pong()


@in_town
async def test_another_user_stops_nothing_and_learns_nothing(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, asker_of(town, unique("mallory")) as mallory, agent_on(town, channel) as agent:
        question = await asked(alice, channel)
        delivery = await agent.of("delivery")
        assert await stopped(mallory, question) == "unknown"
        await agent.nothing_but_pong()
        await reply(agent, delivery, payload={"message": "yes"})
        await alice.of("chat_response")
        assert await stopped(mallory, question) == "unknown"


@in_town
async def test_a_lost_connection_is_never_a_stop(town: Instance, channel: str) -> None:
    user = unique("alice")
    token = await town.session(user)
    async with town.connected(token) as bystander, agent_on(town, channel) as agent:
        async with town.connected(token) as alice:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            await alice.socket.close(1000)
        await lost(town, token)
        await agent.nothing_but_pong()
        await reply(agent, delivery, payload={"message": "all the same"})
        assert (await bystander.of("chat_response"))["payload"] == {"message": "all the same"}


@pytest.mark.parametrize("far", ["asker", "stopper", "agent"])
async def test_asker_stopper_and_agent_may_be_on_different_instances(platform: Platform, far: str) -> None:
    here, there = await platform.start(), await platform.start()
    place = {name: there if name == far else here for name in ("asker", "stopper", "agent")}
    token = await here.session(unique("alice"))
    async with (
        place["asker"].connected(token) as asker,
        place["stopper"].connected(token) as stopper,
        agent_on(place["agent"], "guide") as agent,
    ):
        question = await asked(asker, "guide")
        delivery = await agent.of("delivery")
        await reply(agent, delivery, stream="start", payload={})
        await asker.until(lambda frame: frame.get("stream") == "start")
        assert await stopped(stopper, question) == "stopped"
        assert (await agent.of("stop"))["delivery_id"] == delivery["delivery_id"]
        error = await asker.until(lambda frame: frame.get("stream") == "error")
        assert (error["error"]["code"], error["retrying"]) == ("stopped", False)


async def test_the_next_of_the_lane_is_served_after_a_stop(city: Instance) -> None:
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        first = await asked(alice, "guide", "c", message="1")
        second = await asked(alice, "guide", "c", message="2")
        await agent.of("delivery")
        assert await stopped(alice, first) == "stopped"
        await agent.of("stop")
        assert (await agent.of("delivery"))["message"]["message_id"] == second


async def test_an_agent_by_operations_meets_the_stop_with_its_next_word(city: Instance) -> None:
    consumer = (
        await city.done("post_office.subscribe_to_channel", {"channel": "guide", "realm": "operator", "mode": "inbox"})
    )["consumer"]
    async with asker_of(city) as alice:
        question = await asked(alice, "guide")
        taken: list[Frame] = (
            await city.done("post_office.receive_messages", {"consumer": consumer, "max": 1, "wait_ms": 3000})
        )["deliveries"]
        assert await stopped(alice, question) == "stopped"
        answer = {"delivery_id": taken[0]["delivery_id"], "payload": {"message": "too late"}}

        async def is_stale() -> bool:
            response = await city.call("post_office.reply", answer)
            return bool(response.json().get("code") == "stale_delivery")

        await eventually(is_stale, "its word is stale")
        assert not [frame for frame in await alice.left() if frame["type"] == "chat_response" and "stream" not in frame]
