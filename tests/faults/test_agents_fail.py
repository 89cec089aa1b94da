"""Agents crash and hang in the middle of their work: somebody else answers, and every stream ends."""

from __future__ import annotations

import asyncio

from city_client import Question
from tests.faults.others import SocketAgent
from tests.faults.trial import City, Trials
from tests.support.waiting import until


def first_agent(city: City) -> SocketAgent:
    agent = city.load.agents["agent-1"]
    assert isinstance(agent, SocketAgent)
    return agent


async def in_hand(city: City, agent: SocketAgent, count: int) -> None:
    """Lets the agent stop in the middle of so many answers, and waits until it has."""
    working = 0

    async def work(question: Question) -> None:
        nonlocal working
        if working < count:
            working += 1
            await asyncio.Event().wait()

    agent.work = work
    await until(lambda: working == count, f"{count} questions are in hand", 60)


async def test_an_agent_that_crashes_in_mid_answer(trials: Trials) -> None:
    async with trials("agent crashes in mid-answer, three times") as city:
        agent, line = first_agent(city), city.load.lines["agent-1"]
        for _ in range(3):
            await in_hand(city, agent, 2)
            agent.work = None
            line.reset()
            await city.flows()


async def test_an_agent_whose_machine_freezes(trials: Trials) -> None:
    async with trials("agent's machine freezes in mid-answer") as city:
        await in_hand(city, first_agent(city), 2)
        city.load.lines["agent-1"].deafen()
        await city.flows()


async def test_an_agent_that_never_answers(trials: Trials) -> None:
    """Its socket lives, and its work comes to no end: it is given up after its time, and tried by another."""
    async with trials("agent hangs in mid-answer") as city:
        await in_hand(city, first_agent(city), 2)
        await city.flows()
