"""Whatever becomes of an answer in parts, on whichever instance: its start gets exactly one end or error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from foundations.errors import Overloaded, StaleDelivery, TooLarge
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery
from tests.support.inboxes import LIMITS
from tests.support.offices import Agent, Office, attached
from tests.support.waiting import eventually

ALICE = "connection:c-alice"
Fate = Callable[[Office, Office, Agent, Delivery], Awaitable[None]]


async def leaves(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    there.dispatcher.detach("guide", agent)


async def drains(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    await there.dispatcher.close()


async def is_killed(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    await there.kill()
    here.dispatcher.lapsed(there.name)


async def hangs(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    agent.most = 0


async def gives_back(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    agent.most = 0
    await there.answers.failed(delivery.delivery_id, "not now")


async def gives_up(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    await there.answers.failed(delivery.delivery_id, "never", retry=False)


async def says_too_much(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    for _ in range(100):
        try:
            await there.answers.reply(delivery.delivery_id, "guide", {"message": "x" * 1000}, stream="delta")
        except (TooLarge, StaleDelivery):
            return


async def hands_on(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    attached(here, "content", channel="pillar:content")
    await there.answers.forward(delivery.delivery_id, "pillar:content")


async def meets_a_full_inbox(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    for n in range(20):
        try:
            await here.ask(user=f"user{n}", channel="pillar:content")
        except Overloaded:
            break
    with pytest.raises(Overloaded):
        await there.answers.forward(delivery.delivery_id, "pillar:content")
    agent.most = 0
    await there.answers.failed(delivery.delivery_id, "nobody takes it")


async def is_stopped(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    async def logs() -> Iterable[str]:
        return [ALICE]

    assert await here.answers.stopping.stop("alice", delivery.message_id, logs) == "stopped"


async def ends(here: Office, there: Office, agent: Agent, delivery: Delivery) -> None:
    await there.answers.reply(delivery.delivery_id, "guide", {}, stream="end")


FATES: dict[Fate, tuple[list[str], str]] = {
    leaves: (["start", "error", "answer"], ""),
    drains: (["start", "error", "answer"], ""),
    is_killed: (["start", "error", "answer"], ""),
    hangs: (["start", "error", "answer"], ""),
    gives_back: (["start", "error", "answer"], ""),
    hands_on: (["start", "error", "answer"], ""),
    meets_a_full_inbox: (["start", "error", "answer"], ""),
    gives_up: (["start", "error"], "internal"),
    says_too_much: (["start", "error"], "too_large"),
    is_stopped: (["start", "error"], "stopped"),
    ends: (["start", "end"], ""),
}
"""What the asker's log has in the end, and with which code, if no other attempt answers."""


@pytest.mark.parametrize("fate", FATES, ids=lambda fate: fate.__name__)
async def test_each_start_has_one_end(valkey: Valkey, fate: Fate) -> None:
    expected, code = FATES[fate]
    async with two_offices(valkey) as (here, there):
        agent = attached(there)
        await here.ask("a long story")
        delivery = await agent.next()
        await there.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await there.answers.reply(delivery.delivery_id, "guide", {"message": "once "}, stream="delta")
        await fate(here, there, agent, delivery)
        if "answer" in expected:
            await answer_elsewhere(here)

        async def is_over() -> bool:
            return len(await here.logged(ALICE)) == len(expected) and not await is_somewhere(here, delivery)

        await eventually(is_over, f"the log has {expected}")
        frames = await here.logged(ALICE)
        assert [frame.get("stream", "answer") for frame in frames] == expected
        assert frames[0]["message_id"] == frames[1]["message_id"]
        assert frames[-1].get("error", {}).get("code", "") == code
        assert {frame["in_reply_to"] for frame in frames} == {delivery.message_id}
        assert await here.open_answers(ALICE) == []


@asynccontextmanager
async def two_offices(valkey: Valkey) -> AsyncIterator[tuple[Office, Office]]:
    """Two instances with short waits; the second may have been killed before they are closed."""
    limits = replace(
        LIMITS, lease_seconds=0.4, answer_seconds=0.4, count=10, first_wait_seconds=0.01, other_taker_seconds=0.05
    )
    tasks = [Tasks("here"), Tasks("there")]
    here, there = (Office(valkey, each, limits, name=each.name, most_bytes=10_000) for each in tasks)
    await here.start()
    await there.start()
    try:
        yield here, there
        await here.close()
        if not there.is_killed:
            await there.close()
    finally:
        for each in tasks:
            await each.close()


async def answer_elsewhere(here: Office) -> None:
    """Another agent, on another instance, answers whatever comes to it of this question."""

    class Answering(Agent):
        def deliver(self, delivery: Delivery) -> None:
            super().deliver(delivery)
            here.tasks.spawn("answering", self.answer(delivery))

        async def answer(self, delivery: Delivery) -> None:
            await here.answers.reply(delivery.delivery_id, "other", {"message": "the whole story"})

    for channel in here.inbox.channels:
        here.dispatcher.attach(channel, Answering(f"other {channel}"))


async def is_somewhere(here: Office, delivery: Delivery) -> bool:
    """Whether the question is still in an inbox."""
    keys = [here.valkey.key(f"inbox:{{{channel}}}:message:{delivery.message_id}") for channel in here.inbox.channels]
    return any([await here.valkey.command("EXISTS", key) for key in keys])
