"""What goes on while a part fails: people ask, services publish, agents answer, and readers of every kind listen.

Everybody has a line of their own to the platform, which may fail for them alone. It drives and waits; what
it saw is judged by `invariants`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

from city_inspector.faulting_proxy import FaultingProxy
from tests.faults.instances import Instances
from tests.faults.javascript import Page
from tests.faults.others import Events, Listener, Publisher, SocketAgent, ToolAgent
from tests.faults.record import Got, Record, Told
from tests.faults.talker import Talker

GUIDE, CONTENT = "guide", "pillar:content"
CHANNELS = (GUIDE, CONTENT)
FLOW_SECONDS = 40.0
SETTLE_SECONDS = 30.0
LOST_SECONDS = 15.0
"""How long a question is waited for that the store may have lost: twice its lease and more."""
LANES = 4
Reader = Talker | Events | Listener | Page


class Load:
    """Everybody who takes part in one trial, by name, and their lines."""

    def __init__(self, instances: Instances, record: Record, *, buffers: int | None = None) -> None:
        self.lines: dict[str, FaultingProxy] = {}
        self.readers: dict[str, Reader] = {}
        self.publishers: dict[str, Publisher | Talker] = {}
        self.askers: dict[str, Talker] = {}
        self.agents: dict[str, SocketAgent | ToolAgent] = {}
        self.record = record
        self._instances = instances
        self._buffers = buffers
        self._stack = AsyncExitStack()
        self._saying: set[asyncio.Task[Told | None]] = set()
        self._pacing: list[asyncio.Task[None]] = []
        self._unsaid: list[str] = []

    @property
    def talkers(self) -> list[Talker]:
        """Everybody on a raw socket."""
        everybody = (*self.readers.values(), *self.publishers.values(), *self.askers.values())
        return [each for each in everybody if isinstance(each, Talker)]

    async def line(self, name: str) -> FaultingProxy:
        """A new line to all instances, beginning with another one than the line before."""
        ports = list(self._instances.ports.values())
        first = len(self.lines) % len(ports)
        proxy = FaultingProxy(*ports[first:], *ports[:first], receive_buffer=self._buffers)
        self.lines[name] = await self._stack.enter_async_context(proxy)
        return proxy

    async def start(self) -> None:
        """Lets everybody in, and begins when readers listen and agents are there."""
        await self._readers()
        await self._agents()
        await self._publishers()
        await self._askers()
        await self._until(self._deaf, "is not there yet")
        for name, pace in (("news", 0.12), ("desk", 0.07), ("packed-desk", 0.07)):
            self._pace(pace, self._publishing(self.publishers[name], CONTENT if name == "desk" else GUIDE))
        for name, channel in (("alice", GUIDE), ("bob", CONTENT)):
            self._pace(0.35, self._asking(self.askers[name], channel))

    async def _readers(self) -> None:
        for name, packed in (("reader", False), ("packed-reader", True)):
            token = await self.session(name)
            line = await self.line(name)
            self.readers[name] = Talker(name, token, line, self.record, channels=CHANNELS, packed=packed)
        token = await self.session("events")
        self.readers["events"] = Events("events", token, await self.line("events"), self.record, GUIDE)
        token = await self.session("listener")
        self.readers["listener"] = Listener("listener", token, await self.line("listener"), self.record, CONTENT)

        token = await self.session("page")
        self.readers["page"] = Page("page", token, await self.line("page"), self.record, GUIDE)

    async def _agents(self) -> None:
        token = await self.service("agents", "post_office.consume")
        for name in ("agent-1", "agent-2"):
            self.agents[name] = SocketAgent(name, token, await self.line(name), self.record, GUIDE)
        token = await self.service("tools", "post_office.consume")
        self.agents["tools"] = ToolAgent("tools", token, await self.line("tools"), self.record, CONTENT)

    async def _publishers(self) -> None:
        token = await self.service("news", "post_office.publish")
        self.publishers["news"] = Publisher("news", token, await self.line("news"), self.record)
        for name, packed in (("desk", False), ("packed-desk", True)):
            token = await self.service(name, "post_office.publish")
            self.publishers[name] = Talker(name, token, await self.line(name), self.record, packed=packed)

    async def _askers(self) -> None:
        for name, packed in (("alice", False), ("bob", True)):
            token = await self.session(name)
            self.askers[name] = Talker(name, token, await self.line(name), self.record, packed=packed)

    async def session(self, user_id: str, **arguments: object) -> str:
        """A new session's token."""
        created = await self._instances.call("traffic_cop.create_session", user_id=user_id, **arguments)
        return str(created["session_token"])

    async def service(self, realm: str, *scopes: str) -> str:
        """A new service token."""
        created = await self._instances.call("traffic_cop.create_service_token", realm=realm, scopes=list(scopes))
        return str(created["token"])

    # What is said

    def _pace(self, seconds: float, say: Callable[[int], Awaitable[Told | None]]) -> None:
        async def pacing() -> None:
            for number in itertools.count():
                self._say(say(number))
                await asyncio.sleep(seconds)

        self._pacing.append(asyncio.create_task(pacing()))

    def _say(self, saying: Awaitable[Told | None]) -> None:
        task = asyncio.ensure_future(saying)
        self._saying.add(task)
        task.add_done_callback(self._saying.discard)

    def _publishing(self, publisher: Publisher | Talker, channel: str) -> Callable[[int], Awaitable[Told | None]]:
        async def publish(number: int) -> Told | None:
            told = await publisher.say(channel, n=number)
            if told is None:
                self._unsaid.append(f"{publisher.name} was never told what became of its message {number}")
            return told

        return publish

    def _asking(self, asker: Talker, channel: str) -> Callable[[int], Awaitable[Told | None]]:
        async def ask(number: int) -> Told | None:
            told = await asker.say(channel, is_question=True, conversation_id=f"lane-{number % LANES}", message="?")
            if told is None:
                self._unsaid.append(f"{asker.name} was never told what became of its question {number}")
            return told

        return ask

    # Waiting

    async def flows(self) -> None:
        """Waits until everybody who listens has heard something new, and everybody who asks was answered again."""
        heard = {name: len(self._got(name)) for name in self.readers}
        answered = {name: len(self._answers(name)) for name in self.askers}

        def silent() -> list[str]:
            return [name for name, count in heard.items() if len(self._got(name)) <= count] + [
                name for name, count in answered.items() if len(self._answers(name)) <= count
            ]

        await self._until(silent, "hears nothing", FLOW_SECONDS)

    async def settle(self, *, loses: bool) -> list[str]:
        """Says no more, and waits until everybody has what they are owed; who has not, in sentences.

        A question that the store may have lost is waited for, and need not be answered.
        """
        for task in self._pacing:
            task.cancel()
        await asyncio.gather(*self._pacing, return_exceptions=True)
        if self._saying:
            await asyncio.wait(self._saying, timeout=SETTLE_SECONDS)
        waiting = self._unsaid + [f"{len(self._saying)} messages are still not answered"] * bool(self._saying)
        waiting += await self._left(self._unanswered, LOST_SECONDS if loses else SETTLE_SECONDS) * (not loses)
        ends = {channel: await self.publishers["news"].say(channel, n=-1) for channel in CHANNELS}
        waiting += [f"nothing can be published to {channel} any more" for channel, end in ends.items() if end is None]
        waiting += await self._left(lambda: self._behind({name: end for name, end in ends.items() if end is not None}))
        return waiting

    def _unanswered(self) -> list[str]:
        over = {frame.question for frame in self.record.answered if frame.is_final} | self.record.forgotten
        return [
            f"{told.key} waits for an answer"
            for told in self.record.safe
            if told.status == "queued" and told.message_id not in over
        ]

    def _behind(self, ends: dict[str, Told]) -> list[str]:
        return [
            f"{name} waits for {end.position} of {channel}"
            for name, reader in self.readers.items()
            for channel, end in ends.items()
            if channel in reader.channels and end.message_id not in {got.message_id for got in self._got(name)}
        ]

    async def _left(self, who: Callable[[], list[str]], seconds: float = SETTLE_SECONDS) -> list[str]:
        """Waits until nobody is left; who is when the deadline comes."""
        deadline = time.monotonic() + seconds
        left = who()
        while left and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
            left = who()
        return left

    async def _until(self, who: Callable[[], Sequence[str]], what: str, seconds: float = FLOW_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while left := who():
            assert time.monotonic() < deadline, f"within {seconds} s: {', '.join(left)} {what}"
            await asyncio.sleep(0.01)

    def _got(self, name: str) -> list[Got]:
        return [each for each in self.record.heard[name] if isinstance(each, Got)]

    def _answers(self, name: str) -> set[str]:
        return {frame.question for frame in self.record.answered if frame.asker == name and frame.is_final}

    def _deaf(self) -> list[str]:
        """Who does not listen yet; a page says so with its first publication."""
        joined = {name: {getattr(each, "channel", "") for each in self.record.heard[name]} for name in self.readers}
        return [
            name
            for name, reader in self.readers.items()
            if not isinstance(reader, Page) and not reader.channels <= joined[name]
        ] + [each.name for each in self.talkers if not each.link]

    async def close(self) -> None:
        """Everybody leaves."""
        for task in self._saying:
            task.cancel()
        everybody = (*self.readers.values(), *self.publishers.values(), *self.askers.values(), *self.agents.values())
        await asyncio.gather(*(each.close() for each in everybody))
        await self._stack.aclose()
