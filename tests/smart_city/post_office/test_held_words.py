"""What agents say while Valkey is away: held, told so once, and carried out on the return before anything is reaped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from foundations.errors import StaleDelivery, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.inbox import Delivery
from smart_city.post_office.keep import Held, Keep
from tests.support.offices import Agent, Office, an_office, attached
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until

ALICE = "connection:c-alice"


class Said:
    """What an agent was told of its words, by what they were."""

    def __init__(self, office: Office) -> None:
        self._office = office
        self.held: list[str] = []
        self.outcomes: dict[str, Exception | None] = {}

    def say(self, name: str, work: Coroutine[Any, Any, None], size: int = 10) -> None:
        self._office.answers.spoken.say(work, size, partial(self._told, name))

    def _told(self, name: str, outcome: Exception | Held | None) -> None:
        assert name not in self.outcomes, "the outcome is the last word"
        if isinstance(outcome, Held):
            self.held.append(name)
        else:
            self.outcomes[name] = outcome


@asynccontextmanager
async def an_office_to_harm(tasks: Tasks, **how: Any) -> AsyncIterator[tuple[Office, ValkeyServer]]:
    with ValkeyServer(appendfsync="no") as server:
        valkey = await Valkey.connect(server.url, timeout=0.5)
        async with an_office(valkey, tasks, keep=Keep(after=0.1, **how)) as office:
            yield office, server
        await valkey.close()


async def given(office: Office, agent: Agent, *names: str) -> dict[str, Delivery]:
    """One delivery of a question for each name."""
    for name in names:
        await office.ask(name, user="alice", conversation=name)
    await agent.next(len(names))
    return dict(zip(agent.heard, agent.given, strict=True))


def away(server: ValkeyServer, how: str) -> None:
    server.kill() if how == "killed" else server.hang()


def back(server: ValkeyServer, how: str) -> None:
    server.start() if how == "killed" else server.resume()


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_all_that_is_said_is_held_and_carried_out_on_the_return(tasks: Tasks, how: str) -> None:
    async with an_office_to_harm(tasks) as (office, server):
        agent = attached(office)
        of = {
            name: delivery.delivery_id
            for name, delivery in (await given(office, agent, "reply", "done", "failed", "forward", "work")).items()
        }
        said, answers = Said(office), office.answers
        away(server, how)
        said.say("reply", answers.reply(of["reply"], "guide", {"message": "here"}))
        said.say("done", answers.done([of["done"]]))
        said.say("failed", answers.failed(of["failed"], "tired", retry=False))
        said.say("forward", answers.forward(of["forward"], "pillar:content"))
        said.say("work", answers.working(of["work"]))
        await until(lambda: len(said.held) == 5, "all are held")
        assert not said.outcomes
        assert office.keep.messages >= 5
        back(server, how)
        assert await answers.flush(10) == 0
        assert said.outcomes == dict.fromkeys(said.held)
        told = [(frame["in_reply_to"], frame.get("stream", "")) for frame in await office.logged(ALICE)]
        ids = {name: delivery.split("/")[1] for name, delivery in of.items()}
        assert sorted(told) == sorted([(ids["reply"], ""), (ids["failed"], "error")])
        assert (await office.inbox.status("guide")).depth == 1, "one is still being worked on"
        assert (await office.inbox.status("pillar:content")).depth == 1
        assert (office.keep.messages, office.keep.bytes) == (0, 0)
        assert len(agent.given) == 5, "nothing is given twice"


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_an_answer_in_parts_goes_on_through_an_outage(tasks: Tasks, how: str) -> None:
    async with an_office_to_harm(tasks) as (office, server):
        [delivery] = (await given(office, attached(office), "?")).values()
        said, reply = Said(office), partial(office.answers.reply, delivery.delivery_id, "guide")
        await reply({}, stream="start")
        await reply({"message": "one "}, stream="delta")
        away(server, how)
        for word in ("two ", "three"):
            said.say(word, reply({"message": word}, stream="delta"))
        said.say("end", reply({}, stream="end"))
        await until(lambda: "end" in said.held, "the end is held")
        back(server, how)
        assert await office.answers.flush(10) == 0
        assert said.outcomes == {"two ": None, "three": None, "end": None}
        frames = await office.logged(ALICE)
        assert [(frame["stream"], frame["payload"].get("message")) for frame in frames] == [
            ("start", None), ("end", "one two three"),
        ]  # fmt: skip
        assert (office.keep.messages, office.keep.bytes) == (0, 0)


async def test_what_was_said_comes_before_what_was_left_is_taken_back(tasks: Tasks) -> None:
    async with an_office_to_harm(tasks) as (office, server):
        agent = attached(office)
        deliveries = await given(office, agent, "answered", "left")
        said = Said(office)
        server.kill()
        said.say("reply", office.answers.reply(deliveries["answered"].delivery_id, "guide", {"message": "here"}))
        await until(lambda: said.held == ["reply"], "it is held")
        office.dispatcher.detach("guide", agent)
        other = attached(office, "other")
        server.start()
        again = await other.next()
        assert other.heard == ["left"], "the answered one is not asked again"
        assert again.attempt == 2
        assert said.outcomes == {"reply": None}
        [answer] = await office.logged(ALICE)
        assert answer["payload"] == {"message": "here"}


async def test_a_word_whose_outcome_was_not_heard_counts_as_carried_out(tasks: Tasks) -> None:
    """The scripts ran, and what they answered was lost: the repeat finds a stale delivery, and that is no failure."""
    async with an_office_to_harm(tasks) as (office, server):
        [delivery] = (await given(office, attached(office), "?")).values()
        said = Said(office)
        server.hang()
        said.say("done", office.answers.done([delivery.delivery_id]))
        await until(lambda: said.held == ["done"], "it is held")
        server.resume()
        assert await office.answers.flush(10) == 0
        assert said.outcomes == {"done": None}
        with pytest.raises(StaleDelivery):
            await office.answers.done([delivery.delivery_id])


async def test_words_without_room_are_refused_and_those_that_are_held_for_too_long(tasks: Tasks) -> None:
    async with an_office_to_harm(tasks, most_bytes=4000, seconds=0.5) as (office, server):
        deliveries = await given(office, attached(office), "small", "large")
        said = Said(office)
        server.kill()
        for name, size in (("small", 100), ("large", 5000)):
            said.say(name, office.answers.reply(deliveries[name].delivery_id, "guide", {"message": "x" * size}), size)
        await until(lambda: len(said.outcomes) == 2, "both are refused", 10)
        assert said.held == ["small"]
        assert {type(outcome) for outcome in said.outcomes.values()} == {Unavailable}
        assert (office.keep.messages, office.keep.bytes) == (0, 0)


async def test_what_is_owed_while_valkey_is_away_is_bounded(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("smart_city.post_office.inbox.reaper.MOST_OWED", 3)
    async with an_office_to_harm(tasks) as (office, server):
        server.kill()
        for number in range(10):
            agent = attached(office, f"agent-{number}")
            office.dispatcher.detach("guide", agent)
        reaper = office.dispatcher._reaper
        await until(lambda: len(reaper._owed) == 3, "three are owed")
        server.start()
        await eventually(partial(is_owed_nothing, office), "they are brought home")


async def is_owed_nothing(office: Office) -> bool:
    return not office.dispatcher._reaper._owed
