"""Circuits: a full or failing inbox says so at once, with when to come back, and opens again by itself."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from tests.contract.agents import agent_on, asked, asker_of, reply
from tests.contract.shapes import problem
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

STATES = {"closed", "open", "half_open"}
CALM_SECONDS = 20.0
"""By when a circuit that opened has tried again."""
QUICK = {"inbox_circuit_failures": 4, "inbox_circuit_cool_seconds": 1}


async def circuit(city: Instance, channel: str = "guide") -> str:
    status = await city.done("post_office.get_queue_status", {"channel": channel})
    state = str(status["channels"][channel]["circuit"])
    assert state in STATES
    return state


def is_overloaded(answer: Frame) -> None:
    assert (answer["type"], answer["code"], answer["retryable"]) == ("error", "overloaded", True), answer
    assert answer["retry_after"] > 0


async def test_the_circuit_of_a_quiet_inbox_is_closed_everywhere(city: Instance) -> None:
    status = await city.done("post_office.get_queue_status")
    assert {channel["circuit"] for channel in status["channels"].values()} == {"closed"}


async def test_a_full_inbox_opens_it_and_it_closes_again_when_there_is_room(platform: Platform) -> None:
    here, there = [await platform.start(inbox_count=20, **QUICK) for _ in range(2)]
    async with AsyncExitStack() as stack:
        askers = [await stack.enter_async_context(asker_of(here, unique("alice"))) for _ in range(12)]
        answers = [await asker.ask(channel="guide", payload={"n": n}) for asker in askers for n in range(2)]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert refused
        for answer in refused:
            is_overloaded(answer)
        assert await circuit(here) == await circuit(there) == "open"
        late = await stack.enter_async_context(asker_of(there))
        is_overloaded(await late.ask(channel="guide", payload={}))
        response = await there.call(
            "post_office.send_to_agent", {"channel": "guide", "message": {}, "reply_to": "pillar:content"}
        )
        assert problem(response, 503, "overloaded")["retry_after"] > 0
        assert int(response.headers["retry-after"]) > 0
        accepted = [answer["message_id"] for answer in answers if answer["type"] == "ack"]
        agent = await stack.enter_async_context(agent_on(there, "guide"))
        served = asyncio.create_task(serve(agent))
        taken = await eventually(lambda: accepted_by(late), "it takes questions again", CALM_SECONDS)
        assert taken["status"] == "queued"

        async def is_closed() -> bool:
            return await circuit(here) == "closed" == await circuit(there)

        await eventually(is_closed, "closed again", CALM_SECONDS)
        served.cancel()
        await asyncio.wait([served])
        assert len(set(accepted)) == len(accepted), "what was acknowledged before was kept"


async def serve(agent: WireClient) -> None:
    while True:
        await reply(agent, await agent.of("delivery", 60), payload={"message": "here you are"})


async def accepted_by(asker: WireClient) -> Frame:
    """The ack of one more question, or nothing while it is refused."""
    answer = await asker.ask(channel="guide", payload={"message": "now?"})
    if answer["type"] == "error":
        is_overloaded(answer)
        return {}
    return answer


async def failures(agent: WireClient, asker: WireClient) -> bool:
    """Lets a question fail; whether it was refused instead."""
    answer = await asker.ask(channel="guide", payload={"message": "?"})
    if answer["type"] == "error":
        is_overloaded(answer)
        return True
    delivery = await agent.of("delivery")
    await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="broken", retry=False)
    await asker.of("chat_response")
    return False


async def test_a_failing_inbox_opens_it_and_a_success_closes_it(platform: Platform) -> None:
    """Every answer fails, whoever asks: after some of them nobody is let wait for the next failure."""
    here, there = [await platform.start(**QUICK) for _ in range(2)]
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(agent_on(there, "guide"))
        askers = [await stack.enter_async_context(asker_of(here, unique("alice"))) for _ in range(12)]
        refused = [await failures(agent, asker) for asker in askers]
        assert refused == sorted(refused), "once it is open it refuses"
        assert 4 <= refused.count(False) < len(askers)
        assert await circuit(here) == await circuit(there) == "open"
        served = asyncio.create_task(serve(agent))
        await eventually(lambda: accepted_by(askers[0]), "it lets one through", CALM_SECONDS)

        async def is_closed() -> bool:
            return await circuit(here) == "closed" == await circuit(there)

        await eventually(is_closed, "closed by success", CALM_SECONDS)
        served.cancel()
        await asyncio.wait([served])


async def test_failures_while_it_is_half_open_open_it_again(platform: Platform) -> None:
    city = await platform.start(**QUICK)
    async with AsyncExitStack() as stack:
        agent = await stack.enter_async_context(agent_on(city, "guide"))
        askers = [await stack.enter_async_context(asker_of(city, unique("alice"))) for _ in range(16)]
        for asker in askers[:8]:
            await failures(agent, asker)

        async def is_half_open() -> bool:
            return await circuit(city) == "half_open"

        await eventually(is_half_open, "it lets some through", CALM_SECONDS)
        refused = [await failures(agent, asker) for asker in askers[8:]]
        assert False in refused
        assert refused[-1], "open again"


async def test_one_user_whose_questions_all_fail_opens_nothing(platform: Platform) -> None:
    city = await platform.start(**QUICK)
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        assert [await failures(agent, alice) for _ in range(20)] == [False] * 20
        assert await circuit(city) == "closed"


async def test_one_user_who_fills_his_tenth_opens_nothing(platform: Platform) -> None:
    city = await platform.start(inbox_count=50)
    async with asker_of(city, unique("greedy")) as greedy, asker_of(city) as alice:
        answers = [await greedy.ask(channel="guide", payload={"n": n}) for n in range(40)]
        assert {answer["code"] for answer in answers[5:]} == {"overloaded"}
        assert await circuit(city) == "closed"
        await asked(alice, "guide")


async def test_an_inbox_without_agents_waits_and_opens_nothing(city: Instance) -> None:
    async with asker_of(city) as alice:
        for n in range(30):
            await asked(alice, "guide", f"c{n}")
        assert await circuit(city) == "closed"


async def test_questions_that_were_accepted_are_delivered_although_it_is_open(platform: Platform) -> None:
    city = await platform.start(inbox_count=20, **QUICK)
    async with AsyncExitStack() as stack:
        askers = [await stack.enter_async_context(asker_of(city, unique("alice"))) for _ in range(12)]
        answers = [await asker.ask(channel="guide", payload={"n": n}) for asker in askers for n in range(2)]
        accepted = {answer["message_id"] for answer in answers if answer["type"] == "ack"}
        assert await circuit(city) == "open"
        agent = await stack.enter_async_context(agent_on(city, "guide"))
        delivered: set[str] = set()
        while delivered != accepted:
            delivery = await agent.of("delivery")
            delivered.add(delivery["message"]["message_id"])
            assert delivered <= accepted
            await agent.ask(type="done", delivery_ids=[delivery["delivery_id"]])
