"""The hub against a model of what subscribers may see, whatever happens to messages, places and the store.

Real logs, hubs and subscriptions run over a real Valkey. The model knows what every log holds, for nothing is written
while the store changes; a reader knows what it was told and what it has seen, and is believed by nobody else.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pytest

from foundations.errors import CityError
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.gateway.feed import Feed
from smart_city.post_office.gateway.joining import Joined
from smart_city.post_office.keep import Held
from smart_city.post_office.log import Appended, ChannelLog, Entry
from smart_city.vocabulary import Position
from tests.support.hubs import Fate, Instance, Listener, instances
from tests.support.lives import Copy, begin_new_life, copy_of
from tests.support.logs import PATIENT, some_limits
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, eventually, until

LIMITS = some_limits(count=30)
CHANNELS = ("guide", "user:ann")
READERS = range(4)
HUBS = range(2)
WRITERS = range(3)
LIVES = 12
"""A chain keeps sixteen epochs; a position in an older one is refused, which is another matter."""
STEPS = 200
PEACE = {
    "leave": 24, "accidents": 0, "release": 0, "compare": 0, "entries_expire": 0, "forget": 0, "copy": 0, "replace": 0,
    "promote": 0, "rest": 16,
}  # fmt: skip
Value = TypeVar("Value")


class Seen(NamedTuple):
    """A publication at its place."""

    offset: int
    epoch: str
    number: int

    @property
    def position(self) -> Position:
        return Position(self.offset, self.epoch)


@dataclass
class Truth:
    """One log as the store has it. ``life`` counts what else is done to it than appending, and is odd meanwhile."""

    entries: list[Seen] = field(default_factory=list)
    life: int = 0

    def holds(self, position: Position) -> bool:
        """Whether what had led to this position is still what leads there."""
        return position.offset == 0 or (
            position.offset <= len(self.entries) and self.entries[position.offset - 1].epoch == position.epoch
        )


class Client(Listener):
    """A listener that minds resets without need: whoever stands well is not to be told otherwise."""

    def __init__(self, truth: Callable[[], Truth], wrong: list[AssertionError]) -> None:
        super().__init__()
        self.start = Position(0)
        self._truth = truth
        self._wrong = wrong

    def send(self, frame: bytes) -> None:
        before = self.frames[-1] if self.frames else self.start._asdict()
        super().send(frame)
        reset, truth = self.frames[-1], self._truth()
        if reset.get("type") == "reset" and reset["reason"] != "trimmed" and not truth.life % 2:
            position = Position(before["offset"], before["epoch"])
            if position.offset and truth.holds(position):
                self._wrong.append(AssertionError(f"{position} was good, and was reset: {reset}"))


@dataclass
class Visit:
    """One subscription, from its ack to its end."""

    instance: Instance
    feed: Feed
    joined: Joined
    listener: Listener
    start: Position
    frames_at_end: int | None = None

    def end(self) -> None:
        self.instance.joining.end(self.feed, self.joined.subscription)
        self.frames_at_end = len(self.listener.frames)


@dataclass
class Reader:
    """One client on one channel. What it has seen, without a hole, ends at its position."""

    position: Position | None = None
    seen: list[Seen] = field(default_factory=list)
    visit: Visit | None = None
    taken: int = 0
    visits: list[Visit] = field(default_factory=list)
    joining: asyncio.Task[None] | None = None

    def take_in(self) -> None:
        """Reads what has come: each offset follows the one before, unless a reset says otherwise."""
        if self.visit is None:
            return
        frames = self.visit.listener.frames
        for frame in frames[self.taken :]:
            position = Position(frame["offset"], frame["epoch"])
            if frame.get("type") == "reset":
                assert frame["reason"] in {"trimmed", "unknown_epoch", "diverged", "future"}
                self.seen.clear()
            else:
                assert self.position is not None
                assert position.offset == self.position.offset + 1, "twice, out of order, or with a hole"
                self.seen.append(Seen(*position, frame["n"]))
            self.position = position
        self.taken = len(frames)

    def begin(self, visit: Visit) -> None:
        self.visit, self.taken, self.position = visit, 0, visit.start
        self.visits.append(visit)

    def leave(self) -> None:
        if self.visit is not None:
            self.take_in()
            self.visit.end()
            self.visit = None

    def go_back(self, steps: int) -> Position | None:
        """Forgets the newest things it has seen; where it is then."""
        self.take_in()
        del self.seen[max(0, len(self.seen) - steps) :]
        if self.seen:
            self.position = self.seen[-1].position
        return self.position


class World:
    """The store, its instances and everybody who reads."""

    def __init__(self, server: ValkeyServer, admin: Valkey, hubs: list[Instance], tasks: Tasks) -> None:
        self.server = server
        self.admin = admin
        self.hubs = hubs
        self.look = ChannelLog(admin, tasks, LIMITS, lambda _: None)
        self.writers = [hub.log for hub in hubs] + [ChannelLog(admin, tasks, LIMITS, lambda _: None)]
        self.tasks = tasks
        self.truth = {channel: Truth() for channel in CHANNELS}
        self.ever: dict[str, set[Seen]] = {channel: set() for channel in CHANNELS}
        self.readers = {(reader, channel): Reader() for reader in READERS for channel in CHANNELS}
        self.copies: list[tuple[Copy, dict[str, list[Seen]]]] = []
        self.numbers = itertools.count(1)
        self.lives = 0
        self.wrong: list[AssertionError] = []

    # Writing

    async def write(self, writer: int, channel: str, count: int, is_large: bool) -> None:
        for _ in range(count):
            number = next(self.numbers)
            data = f'{{"n":{number}'.ljust(70_000 if is_large else 0) + "}"

            def then(outcome: Appended | Exception | Held, number: int = number) -> None:
                if isinstance(outcome, Held):
                    return
                assert isinstance(outcome, Appended), outcome
                self.appended(channel, Seen(outcome.offset, outcome.epoch, number))

            self.writers[writer].append(channel, Entry(data.encode(), f"m{number}"), then)

    def appended(self, channel: str, seen: Seen) -> None:
        entries = self.truth[channel].entries
        self.ever[channel].add(seen)
        while len(entries) < seen.offset:  # replies of several writers come in any order
            entries.append(Seen(0, "", 0))
        assert entries[seen.offset - 1] == Seen(0, "", 0), "two publications at one offset"
        entries[seen.offset - 1] = seen

    async def nothing_is_on_its_way(self) -> None:
        for writer in self.writers:
            assert await writer.flush(5) == 0

    # Reading

    async def join(self, reader: int, channel: str, hub: int, how: str, wait: int) -> None:
        who = self.readers[reader, channel]
        if who.joining is None or who.joining.done():
            who.joining = self.tasks.spawn("join", self.tries_to_join(who, self.hubs[hub], channel, how, wait))

    async def tries_to_join(self, *how: Any) -> None:
        """Keeps what is wrong with an ack for the end: nobody awaits a join."""
        try:
            await self.joins(*how)
        except AssertionError as wrong:
            self.wrong.append(wrong)

    async def joins(self, who: Reader, instance: Instance, channel: str, how: str, wait: int) -> None:
        life, since = self.truth[channel].life, None
        before = await self.look.read(channel, None)
        if how == "back":
            who.leave()
            since = who.go_back(3)
        elif how != "new":
            who.take_in()
            since = who.position
        if since is not None and how == "bare":
            since = Position(since.offset)
        try:
            feed, page = await instance.joining.prepare(channel, since)
        except CityError:
            return
        try:
            for _ in range(wait):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            instance.joining.give_back(feed)
            raise
        listener = Client(lambda: self.truth[channel], self.wrong)
        joined = instance.joining.decide(feed, page, listener, since)
        listener.start = joined.subscription.position
        who.leave()
        is_same = how not in {"new", "bare"} and joined.recovered
        who.seen = [seen for seen in who.seen if is_same and seen.offset <= joined.subscription.position.offset]
        who.begin(Visit(instance, feed, joined, listener, joined.subscription.position))
        instance.joining.begin(feed, joined)
        after = await self.look.read(channel, None)
        if life == self.truth[channel].life and not life % 2:
            self.check_ack(channel, joined, since, who.visits[-1].start, before.newest, after.newest, after.first_kept)

    def check_ack(
        self, channel: str, joined: Joined, since: Position | None, start: Position, before: Position, after: Position,
        first_kept: int,
    ) -> None:  # fmt: skip
        """What an ack says while nothing is done to the store."""
        if not self.truth[channel].holds(start):
            return  # its feed has not heard yet that the store was replaced: a reset follows
        assert start.offset <= after.offset
        if since is None:
            assert joined.recovered is None
        elif joined.recovered:
            assert start.offset == since.offset
            assert start.epoch == since.epoch or not since.epoch
            assert start.offset + joined.missed <= after.offset
            assert start.offset + joined.missed >= before.offset or joined.missed == 0
        elif joined.reason == "trimmed":
            assert since.offset < first_kept - 1
            assert before.offset <= start.offset
        elif joined.reason == "future":
            assert since.offset > before.offset
        else:
            assert not self.truth[channel].holds(since) or since.offset == 0, f"{since} was good: {joined.reason}"
            assert before.offset <= start.offset

    async def leave(self, reader: int, channel: str) -> None:
        who = self.readers[reader, channel]
        if who.joining is not None:
            who.joining.cancel()
        who.leave()

    async def road(self, reader: int, channel: str, is_open: bool) -> None:
        visit = self.readers[reader, channel].visit
        if visit is not None and is_open:
            visit.listener.road.set()
        elif visit is not None:
            visit.listener.road.clear()
            visit.instance.joining.fall_back(visit.feed, visit.joined.subscription)

    # Accidents

    async def accidents(self, hub: int, fates: list[Fate], replies: list[Fate]) -> None:
        coming, answered = itertools.cycle(fates), itertools.cycle(replies)
        self.hubs[hub].bus.fate = lambda: next(coming)
        self.hubs[hub].reply_fate = lambda: next(answered)

    async def release(self, hub: int, seed: int) -> None:
        self.hubs[hub].bus.release(seed)

    async def compare(self, hub: int) -> None:
        self.hubs[hub].hub.check_tails()

    async def pause(self, milliseconds: int) -> None:
        await asyncio.sleep(milliseconds / 1000)

    # The store

    async def entries_expire(self, channel: str) -> None:
        await self.admin.command("DEL", self.admin.key(f"log:{{{channel}}}:entries"))

    async def forget(self, channel: str) -> None:
        await self.nothing_is_on_its_way()
        log = self.admin.key(f"log:{{{channel}}}:")
        self.truth[channel] = Truth(life=self.truth[channel].life + 1)
        await self.admin.command("DEL", log + "meta", log + "entries")
        self.truth[channel].life += 1

    async def copy(self) -> None:
        await self.nothing_is_on_its_way()
        truth = {channel: list(truth.entries) for channel, truth in self.truth.items()}
        self.copies.append((await copy_of(self.admin), truth))

    async def replace(self, which: int) -> None:
        """A failover to a replica that lacks a tail."""
        if self.copies and self.lives < LIVES:
            copy, truth = self.copies[which % len(self.copies)]
            await self.change(copy)
            for channel, entries in truth.items():
                self.truth[channel].entries = list(entries)

    async def promote(self) -> None:
        if self.lives < LIVES:
            await self.change(None)

    async def change(self, copy: Copy | None) -> None:
        await self.nothing_is_on_its_way()
        self.lives += 1
        for truth in self.truth.values():
            truth.life += 1
        await begin_new_life(self.admin, copy)
        for truth in self.truth.values():
            truth.life += 1

    async def kill(self) -> None:
        if self.lives < LIVES:
            await self.nothing_is_on_its_way()
            self.lives += 1
            self.server.restart()
            await PATIENT.until_answered(self.admin.ping)

    # The end

    async def rest(self) -> None:
        await self.come_to_rest(compare=False)

    async def come_to_rest(self, *, compare: bool) -> None:
        """The bus behaves, everybody may read; all who are there get to the newest, and have seen nothing else."""
        for index in HUBS:
            await self.accidents(index, ["pass"], ["pass"])
        for who in self.readers.values():
            if who.joining is not None:
                await asyncio.wait([who.joining], timeout=PATIENCE)
                assert who.joining.done()
            if who.visit is not None:
                who.visit.listener.road.set()
        await self.nothing_is_on_its_way()
        for instance in self.hubs:
            await until(lambda: instance.bus.is_hearing, "the bus is heard")  # noqa: B023
            if compare:
                instance.hub.check_tails()
        for (_, channel), who in self.readers.items():
            if who.visit is not None:
                await self.arrives(who, channel)

    async def arrives(self, who: Reader, channel: str) -> None:
        page = await self.look.read(channel, None)

        def is_there() -> bool:
            who.take_in()
            return who.position == page.newest or who.position == Position(0) == Position(page.newest.offset)

        await until(is_there, f"a reader gets to {page.newest} from {who.position}")
        self.check_seen(who, channel)

    def check_seen(self, who: Reader, channel: str) -> None:
        """What was seen without a hole is what the log has there."""
        entries = self.truth[channel].entries
        for seen in who.seen:
            assert seen in self.ever[channel]
            assert entries[seen.offset - 1] == seen, "it was told that it had missed nothing"

    async def everybody_comes_back(self) -> None:
        """Whoever was away is told the truth about what it has seen."""
        for (reader, channel), who in self.readers.items():
            if who.visit is None and who.position is not None:
                await self.join(reader, channel, reader % len(HUBS), "own", 0)
                assert who.joining is not None
                await asyncio.wait_for(who.joining, PATIENCE)
                await self.arrives(who, channel)

    async def everybody_leaves(self) -> None:
        for who in self.readers.values():
            who.leave()
        for instance in self.hubs:
            await until(lambda: len(instance.tasks) <= 2, "nothing is done in the background")  # noqa: B023
            assert not instance.hub._feeds

            async def is_left(instance: Instance = instance) -> bool:
                return not sum([await instance.listeners_at(channel) for channel in CHANNELS])

            await eventually(is_left, "nothing is heard any more")
        for who in self.readers.values():
            for visit in who.visits:
                assert visit.frames_at_end == len(visit.listener.frames), "something came after the end"


WEIGHTS = {
    "write": 30, "join": 24, "pause": 22, "leave": 4, "road": 8, "accidents": 7, "release": 6, "compare": 3,
    "entries_expire": 2, "forget": 0.3, "copy": 3, "replace": 2.5, "promote": 3,
}  # fmt: skip


def a_schedule(seed: int, **more: float) -> Iterator[tuple[Any, ...]]:
    """Steps drawn by weight; the first two bring everybody in."""
    chance = random.Random(seed)  # noqa: S311  # keeps no secret
    weights = WEIGHTS | more

    def some(choices: Sequence[Value], fewest: int = 1, most: int = 5) -> list[Value]:
        return [chance.choice(choices) for _ in range(chance.randint(fewest, most))]

    draw: dict[str, Callable[[], tuple[Any, ...]]] = {
        "write": lambda: (
            chance.choice(WRITERS), chance.choice(CHANNELS), chance.randint(1, 6), chance.random() < 0.05
        ),
        "join": lambda: (
            chance.choice(READERS), chance.choice(CHANNELS), chance.choice(HUBS),
            chance.choice(("new", "own", "own", "own", "back", "back", "bare")), chance.randint(0, 3),
        ),
        "pause": lambda: (chance.choice((0, 0, 1, 2, 5)),),
        "leave": lambda: (chance.choice(READERS), chance.choice(CHANNELS)),
        "road": lambda: (chance.choice(READERS), chance.choice(CHANNELS), chance.random() < 0.6),
        "accidents": lambda: (
            chance.choice(HUBS), some(("pass", "pass", "lose", "double", "hold")), some(("pass", "lose", "double"))
        ),
        "release": lambda: (chance.choice(HUBS), chance.randrange(100)),
        "compare": lambda: (chance.choice(HUBS),),
        "entries_expire": lambda: (chance.choice(CHANNELS),),
        "forget": lambda: (chance.choice(CHANNELS),),
        "replace": lambda: (chance.randrange(4),),
    }  # fmt: skip
    for reader, channel in itertools.product(READERS, CHANNELS):
        yield "join", reader, channel, chance.choice(HUBS), "new", 0
    for name in chance.choices(list(weights), list(weights.values()), k=STEPS):
        yield name, *(draw[name]() if name in draw else ())


async def play(server: ValkeyServer, schedule: Iterable[tuple[Any, ...]], *, compare: bool = True) -> None:
    """Carries out a schedule, and then everybody comes to rest, comes back, and leaves."""
    tasks = Tasks("world")
    admin = await Valkey.connect(server.url, prefix=f"{secrets.token_hex(4)}:", timeout=5)
    try:
        async with instances(admin, len(HUBS), limits=LIMITS) as started:
            world = World(server, admin, started, tasks)
            for name, *arguments in schedule:
                await getattr(world, name)(*arguments)
            await world.come_to_rest(compare=compare)
            await world.everybody_comes_back()
            await world.everybody_leaves()
            assert world.wrong == []
    finally:
        await tasks.close()
        await admin.close()


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendfsync="no") as server:
        yield server


@pytest.mark.parametrize("seed", range(40))
def test_subscribers_see_everything_once_and_in_order_or_are_told(server: ValkeyServer, seed: int) -> None:
    asyncio.run(play(server, a_schedule(seed)))


@pytest.mark.parametrize("seed", range(100, 106))
def test_the_same_with_a_store_that_is_killed_and_restarted(server: ValkeyServer, seed: int) -> None:
    asyncio.run(play(server, a_schedule(seed, kill=3)))


@pytest.mark.parametrize("seed", range(200, 206))
def test_what_no_accident_has_met_arrives_without_any_comparison(server: ValkeyServer, seed: int) -> None:
    asyncio.run(play(server, a_schedule(seed, **PEACE), compare=False))
