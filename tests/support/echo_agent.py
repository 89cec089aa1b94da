"""An agent that gives back what it is asked, word by word, and the running of agents for as long as a test needs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from city_client import Agent, Question, Refuse, run_agents
from tests.support.platform import Instance


@asynccontextmanager
async def answering(city: Instance, *agents: Agent) -> AsyncIterator[None]:
    """Runs agents until the block is left; what is asked before they are there waits for them."""
    stop = asyncio.Event()
    token = await city.service("echo", "post_office.consume")
    run = asyncio.create_task(run_agents(agents, city.url, token, stop=stop))
    yield
    stop.set()
    async with asyncio.timeout(15):
        await run


def echo(channel: str = "guide") -> Agent:
    """The agent; a ``query`` it answers with what it got, a ``command`` it refuses."""
    agent = Agent(channel)

    @agent.on("chat")
    async def answer(question: Question) -> AsyncGenerator[str, None]:
        for word in question.message.split():
            yield word + " "

    @agent.on("query")
    async def query(question: Question) -> dict[str, object]:
        return {"asked": question.payload, "by": question.sender.id, "conversation": question.conversation_id}

    @agent.on("command")
    async def command(question: Question) -> str:
        raise Refuse("not today")

    return agent
