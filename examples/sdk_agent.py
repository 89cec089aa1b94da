"""An agent in a few lines: a decorated function, whose parts the asker sees as they are made."""

import asyncio
import os
from collections.abc import AsyncGenerator

from city_client import Agent, Question

agent = Agent("pillar:content")


@agent.on("chat")
async def answer(question: Question) -> AsyncGenerator[str, None]:
    yield f"You asked: {question.message}"
    if question.attempt > 1:
        yield " (and somebody has tried before me)"


@agent.on("command")
async def carry_out(question: Question) -> str:
    await question.working()  # takes more time than the lease gives
    return f"Done: {question.message}"


if __name__ == "__main__":
    url = os.environ.get("SMART_CITY_URL", "http://127.0.0.1:8000")
    asyncio.run(agent.run(url, os.environ["SMART_CITY_TOKEN"]))
