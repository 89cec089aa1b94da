"""The log against a model of it: whatever happens to writers and to the store, no position is judged wrongly.

The model knows what survives in the store; the store has to find out. What it is asked is asked of the real
scripts on a real Valkey, which is restarted, promoted, and failed over to a copy that lacks a tail.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.log import ChannelLog, Entry, LogLimits, Page
from smart_city.post_office.log.calls import Answer, AppendCall, Post, append_call, log_script, read_answers
from smart_city.vocabulary import Position
from tests.support.valkey import ValkeyServer

COUNT, SIZE = 8, 600
LIMITS = LogLimits.within(count=COUNT, size=SIZE, age=3600, resume_window=3600)
EPOCHS_KEPT = 16
CHANNELS = ("guide", "user:ann", "connection:c1")
WRITERS = ("w1", "w2", "w3")
Value = TypeVar("Value")


# Many keys in one round trip: the model looks at the store after every step.
DUMP = """
local dump = {}
for _, key in ipairs(redis.call('KEYS', '*')) do
  dump[#dump + 1], dump[#dump + 2] = key, redis.call('DUMP', key)
end
return dump"""
RESTORE = "for i = 1, #ARGV, 2 do redis.call('RESTORE', ARGV[i], 0, ARGV[i + 1]) end"
ENTRIES = """
local logs = {}
for i, channel in ipairs(ARGV) do
  logs[i] = {}
  for j, entry in ipairs(redis.call('XRANGE', 'log:{' .. channel .. '}:entries', '-', '+')) do
    logs[i][j] = {entry[1], entry[2][2]}
  end
end
return logs"""


class Handed(NamedTuple):
    """A position somebody was given, and all publications of the log up to it, each with its epoch.

    With it, since a call that arrives again after its effect was lost writes the same data another time.
    """

    position: Position
    seen: tuple[tuple[bytes, str], ...]


class Known(NamedTuple):
    digest: str
    message_id: str
    offset: int
    epoch: str


@dataclass
class Log:
    """One log as it should be. ``past`` holds all it ever held, also what is not kept any more, and in which epoch."""

    chain: list[tuple[str, int]] = field(default_factory=list)
    past: list[tuple[bytes, str]] = field(default_factory=list)
    first: int = 1
    generation: int = 0
    writers: dict[str, tuple[int, Answer]] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return len(self.past)

    def data(self, since: int) -> list[bytes]:
        return [data for data, _ in self.past[since:]]

    def touch(self, generation: int, epoch: str) -> None:
        """Begins an epoch when the store is another one than before."""
        if self.generation != generation:
            assert epoch not in {name for name, _ in self.chain}
            self.chain = [*self.chain, (epoch, self.last + 1)][-EPOCHS_KEPT:]
            self.generation = generation

    def add(self, data: list[bytes]) -> None:
        self.past += [(each, self.chain[-1][0]) for each in data]
        self.first = max(self.first, self.last - COUNT + 1)
        while self.first < self.last and sum(map(len, self.data(self.first - 1))) > SIZE:
            self.first += 1

    def epoch_of(self, offset: int) -> str:
        return next((name for name, start in reversed(self.chain) if start <= offset), self.chain[0][0])

    def judge(self, position: Position) -> str:
        """The rule as the design states it: in a known epoch, below the next one's start, and kept."""
        names = [name for name, _ in self.chain]
        if position.epoch and position.epoch not in names:
            return "unknown_epoch"
        following = self.chain[names.index(position.epoch) + 1 :] if position.epoch else []
        if following and position.offset >= following[0][1]:
            return "diverged"
        if position.offset > self.last:
            return "future"
        return "trimmed" if position.offset < self.first - 1 else ""


@dataclass
class Store:
    """What survives together: the logs, the keys, and who owns which connection."""

    logs: dict[str, Log] = field(default_factory=dict)
    keys: dict[str, dict[str, Known]] = field(default_factory=lambda: {channel: {} for channel in CHANNELS})
    owners: set[str] = field(default_factory=set)


class Sent(NamedTuple):
    """A call that was made: the very same may arrive again."""

    writer: str
    sequence: int
    call: AppendCall


posts = st.lists(
    st.tuples(
        st.sampled_from(CHANNELS),
        st.sampled_from(("", "", "k1", "k2", "k3")),
        st.sampled_from(("d1", "d2")),
        st.sampled_from((30, 30, 30, 250, 700)),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


class LogMachine(RuleBasedStateMachine):
    """Writers, readers and a store that fails; each rule compares the real log with the model."""

    server: ValkeyServer

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store = Store()
        self.generations = itertools.count(1)
        self.generation = next(self.generations)
        self.numbers = itertools.count(1)
        self.sequences = itertools.count(1)
        self.sent: list[Sent] = []
        self.handed: dict[str, list[Handed]] = {channel: [Handed(Position(0), ())] for channel in CHANNELS}
        self.copies: list[tuple[Store, list[bytes]]] = []
        self.script = log_script("append")
        self.has_restarted = False
        """Once is enough for one story: it takes as long as all the rest."""

    def wait(self, coroutine: Coroutine[Any, Any, Value]) -> Value:
        return self.runner.run(coroutine)

    @initialize()
    def begin(self) -> None:
        self.admin = redis.Redis(unix_socket_path=str(self.server.socket))
        self.admin.flushall()
        self.connect()

    def connect(self) -> None:
        async def opened() -> tuple[Valkey, Tasks, ChannelLog]:
            valkey, tasks = await Valkey.connect(self.server.url, timeout=10), Tasks("model")
            return valkey, tasks, ChannelLog(valkey, tasks, LIMITS, lambda stretch: None)

        self.valkey, self.tasks, self.log = self.wait(opened())

    def teardown(self) -> None:
        self.wait(self.tasks.close())
        self.wait(self.valkey.close())
        self.admin.close()
        self.runner.close()

    # Writing

    @rule(writer=st.sampled_from(WRITERS), channel=st.sampled_from(CHANNELS), number=st.integers(1, 6))
    def append_to_one(self, writer: str, channel: str, number: int) -> None:
        self.append(writer, [(channel, "", "", 30, False)] * number)

    @rule(writer=st.sampled_from(WRITERS), drawn=posts)
    def append_to_many(self, writer: str, drawn: list[tuple[str, str, str, int, bool]]) -> None:
        self.append(writer, drawn)

    def append(self, writer: str, drawn: list[tuple[str, str, str, int, bool]]) -> None:
        """Sends a round, after a replica has heard what came before it."""
        self.copies = [*self.copies[-2:], (copy.deepcopy(self.store), self.admin.eval(DUMP, 0))]
        by_channel: dict[str, list[Post]] = {}
        for channel, key, digest, size, is_guarded in drawn:
            number = next(self.numbers)
            entry = Entry(f"{number};".encode().ljust(size, b"x"), f"m{number}", key, digest)
            needs_owner = is_guarded and channel.startswith("connection:")
            by_channel.setdefault(channel, []).append(Post(entry, lambda _: None, needs_owner))
        sequence = next(self.sequences)
        call = append_call(by_channel, slot=0, writer=writer, sequence=sequence, prefix="", limits=LIMITS)
        self.sent.append(Sent(writer, sequence, call))
        for (channel, mine), answer in zip(by_channel.items(), self.run(call), strict=True):
            self.expect_appended(channel, writer, sequence, mine, answer)

    @precondition(lambda machine: machine.sent)
    @rule(ago=st.integers(0, 5))
    def a_call_arrives_again(self, ago: int) -> None:
        """The last call of a writer, or one that was given up long ago, reaches the store once more."""
        again = self.sent[-1 - ago % len(self.sent)]
        for (channel, mine), answer in zip(again.call.posts.items(), self.run(again.call), strict=True):
            log = self.store.logs.get(channel)
            seen, told = log.writers.get(again.writer, (0, None)) if log else (0, None)
            if seen == again.sequence:
                assert answer == told
            elif seen > again.sequence:
                assert answer.error
            else:  # what it did was lost with its store, or never was
                self.expect_appended(channel, again.writer, again.sequence, mine, answer)

    def run(self, call: AppendCall) -> list[Answer]:
        return read_answers(self.wait(self.valkey.run(self.script, call.keys, call.arguments())))

    def expect_appended(self, channel: str, writer: str, sequence: int, mine: list[Post], answer: Answer) -> None:
        """Compares an answer with what the model says, and does to the model what was done to the log."""
        log = copy.deepcopy(self.store.logs.get(channel, Log()))
        log.touch(self.generation, answer.e)
        keys = dict(self.store.keys[channel])
        fresh: list[Entry] = []
        aside: list[tuple[object, ...]] = []
        for index, (entry, _, needs_owner, *_) in enumerate(mine):
            known = keys.get(entry.key) if entry.key else None
            if known is not None and known.digest == entry.digest:
                aside.append((index, "duplicate", known.offset, known.epoch, known.message_id))
            elif known is not None:
                aside.append((index, "conflict", 0, "", ""))
            elif needs_owner and channel not in self.store.owners:
                aside.append((index, "gone", 0, "", ""))
            else:
                fresh.append(entry)
                if entry.key:
                    offset = log.last + len(fresh)
                    keys[entry.key] = Known(entry.digest, entry.message_id, offset, log.chain[-1][0])
        told = [(each.index, each.why, each.offset, each.epoch, each.message_id) for each in answer.x]
        assert told == aside
        assert not answer.error
        if not fresh:
            assert (answer.e, answer.f, answer.l) == ("", 0, 0)
            return
        assert (answer.f, answer.l) == (log.last + 1, log.last + len(fresh))
        assert (answer.e, answer.s) == log.chain[-1]
        log.add([entry.data for entry in fresh])
        log.writers[writer] = (sequence, answer)
        self.store.logs[channel], self.store.keys[channel] = log, keys
        for offset in range(answer.f, answer.l + 1):
            self.hand_out(channel, Position(offset, answer.e))

    def hand_out(self, channel: str, position: Position) -> None:
        log = self.store.logs.get(channel, Log())
        handed = Handed(position, tuple(log.past[: position.offset]))
        if handed not in self.handed[channel]:
            self.handed[channel].append(handed)

    # Reading

    @rule(channel=st.sampled_from(CHANNELS), is_creating=st.booleans())
    def join(self, channel: str, is_creating: bool) -> None:
        page = self.wait(self.log.read(channel, None, create=is_creating))
        if is_creating and channel not in self.store.logs and not channel.startswith("connection:"):
            self.store.logs[channel] = Log()
        self.expect_page(channel, page)
        assert (page.recovered, page.reason, page.entries) == (None, "", ())
        assert page.since == page.newest.offset
        self.hand_out(channel, page.newest)

    @rule(limit=st.sampled_from((1, 3, 512)), size=st.sampled_from((1, 300, 10**6)))
    def recover_from_every_position_ever_handed_out(self, limit: int, size: int) -> None:
        async def pages() -> list[Page]:
            return [
                await self.log.read(channel, position, limit=limit, max_bytes=size)
                for channel, handed in self.handed.items()
                for position, _ in handed
            ]

        read = iter(self.wait(pages()))
        for channel, handed in self.handed.items():
            for each in handed:
                self.expect_recovery(channel, each, next(read), (limit, size))

    @rule(channel=st.sampled_from(CHANNELS), offset=st.integers(0, 40))
    def recover_from_a_bare_offset(self, channel: str, offset: int) -> None:
        page = self.wait(self.log.read(channel, Position(offset)))
        log = self.expect_page(channel, page)
        assert page.reason == log.judge(Position(offset))
        assert page.entries == (() if page.reason else tuple(log.data(offset)))

    @rule(
        channel=st.sampled_from(CHANNELS), before=st.none() | st.integers(1, 40),
        limit=st.sampled_from((1, 3, 512)), size=st.sampled_from((1, 300, 10**6)),
    )  # fmt: skip
    def go_back(self, channel: str, before: int | None, limit: int, size: int) -> None:
        page = self.wait(self.log.read_back(channel, before, limit=limit, max_bytes=size))
        log = self.expect_page(channel, page)
        end = log.last if before is None else min(before - 1, log.last)
        assert page.since + len(page.entries) == end
        assert list(page.entries) == log.data(page.since)[: len(page.entries)]
        older = log.data(log.first - 1)[: max(0, page.since - log.first + 1)]
        is_full = len(page.entries) == limit or len(b"".join((*older[-1:], *page.entries))) > size
        assert not older or (page.entries and is_full), "what is left out is left out at the old end, for want of room"

    def expect_recovery(self, channel: str, handed: Handed, page: Page, bounds: tuple[int, int]) -> None:
        log, (position, seen) = self.expect_page(channel, page), handed
        survives = seen == tuple(log.past[: position.offset])
        assert page.reason == log.judge(position)
        assert page.recovered is (page.reason == "")
        if page.recovered:
            assert survives, "what this reader has seen is not what the log holds"
            assert page.since == position.offset
            assert page.entries == within(log.data(position.offset), *bounds)
            return
        assert (page.entries, page.since) == ((), page.newest.offset)
        is_known = not position.epoch or position.epoch in dict(log.chain)
        assert not (survives and is_known and position.offset >= log.first - 1), "it was good"

    def expect_page(self, channel: str, page: Page) -> Log:
        """Compares what every page says; reading notices a new store, too."""
        log = self.store.logs.get(channel)
        if log is None:
            assert (page.chain, page.newest, page.first_kept) == ((), Position(0, ""), 1)
            return Log()
        log.touch(self.generation, page.chain[-1][0])
        assert page.chain == tuple(log.chain)
        assert page.newest == Position(log.last, log.epoch_of(log.last))
        assert page.first_kept == log.first
        return log

    @rule()
    def ask_for_the_newest(self) -> None:
        found = self.wait(self.log.newest(CHANNELS))
        for channel in CHANNELS:
            log = self.store.logs.get(channel)
            assert found[channel] == (Position(log.last, log.epoch_of(log.last)) if log else Position(0, ""))
            self.hand_out(channel, found[channel])

    @invariant()
    def offsets_have_no_holes(self) -> None:
        for channel, stored in zip(CHANNELS, self.admin.eval(ENTRIES, 0, *CHANNELS), strict=True):
            if (log := self.store.logs.get(channel)) is not None:
                kept = [[b"%d-0" % offset, log.past[offset - 1][0]] for offset in range(log.first, log.last + 1)]
                assert stored == kept

    # What happens to the store

    @rule(channel=st.sampled_from(CHANNELS))
    def entries_expire(self, channel: str) -> None:
        self.admin.delete(f"log:{{{channel}}}:entries")
        if (log := self.store.logs.get(channel)) is not None:
            log.first = log.last + 1

    @rule(channel=st.sampled_from(CHANNELS), are_entries_left=st.booleans())
    def a_log_is_forgotten(self, channel: str, are_entries_left: bool) -> None:
        self.admin.delete(f"log:{{{channel}}}:meta")
        if not are_entries_left:
            self.admin.delete(f"log:{{{channel}}}:entries")
        self.store.logs.pop(channel, None)

    @rule(is_alive=st.booleans())
    def a_connection_comes_or_ends(self, is_alive: bool) -> None:
        if is_alive:
            self.admin.hset("owner:{connection:c1}", "user_id", "ann")
            self.store.owners.add("connection:c1")
        else:
            self.admin.delete("owner:{connection:c1}")
            self.store.owners.discard("connection:c1")

    @precondition(lambda machine: machine.copies)
    @rule(ago=st.integers(0, 2))
    def it_fails_over_to_a_replica_that_lacks_a_tail(self, ago: int) -> None:
        store, dump = self.copies[-1 - ago % len(self.copies)]
        self.store = copy.deepcopy(store)
        self.admin.flushall()
        self.admin.eval(RESTORE, 0, *dump)
        self.it_is_promoted()

    @rule()
    def it_is_promoted(self) -> None:
        self.admin.replicaof("127.0.0.1", 1)
        self.admin.replicaof("NO", "ONE")
        self.generation = next(self.generations)

    @precondition(lambda machine: not machine.has_restarted)
    @rule()
    def it_is_killed_and_restarted(self) -> None:
        self.has_restarted = True
        self.admin.connection_pool.disconnect()
        self.wait(self.valkey.close())
        self.server.restart()
        self.connect()
        self.generation = next(self.generations)


def within(data: list[bytes], limit: int, size: int) -> tuple[bytes, ...]:
    """The first of these that a page holds: at least one, then as many as fit."""
    found: list[bytes] = []
    for each in data[:limit]:
        if found and sum(map(len, found)) + len(each) > size:
            break
        found.append(each)
    return tuple(found)


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendfsync="no") as server:
        yield server


@pytest.mark.on_one_server
def test_the_log_keeps_its_promises_whatever_happens(server: ValkeyServer) -> None:
    machine = type("LogMachine", (LogMachine,), {"server": server})
    # Making a failing story shorter would take minutes on a server that restarts; the long one is told at once.
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    often = settings(max_examples=100, stateful_step_count=50, deadline=None, phases=phases)
    run_state_machine_as_test(machine, settings=settings(often, suppress_health_check=list(HealthCheck)))
