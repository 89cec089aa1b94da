"""Agents that answer, stream, fail, hang, hand on and vanish at random, on gateways that die.

Whatever happens: every question gets one final word, every start one end or error, and nothing is left behind.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from contextlib import suppress
from typing import Any

import pytest

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, InboxLimits, Route
from tests.support.inboxes import CHANNELS
from tests.support.offices import Agent, Office
from tests.support.valkey import keys_in
from tests.support.waiting import eventually

LIMITS = InboxLimits(
    lease_seconds=0.3, tries=3, first_wait_seconds=0.02, longest_wait_seconds=0.05, reclaim_seconds=0.3,
    answer_seconds=0.3,
)  # fmt: skip
USERS = [f"user{n}" for n in range(12)]
QUESTIONS = 150
KEPT = {
    "meta", "circuit", "failing", "keys", "writer", "letters", "died", "requeued", "stopped", "consumers", "void"
}  # fmt: skip
"""What an inbox keeps when no question is in it; all but the first two and the dead letters for a time only."""


class Wild(Agent):
    """An agent that does anything at all with what it is given; once ``is_tame`` it only answers."""

    def __init__(self, name: str, channel: str, office: Office, tasks: Tasks, chance: random.Random) -> None:
        super().__init__(name, most=8)
        self.channel = channel
        self.office = office
        self.tasks = tasks
        self.chance = chance
        self.is_tame = False

    def deliver(self, delivery: Delivery) -> None:
        super().deliver(delivery)
        self.tasks.spawn("wild agent", self.act(delivery))

    async def act(self, delivery: Delivery) -> None:
        actions = [self.answer, self.answer, self.stream, self.stream, self.fail, self.hand_on, self.hang, self.leave]
        action = self.answer if self.is_tame else self.chance.choice(actions)
        try:
            await action(delivery.delivery_id)
        except CityError:
            pass  # stale, or refused: whoever has it now goes on
        finally:
            self.held.discard(delivery.delivery_id)
            self.office.dispatcher.has_room(self.channel)

    async def answer(self, delivery_id: str) -> None:
        await self.office.answers.reply(delivery_id, self.name, {"message": "here you are"})

    async def stream(self, delivery_id: str) -> None:
        reply = self.office.answers.reply
        await reply(delivery_id, self.name, {}, stream="start")
        for n in range(self.chance.randrange(4)):
            await reply(delivery_id, self.name, {"message": f"{n} "}, stream="delta")
            await asyncio.sleep(self.chance.random() * 0.02)
        last = self.chance.choice(
            [self.finish, self.finish, self.fail, self.hand_on, self.hang, self.leave, self.settle]
        )
        await last(delivery_id)

    async def finish(self, delivery_id: str) -> None:
        await self.office.answers.reply(delivery_id, self.name, {}, stream="end")

    async def settle(self, delivery_id: str) -> None:
        await self.office.answers.done([delivery_id])

    async def fail(self, delivery_id: str) -> None:
        await self.office.answers.failed(delivery_id, "no", retry=self.chance.random() < 0.8)

    async def hand_on(self, delivery_id: str) -> None:
        await self.office.answers.forward(delivery_id, self.chance.choice(CHANNELS))

    async def hang(self, _: str) -> None:
        await asyncio.sleep(LIMITS.lease_seconds * 1.2)

    async def leave(self, _: str) -> None:
        self.office.dispatcher.detach(self.channel, self)
        self.office.dispatcher.attach(self.channel, self)


class Storm:
    """Offices that come and go over one store."""

    def __init__(self, valkey: Valkey, seed: int) -> None:
        self.valkey = valkey
        self.chance = random.Random(seed)  # noqa: S311  # weather, not a secret
        self.offices: list[tuple[Office, Tasks, list[Wild]]] = []
        self.started = 0
        self.lives = Counter[str]()

    async def open_office(self) -> None:
        self.started += 1
        tasks = Tasks(f"office {self.started}")
        office = Office(self.valkey, tasks, LIMITS, name=f"i{self.started}", gather_seconds=0.005)
        await office.start()
        agents = []
        for channel in CHANNELS:
            for n in range(2):
                agent = Wild(f"{channel}-{n}", channel, office, tasks, self.chance)
                office.dispatcher.attach(channel, agent)
                agents.append(agent)
        self.offices.append((office, tasks, agents))

    async def kill_office(self) -> None:
        """All its tasks stop where they are, as in a SIGKILL; the others notice."""
        dead, tasks, _ = self.offices.pop(0)
        await tasks.close()
        for office, _, _ in self.offices:
            office.dispatcher.lapsed(dead.name)

    async def rage(self) -> list[str]:
        """Asks questions, and stops some, while offices die; returns the questions' ids."""
        asked = []
        users = {}
        for n in range(QUESTIONS):
            office = self.chance.choice(self.offices)[0]
            user = self.chance.choice(USERS)
            route = Route(connection_id=f"c{self.lives[user]}-{user}", user_id=user)
            question = await office.ask(user=user, route=route)
            asked.append(question.message_id)
            users[question.message_id] = user
            if n % 4 == 1:
                await self.stop(office, users, self.chance.choice(asked[-8:]))
            if n % 10 == 5:
                await self.reconnect(office, self.chance.choice(USERS))
            if n % 50 == 25:
                await self.open_office()
                await self.kill_office()
            await asyncio.sleep(self.chance.random() * 0.01)
        return asked

    async def stop(self, office: Office, users: dict[str, str], message_id: str) -> None:
        """Somebody wants no answer any more, whatever has become of the question."""

        async def logs() -> list[str]:
            return [f"user:{users[message_id]}"]

        with suppress(CityError):  # it is just handed on by somebody who died
            await office.answers.stopping.stop(users[message_id], message_id, logs)

    async def reconnect(self, office: Office, user: str) -> None:
        """A connection ends; the user's next one has another id."""
        await office.disconnect(f"c{self.lives[user]}-{user}")
        self.lives[user] += 1

    async def calm(self) -> None:
        for _, _, agents in self.offices:
            for agent in agents:
                agent.is_tame = True
        await eventually(self.is_empty, "every question has its end", 20)

    async def is_empty(self) -> bool:
        office = self.offices[0][0]
        return not any([(await office.inbox.status(channel)).depth for channel in CHANNELS])

    async def close(self) -> None:
        for office, tasks, _ in self.offices:
            await office.close()
            await tasks.close()

    async def frames(self) -> list[dict[str, Any]]:
        office = self.offices[0][0]
        logs = [f"user:{user}" for user in USERS]
        logs += [f"connection:c{n}-{user}" for user in USERS for n in range(self.lives[user] + 1)]
        return [frame for log in logs for frame in await office.logged(log)]

    async def left_behind(self) -> set[str]:
        """Kinds of keys that belong to a question or to an answer shown as open; drafts expire by themselves."""
        found = [key.decode() for key in await keys_in(self.valkey)]
        inbox_keys = {key.rpartition("}:")[2].partition(":")[0] for key in found if ":inbox:" in key}
        return inbox_keys - KEPT | {key for key in found if key.endswith(":streams") or ":open" in key}


