"""A specialist: an agent that knows some topics, and says so when asked about anything else.

It chooses the topic and sends the answer; where the facts come from is the topics' own. An agent with a
language model keeps this shape: the topics become its tools.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from city_client import Agent, Operations, Question, Refused
from city_guides.understanding import addressee_in, choose, keywords

SECOND_LOOK_SECONDS = 1.5


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence, and the figures it was made of."""

    sentence: str
    figures: Mapping[str, Any] = field(default_factory=dict)


Tell = Callable[[Operations, Question], AsyncIterator[Fact]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """Something that can be told: what it is, the words that ask for it, and how to find it out."""

    name: str
    offer: str
    keywords: frozenset[str]
    tell: Tell


@dataclass(frozen=True, slots=True, kw_only=True)
class Specialist:
    """An agent of one channel. ``scopes`` are all its token needs; ``colleagues`` know more elsewhere."""

    realm: str
    channel: str
    field: str
    scopes: tuple[str, ...]
    topics: tuple[Topic, ...]
    colleagues: tuple[Specialist, ...] = ()

    @property
    def keywords(self) -> frozenset[str]:
        """All words that ask for one of its topics, and its own name."""
        return keywords(self.realm.replace("_", " ")).union(*(topic.keywords for topic in self.topics))

    @property
    def offers(self) -> str:
        """What can be asked, a line each."""
        return "\n".join(f"• {offer}" for offer in self._offers())

    def agent(self, city: Operations) -> Agent:
        """The agent, who finds everything out through ``city``."""
        agent = Agent(self.channel, name=self.realm)

        @agent.on("chat")
        async def answer(question: Question) -> AsyncGenerator[str, None]:
            async for fact in self.told(city, question):
                yield fact.sentence + "\n"

        @agent.on("query")
        async def figures(question: Question) -> dict[str, Any]:
            facts = [fact async for fact in self.told(city, question)]
            found = {name: figure for fact in facts for name, figure in fact.figures.items()}
            return {"message": "\n".join(fact.sentence for fact in facts), "figures": found}

        @agent.on("command")
        async def decline(question: Question) -> str:
            return f"I only tell what I know of {self.field}, and change nothing. Ask me for:\n{self.offers}"

        return agent

    async def told(self, city: Operations, question: Question) -> AsyncIterator[Fact]:
        """The answer, fact by fact; nothing, if the question was forwarded."""
        match self.choose(question.message):
            case Topic() as topic:
                async for fact in _found_out(topic, city, question):
                    yield fact
            case Specialist() as colleague if await _is_there(city, colleague):
                await question.forward(colleague.channel)
            case Specialist() as colleague:
                yield Fact(f"{colleague.channel} would know, but no agent is there right now.")
            case None:
                yield Fact(f"I know about {self.field}. Ask me for:\n{self.offers}")

    def choose(self, text: str) -> Topic | Specialist | None:
        """Whoever is named, else the topic or the colleague that the question mentions most."""
        named = addressee_in(text)
        for colleague in self.colleagues:
            if named and named in (colleague.realm, *colleague.realm.split("_")):
                return colleague
        choices: tuple[Topic | Specialist, ...] = (*self.topics, *self.colleagues)
        return choose(choices, text)

    def _offers(self) -> Iterator[str]:
        for topic in self.topics:
            yield topic.offer
        for colleague in self.colleagues:
            yield f"{colleague.field} (I pass it on to {colleague.channel})"


async def _found_out(topic: Topic, city: Operations, question: Question) -> AsyncIterator[Fact]:
    """The topic's facts. What the platform refuses is told; what may pass is left to the next attempt."""
    try:
        async for fact in topic.tell(city, question):
            yield fact
    except Refused as refused:
        if refused.retryable:
            raise
        yield Fact(f"The platform does not tell me that: {refused.message}.")


async def _is_there(city: Operations, colleague: Specialist) -> bool:
    """Whether an agent takes questions there; where none does, a question would wait and wait.

    The platform counts its agents once a second, so a first "no" may be too old.
    """
    if await _agents_on(city, colleague.channel):
        return True
    await asyncio.sleep(SECOND_LOOK_SECONDS)
    return await _agents_on(city, colleague.channel) > 0


async def _agents_on(city: Operations, channel: str) -> int:
    queues = (await city.call("post_office.get_queue_status"))["channels"]
    return int(queues[channel]["consumers"]) if channel in queues else 0
