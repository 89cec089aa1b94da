"""Agents: decorated functions that answer what people and services ask on a channel.

    agent = Agent("pillar:content")

    @agent.on("chat")
    async def answer(question: Question) -> str:
        return f"You said: {question.message}"

    asyncio.run(agent.run("http://127.0.0.1:8000", token))

A function returns the answer, as text or as a payload; an async generator yields it in parts. It deliberately
holds no state between questions: whatever an agent remembers is its author's.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, TypeVar

from city_client.client import CityClient
from city_client.consumers import Consumer
from city_client.encodings import Name
from city_client.errors import Dropped, Refused
from city_client.questions import Question

ANY = "*"
FINISH_SECONDS = 10.0

Said = str | dict[str, Any] | None
Handler = Callable[[Question], Awaitable[Said] | AsyncGenerator[str, None]]
"""What answers: it returns the answer (``None``: nothing is to be said), or yields its parts."""
Decorated = TypeVar("Decorated", bound=Handler)

logger = logging.getLogger(__name__)


class Refuse(Exception):
    """Raised by a handler that will not answer, now or on another attempt; the asker hears so at once.

    The reason is for operators, and kept with the dead letter.
    """


class Agent:
    """One agent on one channel.

    Args:
        channel: whose inbox it takes messages from.
        name: for logs; by default the channel.
        most: how many questions are answered at once.
        seconds: how long one answer may take before it is given up and tried again.
    """

    def __init__(self, channel: str, *, name: str = "", most: int = 64, seconds: float = 120.0) -> None:
        self.channel = channel
        self.name = name or channel
        self.most = most
        self.seconds = seconds
        self._handlers: dict[str, Handler] = {}

    def on(self, *intents: str) -> Callable[[Decorated], Decorated]:
        """Declares what answers ``chat``, ``query`` or ``command``; without an intent, all that is left."""

        def declare(handler: Decorated) -> Decorated:
            if not (inspect.iscoroutinefunction(handler) or inspect.isasyncgenfunction(handler)):
                raise TypeError(f"{handler} must be an async function or an async generator")
            self._handlers.update(dict.fromkeys(intents or (ANY,), handler))
            return handler

        return declare

    async def answer(self, question: Question) -> None:
        """Answers one question with the function declared for it, and settles its delivery either way."""
        handler = self._handlers.get(question.intent) or self._handlers.get(ANY)
        try:
            if handler is None:
                raise Refuse(f"{self.name} does not answer {question.intent!r}")
            async with asyncio.timeout(self.seconds):
                await _say(question, handler(question))
        except Dropped:
            raise
        except Refuse as refusal:
            await self._give_back(question, str(refusal), retry=False)
        except Refused as refused:
            await self._give_back(question, f"the agent was refused: {refused.code}", retry=refused.retryable)
        except Exception as error:  # supervised: a handler's failure is reported, and the agent goes on
            logger.exception("%s failed at %s, attempt %s", self.name, question.message_id, question.attempt)
            await self._give_back(question, f"the agent failed with {type(error).__name__}", retry=True)

    async def run(self, url: str, token: str, *, encoding: Name = "json", stop: asyncio.Event | None = None) -> None:
        """Answers until ``stop`` is set or the task is cancelled; see `run_agents`."""
        await run_agents([self], url, token, encoding=encoding, stop=stop)

    async def _give_back(self, question: Question, reason: str, *, retry: bool) -> None:
        if not question.delivery.is_settled:
            await question.delivery.failed(reason, retry=retry)


async def run_agents(
    agents: Sequence[Agent],
    url: str,
    token: str,
    *,
    encoding: Name = "json",
    stop: asyncio.Event | None = None,
    finish_seconds: float = FINISH_SECONDS,
) -> None:
    """Runs agents on one socket until ``stop`` is set or the task is cancelled; finishes what is in hand.

    Raises:
        Refused: the token may not consume one of the channels.
        Ended: the platform ended the connection for good.
    """
    async with CityClient(url, token=token, encoding=encoding, connect_seconds=None) as client:
        consumers = [client.consume(agent.channel, agent.answer, most=agent.most) for agent in agents]
        try:
            await _until(stop or asyncio.Event(), client, consumers)
        finally:
            await asyncio.gather(*(client.stop_consuming(c, seconds=finish_seconds) for c in consumers))


async def _until(stop: asyncio.Event, client: CityClient, consumers: Sequence[Consumer]) -> None:
    """Waits for the stop, or for the first thing that makes going on pointless."""
    stopped: asyncio.Future[Any] = asyncio.create_task(stop.wait())
    closed = asyncio.create_task(client.wait_closed())
    defeats: list[asyncio.Future[Any]] = [closed, *(consumer.refused for consumer in consumers)]
    try:
        await asyncio.wait([stopped, *defeats], return_when=asyncio.FIRST_COMPLETED)
        for defeat in defeats:
            if defeat.done():
                defeat.result()
    finally:
        stopped.cancel()
        closed.cancel()
        await asyncio.gather(stopped, closed, return_exceptions=True)


async def _say(question: Question, answer: Awaitable[Said] | AsyncGenerator[str, None]) -> None:
    """Sends what a handler returns or yields; after a forward there is nothing left to say."""
    delivery = question.delivery
    said: Said
    if isinstance(answer, AsyncGenerator):
        said = await _say_parts(question, answer)
    else:
        said = await answer
    if delivery.is_settled:
        return
    if said is None:
        await delivery.done()
    else:
        await delivery.reply({"message": said} if isinstance(said, str) else said)


async def _say_parts(question: Question, parts: AsyncGenerator[str, None]) -> str | None:
    said: list[str] = []
    async with aclosing(parts):
        async for part in parts:
            said.append(part)
            await question.delivery.part(part)
    return "".join(said) if said else None