@pytest.mark.parametrize("seed", range(4))
async def test_every_question_gets_one_final_word_and_every_start_one_end(valkey: Valkey, seed: int) -> None:
    storm = Storm(valkey, seed)
    await storm.open_office()
    await storm.open_office()
    try:
        asked = await storm.rage()
        await storm.calm()
        frames = await storm.frames()
        assert {frame["in_reply_to"] for frame in frames} == set(asked)
        _each_start_has_one_end(frames)
        _each_question_has_one_final_word(frames)
        assert await storm.left_behind() == set()
    finally:
        await storm.close()


def _each_start_has_one_end(frames: list[dict[str, Any]]) -> None:
    by_answer = defaultdict(list)
    for frame in frames:
        by_answer[frame["message_id"]].append(frame.get("stream", ""))
    for message_id, kinds in by_answer.items():
        assert sorted(kinds) in ([""], ["error"], ["end", "start"], ["error", "start"]), (message_id, kinds)


def _each_question_has_one_final_word(frames: list[dict[str, Any]]) -> None:
    words = defaultdict(list)
    for frame in frames:
        is_error = frame.get("stream") == "error"
        is_aside = is_error and (frame["retrying"] or frame["error"]["code"] == "conflict")
        if frame.get("stream") != "start" and not is_aside:
            words[frame["in_reply_to"]].append(frame)
    for question in {frame["in_reply_to"] for frame in frames}:
        assert len(words[question]) == 1, (question, words[question])
