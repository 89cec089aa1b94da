"""``python -m benchmarks.answering URL``: an agent on ``guide`` that answers each question with the question itself.

It is written on the platform's own SDK, as its users would, and runs in a process of its own until it is asked to end.
The service's token comes from ``SMART_CITY_TOKEN``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import uvloop

from city_client import Agent, Question

CHANNEL = "guide"
AT_ONCE = 512


async def answer(question: Question) -> dict[str, object]:
    """What was asked, so that whoever asked finds the time of asking in it."""
    return dict(question.payload)


async def run(url: str, token: str) -> None:
    """Answers until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    agent = Agent(CHANNEL, most=AT_ONCE)
    agent.on()(answer)
    await agent.run(url, token, stop=stop)


if __name__ == "__main__":
    uvloop.run(run(sys.argv[1], os.environ["SMART_CITY_TOKEN"]))
