"""The fleet: which instances live, what each counts, and a way to ask all of them.

Everything that can die with an instance hangs on its lease here. Figures of others are a few seconds old;
`ask` is exact and for operators, not for the hot path.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.ticks import tick
from foundations.valkey.client import Valkey
from foundations.valkey.scripts import Script
from foundations.valkey.slots import never
from foundations.valkey.subscriptions import Subscriptions

_log = logging.getLogger(__name__)
_BUS = "bus:fleet"
BEATS_A_LEASE = 5
ASK_SECONDS = 1.0


class Figures(Struct, frozen=True, kw_only=True):
    """What one instance counts. ``channels``: subscribers of each channel that is not private."""

    v: int = 1
    instance_id: str = ""
    host: str = ""
    pid: int = 0
    started_at: str = ""
    connections: int = 0
    channels: Mapping[str, int] = {}


class _Question(Struct, kw_only=True):
    v: int = 1
    id: str
    asker: str
    ask: str
    about: dict[str, Any]


class _Answer(Struct, kw_only=True):
    v: int = 1
    id: str
    answer: Any


Responder = Callable[[Mapping[str, Any]], Any]


class Fleet:
    """This instance's place among the others. ``member`` is its name in this life: ``INSTANCE#INCARNATION``."""

    def __init__(
        self, valkey: Valkey, subscriptions: Subscriptions, tasks: Tasks, *, member: str,
        lease_seconds: float, figures: Callable[[], Figures],
    ) -> None:  # fmt: skip
        self._valkey = valkey
        self._subscriptions = subscriptions
        self._tasks = tasks
        self._lease = lease_seconds
        self._figures = figures
        self._script = Script.read("smart_city.post_office.fleet", "beat")
        self._keys = [
            valkey.key("{instances}:leases"),
            valkey.key("{instances}:figures"),
            valkey.key("{instances}:estates"),
            never(valkey.key("{instances}")),
        ]
        self._quiet_until = 0.0
        self._last_beat = 0.0
        self._open: dict[str, tuple[list[Any], asyncio.Event]] = {}
        self.member = member
        self.is_away = False
        self.living: dict[str, Figures] = {}
        self.responders: dict[str, Responder] = {}
        self.lapsed: list[Callable[[str], None]] = []
        self.returned: list[Callable[[], None]] = []
        """Told when others may have given this instance up, or the store has lost what it wrote."""

    async def start(self) -> None:
        """Joins the fleet, and keeps the membership alive."""
        await self._subscriptions.listen(_BUS, self._hear_question)
        await self._subscriptions.listen(f"{_BUS}:{self.member}", self._hear_answer)
        await self._beat()
        self._tasks.start("heartbeat of the instance", self._keep)

    async def leave(self) -> None:
        """Ends the membership; nothing has to be reclaimed from this instance."""
        for key, command in zip(self._keys[:2], ("ZREM", "HDEL"), strict=True):
            await self._valkey.command(command, key, self.member)

    async def settle(self, member: str) -> None:
        """What a dead member left behind is taken over: nobody has to claim it again."""
        await self._valkey.command("ZREM", self._keys[2], member)

    async def _keep(self) -> None:
        while True:
            await tick(self._lease / BEATS_A_LEASE)
            try:
                await self._beat()
                self.is_away = False
            except CityError as error:
                if not self.is_away:
                    _log.warning("this instance cannot tell the others that it lives: %s", error)
                self.is_away = True

    async def _beat(self) -> None:
        """Renews the lease and looks for instances whose own has lapsed.

        After the store was away every lease has run out: nobody is given up for one full lease, so that the
        living can come back first.
        """
        now = asyncio.get_running_loop().time()
        was_away = now - self._last_beat > self._lease
        if was_away:
            self._quiet_until = now + self._lease
        claims = int(now >= self._quiet_until)
        figures = msgspec.json.encode(self._figures())
        lapsed, living, is_new = await self._valkey.run(
            self._script, self._keys, [self.member, figures, round(self._lease * 1000), claims]
        )
        self._last_beat = asyncio.get_running_loop().time()
        self.living = {
            member.decode(): msgspec.json.decode(figures, type=Figures)
            for member, figures in zip(living[::2], living[1::2], strict=True)
        }
        if was_away or is_new:
            for tell_return in self.returned:
                tell_return()
        for raw in lapsed:
            _log.warning("the instance %s is gone; what it held is taken over", raw.decode())
            for tell in self.lapsed:
                tell(raw.decode())

    def subscribers(self, channel: str) -> int:
        """Connections that listen to a channel on all instances, a few seconds old."""
        own = self._figures()
        others = (figures for member, figures in self.living.items() if member != self.member)
        return own.channels.get(channel, 0) + sum(figures.channels.get(channel, 0) for figures in others)

    # Asking

    async def ask(self, ask: str, about: Mapping[str, Any]) -> list[Any]:
        """Asks every living instance, this one too; whoever has not answered within a second is left out.

        Who lives is looked up first: one that joined a moment ago is asked as well.
        """
        await self._beat()
        question = _Question(id=secrets.token_hex(8), asker=self.member, ask=ask, about=dict(about))
        answers: list[Any] = []
        complete = asyncio.Event()
        self._open[question.id] = (answers, complete)
        try:
            await self._valkey.command("SPUBLISH", self._valkey.key(_BUS), msgspec.json.encode(question))
            async with asyncio.timeout(ASK_SECONDS):
                await complete.wait()
        except TimeoutError:
            _log.warning("%d of %d instances answered %s", len(answers), len(self.living), ask)
        finally:
            del self._open[question.id]
        return answers

    def _hear_question(self, payload: bytes) -> None:
        question = msgspec.json.decode(payload, type=_Question)
        responder = self.responders.get(question.ask)
        if responder is not None:
            answer = _Answer(id=question.id, answer=responder(question.about))
            bus = self._valkey.key(f"{_BUS}:{question.asker}")
            self._tasks.spawn("answer the fleet", self._answer(bus, msgspec.json.encode(answer)))

    async def _answer(self, bus: str, answer: bytes) -> None:
        try:
            await self._valkey.command("SPUBLISH", bus, answer)
        except CityError as error:
            _log.warning("another instance gets no answer: %s", error)

    def _hear_answer(self, payload: bytes) -> None:
        answer = msgspec.json.decode(payload, type=_Answer)
        if answer.id in self._open:
            answers, complete = self._open[answer.id]
            answers.append(answer.answer)
            if len(answers) >= len(self.living):
                complete.set()
