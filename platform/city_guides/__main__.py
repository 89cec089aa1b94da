"""The demo agents as a program: ``SMART_CITY_URL=… SMART_CITY_TOKEN=… python -m city_guides``.

It runs until SIGINT or SIGTERM. It knows no more of the platform than any client: its address and a token.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys

from city_client import Backoff, ClientError, Ended, Operations, Refused, Unreachable, run_agents
from city_guides.credentials import token_for
from city_guides.guide import GUIDE
from city_guides.pillars import PILLARS
from city_guides.specialist import Specialist

FINISH_SECONDS = 1.0
"""What answers in hand get when the program is asked to stop."""
END_SECONDS = 1.5
"""What all of them get to end, a call that hangs included."""
EXPIRED = 4501

logger = logging.getLogger("city_guides")


async def serve(specialist: Specialist, url: str, given: str, stop: asyncio.Event) -> None:
    """Runs one agent until ``stop`` is set, with a new token whenever the old one has ended."""
    backoff = Backoff()
    while not stop.is_set():
        try:
            async with (
                Operations(url, given) as desk,
                token_for(specialist, desk, given) as token,
                Operations(url, token) as city,
            ):
                agent = specialist.agent(city)
                await run_agents([agent], url, token, stop=stop, finish_seconds=FINISH_SECONDS)
        except ClientError as error:
            logger.warning("%s: %s", specialist.realm, error)
            if isinstance(error, Refused) and error.code == "unknown_channel":
                break  # this platform has no such pillar
            if not _passes(error):
                raise
            await _pause(stop, backoff.next())


async def main() -> int:
    """Runs all agents; returns the exit status."""
    url = os.environ.get("SMART_CITY_URL", "http://127.0.0.1:8000")
    token = os.environ.get("SMART_CITY_TOKEN", "")
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        async with asyncio.TaskGroup() as agents:
            tasks = [agents.create_task(serve(each, url, token, stop)) for each in (GUIDE, *PILLARS)]
            await stop.wait()
            await asyncio.wait(tasks, timeout=END_SECONDS)
            for task in tasks:
                task.cancel()
    except ExceptionGroup as errors:
        if (others := errors.split(ClientError)[1]) is not None:
            raise others from None
        logger.error("the agents end: %s", errors.exceptions[0])
        return 1
    return 0


def _passes(error: ClientError) -> bool:
    """Whether trying again may help."""
    match error:
        case Refused():
            return error.retryable
        case Ended():
            return error.code == EXPIRED
        case _:
            return isinstance(error, Unreachable)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)-7s %(name)s: %(message)s")
    sys.exit(asyncio.run(main()))
