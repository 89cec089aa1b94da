"""A post office for tests: log, inbox, answers and dispatcher of one instance, with short waits."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces
from foundations.valkey.client import Valkey
from foundations.valkey.subscriptions import Subscriptions
from smart_city.post_office.answers import Answers
from smart_city.post_office.inbox import Delivery, Inbox, InboxLimits, Question
from smart_city.post_office.inbox.dispatch import Dispatcher
from smart_city.post_office.keep import Keep
from smart_city.post_office.log import ChannelLog, Stretch, bus
from smart_city.vocabulary import Position
from tests.support.inboxes import CHANNELS, LIMITS, a_question, text_of
from tests.support.logs import ROOMY
from tests.support.waiting import PATIENCE, until


class Agent:
    """A taker that remembers what it was given and takes no more than ``most`` at once."""

    def __init__(self, name: str = "agent", most: int = 64) -> None:
        self.name = name
        self.most = most
        self.given: list[Delivery] = []
        self.held: set[str] = set()
        self.stopped: list[str] = []
        self.is_broken = False
        self.is_paused = False
        self.refused = 0

    @property
    def room(self) -> int:
        return self.most - len(self.held)

    def deliver(self, delivery: Delivery) -> None:
        if self.is_broken:
            self.refused += 1
            raise RuntimeError("this agent takes nothing")
        self.given.append(delivery)
        self.held.add(delivery.delivery_id)

    def stop(self, delivery_id: str) -> None:
        self.stopped.append(delivery_id)
        self.held.discard(delivery_id)

    @property
    def heard(self) -> list[str]:
        return [text_of(delivery) for delivery in self.given]

    async def next(self, count: int = 1, seconds: float = PATIENCE) -> Delivery:
        """Waits until it was given so many altogether; the last of them."""
        await until(lambda: len(self.given) >= count, f"{self.name} is given {count}", seconds)
        return self.given[count - 1]


class Office:
    """One instance's part of the post office."""

    def __init__(
        self, valkey: Valkey, tasks: Tasks, limits: InboxLimits = LIMITS, *, name: str = "one",
        gather_seconds: float = 0.01, most_bytes: int = 100_000, poll_seconds: float = 0.05,
        instance_lease_seconds: float = 0.3, keep: Keep | None = None,
    ) -> None:  # fmt: skip
        self.valkey = valkey
        self.tasks = tasks
        self.name = name
        self.is_killed = False
        self.counters = Counters()
        self.announced: list[Stretch] = []
        self.subscriptions = Subscriptions(valkey, tasks, canary_seconds=0.2)
        self.keep = keep or Keep()
        self.log = ChannelLog(valkey, tasks, ROOMY, self.announced.append, keep=self.keep)
        self.inbox = Inbox(valkey, tasks, limits, channels=CHANNELS, instance_id=name, keep=self.keep)
        self.answers = Answers(
            valkey,
            tasks,
            self.log,
            self.inbox,
            self.counters,
            Traces(),
            gather_seconds=gather_seconds,
            most_bytes=most_bytes,
            keep=self.keep,
        )
        self.dispatcher = Dispatcher(
            self.inbox, self.answers, self.subscriptions, tasks, self.counters, Traces(), instance_id=name,
            instance_lease_seconds=instance_lease_seconds, poll_seconds=poll_seconds,
        )  # fmt: skip

    async def start(self) -> None:
        await self.subscriptions.start()
        await self.dispatcher.start()

    async def kill(self) -> None:
        """All its tasks stop where they are, as in a SIGKILL."""
        self.is_killed = True
        await self.tasks.close()

    async def close(self) -> None:
        await self.dispatcher.close()
        await self.subscriptions.close()

    async def ask(self, text: str = "", **more: Any) -> Question:
        """Queues a question of somebody whose connection lives."""
        question = a_question(text, **more)
        if question.route.connection_id:
            await self.connect(question.route.connection_id)
        await self.inbox.send_now(question)
        return question

    async def connect(self, connection_id: str) -> None:
        """A connection owns its log."""
        await self.valkey.command("HSET", self._owner(connection_id), "user_id", "somebody")

    async def disconnect(self, connection_id: str) -> None:
        """A connection has ended."""
        await self.valkey.command("DEL", self._owner(connection_id))

    async def logged(self, channel: str) -> list[dict[str, Any]]:
        """Everything in a log, decoded."""
        page = await self.log.read(channel, Position(0))
        return [json.loads(entry) for entry in page.entries]

    async def open_answers(self, channel: str) -> list[dict[str, Any]]:
        """What a joiner of a log gets of open answers."""
        page = await self.log.read(channel, None)
        return [json.loads(frame) for frame in page.streams]

    async def listen(self, channel: str) -> list[dict[str, Any]]:
        """Hears the parts of answers on a log's bus, from now on."""
        parts: list[dict[str, Any]] = []

        def hear(payload: bytes) -> None:
            heard = bus.parse(channel, payload)
            if isinstance(heard, bus.Delta):
                parts.append(json.loads(heard.frame))

        await self.subscriptions.listen(bus.bus_channel(channel), hear)
        return parts

    def _owner(self, connection_id: str) -> str:
        return self.valkey.key(f"owner:{{connection:{connection_id}}}")


@asynccontextmanager
async def an_office(
    valkey: Valkey, tasks: Tasks, *, name: str = "one", gather_seconds: float = 0.01,
    most_bytes: int = 100_000, poll_seconds: float = 0.05, keep: Keep | None = None, **limits: Any,
) -> AsyncIterator[Office]:  # fmt: skip
    """A started office; further names change the limits of its inboxes."""
    office = Office(
        valkey, tasks, replace(LIMITS, **limits), name=name, gather_seconds=gather_seconds,
        most_bytes=most_bytes, poll_seconds=poll_seconds, keep=keep,
    )  # fmt: skip
    await office.start()
    try:
        yield office
    finally:
        await office.close()


def attached(office: Office, name: str = "agent", most: int = 64, channel: str = "guide", **how: Any) -> Agent:
    """An agent that takes from an inbox of this office."""
    agent = Agent(name, most)
    office.dispatcher.attach(channel, agent, **how)
    return agent
