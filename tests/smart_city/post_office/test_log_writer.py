"""How appends travel: in rounds, in order, once, whatever becomes of Valkey meanwhile."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from foundations.errors import CityError, Internal, Overloaded, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Script, Valkey
from foundations.valkey.client import Argument, Then
from foundations.valkey.slots import slot_of
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log import Appended, ChannelLog, Entry, Patience, Stretch
from smart_city.post_office.log.writer import SLOTS_A_TURN
from smart_city.vocabulary import Position
from tests.support.logs import ROOMY, ALog, an_entry, some_limits
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, until


class WatchedValkey(Valkey):
    """A client like another that remembers to how many logs each append call went, with how many entries.

    ``attempts`` counts the calls that were sent again as well; a busy machine makes some of any test's.
    """

    def __init__(self, like: Valkey) -> None:
        super().__init__(like.store, url=like.url, prefix=like.prefix, timeout=like.timeout)
        self.attempts = 0
        self._calls: dict[Argument, tuple[int, int]] = {}

    @property
    def calls(self) -> list[tuple[int, int]]:
        return list(self._calls.values())

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        self._note(script, keys, args)
        return await super().run(script, keys, args)

    def begin(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], then: Then, *, seconds: float
    ) -> bool:
        has_begun = super().begin(script, keys, args, then, seconds=seconds)
        if has_begun:
            self._note(script, keys, args)
        return has_begun

    def _note(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> None:
        if script.name.endswith("append"):
            sequence = args[2]
            self.attempts += 1
            self._calls[sequence] = (
                sum(key.endswith(":meta") for key in keys),
                sum(isinstance(each, bytes) for each in args),
            )

    async def carried_out(self) -> int:
        """How many scripts the server has run."""
        stats = (await self.command("INFO", "commandstats"))["cmdstat_evalsha"]
        return int(stats["calls"])


class Told:
    """Collects what senders are told, in the order in which they are."""

    def __init__(self) -> None:
        self.outcomes: list[tuple[str, Appended | Exception]] = []
        self.held: list[str] = []

    def of(self, entry: Entry) -> Callable[[Appended | Exception | Held], None]:
        def then(outcome: Appended | Exception | Held) -> None:
            if isinstance(outcome, Held):
                assert entry.message_id not in dict(self.outcomes), "the final word is the last one"
                self.held.append(outcome.message_id)
            else:
                self.outcomes.append((entry.message_id, outcome))

        return then

    @property
    def offsets(self) -> list[int]:
        return [outcome.offset for _, outcome in self.outcomes if isinstance(outcome, Appended)]

    @property
    def errors(self) -> list[Exception]:
        return [outcome for _, outcome in self.outcomes if isinstance(outcome, Exception)]


@pytest.fixture
async def watched(valkey: Valkey) -> AsyncIterator[WatchedValkey]:
    watched = WatchedValkey(valkey)
    yield watched
    await watched.close()


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def own(server: ValkeyServer) -> AsyncIterator[WatchedValkey]:
    """A client, quick to give a command up, on a server that may be hung, killed or filled."""
    plain = await Valkey.connect(server.url, timeout=0.5)
    watched = WatchedValkey(plain)
    yield watched
    await watched.close()
    await plain.close()


def post(log: ChannelLog, channel: str, entries: Sequence[Entry], told: Told, *, owner: str = "") -> None:
    for entry in entries:
        log.append(channel, entry, told.of(entry), owner=owner)


def some(number: int, *, size: int = 0) -> list[Entry]:
    return [an_entry(size=size) for _ in range(number)]


async def stored(log: ChannelLog, channel: str) -> list[bytes]:
    page = await log.read(channel, Position(0), limit=100_000, max_bytes=64 * 1024 * 1024)
    return list(page.entries)


@pytest.mark.on_one_server
@pytest.mark.on_both_loops
class TestRounds:
    async def test_what_one_turn_of_the_loop_brings_travels_in_one_call(
        self, watched: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(watched, tasks), Told()
        for channel in ("guide", "user:a", "user:b"):
            post(log, channel, some(10), told)
        assert await log.flush(5) == 0
        assert watched.calls == [(3, 30)]
        assert told.offsets == [*range(1, 11)] * 3

    async def test_a_call_carries_512_entries(self, watched: WatchedValkey, tasks: Tasks) -> None:
        log, told = ALog(watched, tasks), Told()
        entries = some(1100)
        post(log, "guide", entries, told)
        await log.flush(5)
        assert watched.calls == [(1, 512), (1, 512), (1, 76)]
        assert told.offsets == list(range(1, 1101))
        assert [message_id for message_id, _ in told.outcomes] == [entry.message_id for entry in entries]

    async def test_a_call_carries_a_mebibyte_and_a_larger_entry_travels_alone(
        self, watched: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(watched, tasks), Told()
        sizes = (400_000, 400_000, 400_000, 4_200_000, 100)
        post(log, "guide", [an_entry(size=size) for size in sizes], told)
        post(log, "user:a", some(1), told)
        await log.flush(5)
        assert watched.calls == [(2, 3), (1, 1), (1, 1), (1, 1)]
        assert sorted(told.offsets) == [1, 1, 2, 3, 4, 5]

    async def test_a_call_carries_64_logs_and_others_travel_beside_it(
        self, watched: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(watched, tasks), Told()
        for number in range(600):
            post(log, f"user:{number}", some(2), told)
        await log.flush(5)
        assert sorted(watched.calls) == [(24, 48)] + [(64, 128)] * 9
        assert sorted(told.offsets) == [1] * 600 + [2] * 600

    async def test_what_comes_while_a_call_is_under_way_is_logged_behind_it(
        self, watched: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told, sent = ALog(watched, tasks), Told(), some(40)

        async def send(entries: Sequence[Entry]) -> None:
            for entry in entries:
                post(log, "guide", [entry], told)
                await asyncio.sleep(0)

        await send(sent)
        await log.flush(5)
        assert await stored(log, "guide") == [entry.data for entry in sent]
        assert told.offsets == list(range(1, 41))
        assert 2 <= len(watched.calls) < 40

    async def test_who_is_told_may_send_again_at_once(self, watched: WatchedValkey, tasks: Tasks) -> None:
        log, told = ALog(watched, tasks), Told()
        first, second = some(2)
        log.append("guide", first, lambda _: post(log, "guide", [second], told))
        await log.flush(5)
        assert told.offsets == [2]


class TwoNodes(Valkey):
    """A client of two servers that share the slots, as the nodes of a cluster do."""

    def __init__(self, first: Valkey, second: Valkey) -> None:
        super().__init__(first.store, url=first.url, prefix=first.prefix, timeout=first.timeout)
        self._second = second

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        if is_second(keys[0]):
            return await self._second.run(script, keys, args)
        return await super().run(script, keys, args)

    def begin(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], then: Then, *, seconds: float
    ) -> bool:
        begin = self._second.begin if is_second(keys[0]) else super().begin
        return begin(script, keys, args, then, seconds=seconds)


def is_second(key: str) -> bool:
    return slot_of(key) % 2 == 1


class TestSlots:
    """As on a cluster: a call touches one slot."""

    async def test_logs_of_other_slots_travel_beside_one_another(self, watched: WatchedValkey, tasks: Tasks) -> None:
        log, told = ALog(watched, tasks), Told()
        for channel in ("guide", "user:a", "user:b"):
            post(log, channel, some(10), told)
        assert await log.flush(5) == 0
        assert watched.calls == [(1, 10)] * 3
        assert told.offsets == [*range(1, 11)] * 3

    async def test_thousands_of_slots_do_not_hold_up_a_turn_of_the_loop(
        self, watched: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(watched, tasks), Told()
        for number in range(3000):
            post(log, f"user:{number}", some(1), told)
        most, before = 0, 0
        while len(told.outcomes) < 3000:
            await asyncio.sleep(0)
            most, before = max(most, len(watched.calls) - before), len(watched.calls)
        assert most <= SLOTS_A_TURN
        assert told.offsets == [1] * 3000

    async def test_a_node_that_hangs_keeps_no_other_waiting(
        self, valkey: Valkey, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        nodes = TwoNodes(valkey, own)
        log, away, there = ALog(nodes, tasks, patience=Patience(seconds=1)), Told(), Told()
        names = [f"user:{number}" for number in range(100)]
        hung, living = [name for name in names if is_second(name)], [name for name in names if not is_second(name)]
        server.hang()
        for name in hung:
            post(log, name, some(2), away)
        await until(lambda: own.attempts >= len(hung), "all is on the way to the node that hangs")
        for name in living:
            post(log, name, some(2), there)
        await until(lambda: len(there.offsets) == 2 * len(living), "the others are told")
        assert not away.outcomes
        server.resume()
        assert await log.flush(5) == 0
        await nodes.close()


class TestTelling:
    async def test_what_was_appended_is_announced_before_its_senders_are_told(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        events: list[object] = []
        log = ChannelLog(valkey, tasks, ROOMY, events.append)
        entries = [an_entry(key="k"), an_entry(key="k"), an_entry()]
        for entry in entries:
            log.append("guide", entry, events.append)
        await log.flush(5)
        stretch = events[0]
        assert isinstance(stretch, Stretch)
        assert stretch.entries == (entries[0].data, entries[2].data)
        assert sorted(each.offset for each in events[1:] if isinstance(each, Appended)) == [1, 1, 2]

    async def test_nothing_is_announced_when_nothing_was_appended(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks)
        with pytest.raises(CityError):
            await log.append_now("connection:a", an_entry(), owner="a")
        assert log.announced == []

    async def test_a_sender_that_fails_keeps_nobody_from_being_told(
        self, valkey: Valkey, tasks: Tasks, caplog: pytest.LogCaptureFixture
    ) -> None:
        def fail(_: object) -> None:
            raise ZeroDivisionError

        log, told = ChannelLog(valkey, tasks, ROOMY, fail), Told()
        log.append("guide", an_entry(), fail)
        post(log, "guide", some(1), told)
        assert await log.flush(5) == 0
        assert told.offsets == [2]
        assert [record.levelno for record in caplog.records] == [logging.ERROR] * 2

    async def test_who_has_stopped_waiting_is_no_problem(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks)
        waiting = asyncio.ensure_future(log.append_now("guide", an_entry()))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await log.flush(5) == 0
        assert (await log.read("guide", None)).newest.offset == 1

    async def test_a_log_that_cannot_be_written_spoils_no_other(
        self, valkey: Valkey, tasks: Tasks, caplog: pytest.LogCaptureFixture
    ) -> None:
        await valkey.command("SET", valkey.key("log:{guide}:entries"), "not a stream")
        await ALog(valkey, tasks).read("guide", None, create=True)
        await valkey.command("SET", valkey.key("log:{guide}:entries"), "not a stream")
        log, told, entry = ALog(valkey, tasks), Told(), an_entry()
        for channel in ("user:a", "guide", "user:b"):
            post(log, channel, [entry], told)
        await log.flush(5)
        assert [type(each) for each in told.errors] == [Internal]
        assert told.offsets == [1, 1]
        assert [stretch.channel for stretch in log.announced] == ["user:a", "user:b"]
        assert "WRONGTYPE" in caplog.text


class TestOutages:
    @pytest.mark.on_both_loops
    async def test_a_restart_is_not_noticed(self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks) -> None:
        log, told, sent = ALog(own, tasks, some_limits(count=100_000)), Told(), some(1)
        post(log, "guide", sent, told)
        restart = asyncio.create_task(asyncio.to_thread(server.restart))
        while not restart.done():
            sent += some(1)
            post(log, "guide", sent[-1:], told)
            await asyncio.sleep(0.002)  # a steady stream, of which the restart catches some
        assert await log.flush(10) == 0
        assert told.offsets == list(range(1, len(sent) + 1))
        assert await stored(log, "guide") == [entry.data for entry in sent]

    async def test_an_append_that_is_sent_again_is_logged_once(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks), Told()
        await log.write("guide", *some(2))
        before = await own.carried_out()
        server.hang()
        attempts, sent = own.attempts, some(3)
        post(log, "guide", sent, told)
        await until(lambda: own.attempts >= attempts + 2, "the call is sent a second time")
        server.resume()
        assert await log.flush(10) == 0
        async with asyncio.timeout(PATIENCE):
            while await own.carried_out() < before + 2:
                pass
        assert told.offsets == [3, 4, 5]
        assert (await stored(log, "guide"))[2:] == [entry.data for entry in sent]
        assert [stretch.first for stretch in log.announced] == [1, 2, 3]
        await log.write("guide", an_entry())
        assert (await log.read("guide", None)).newest.offset == 6

    async def test_a_repeat_is_answered_as_the_first_time_with_all_that_was_set_aside(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks), Told()
        earlier = await log.append_now("guide", an_entry(key="a", digest="d"))
        entries = [
            an_entry(key="a", digest="d"),
            an_entry(key="b"),
            an_entry(key="a", digest="e"),
            an_entry(),
        ]
        server.hang()
        attempts = own.attempts
        post(log, "guide", entries, told)
        await until(lambda: own.attempts >= attempts + 2, "the call is sent a second time")
        server.resume()
        await log.flush(10)
        outcomes = dict(told.outcomes)
        assert outcomes[entries[0].message_id] == replace(earlier, duplicate=True)
        assert outcomes[entries[1].message_id] == Appended(entries[1].message_id, 2, earlier.epoch, False)
        assert isinstance(outcomes[entries[2].message_id], CityError)
        assert outcomes[entries[3].message_id] == Appended(entries[3].message_id, 3, earlier.epoch, False)
        assert await stored(log, "guide") != []
        assert (await log.read("guide", None)).newest.offset == 3

    async def test_what_is_held_for_too_long_is_unavailable_and_so_is_what_waits_behind_it(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks, keep=Keep(seconds=0.5, after=0.2)), Told()
        server.hang()
        post(log, "guide", some(3), told)
        await until(lambda: len(told.held) == 3, "they are held")
        post(log, "guide", some(2), told)
        assert await log.flush(5) == 0
        assert [type(each) for each in told.errors] == [Unavailable] * 5
        assert log.announced == []
        server.resume()
        assert (await ALog(own, tasks).append_now("guide", an_entry())).offset in {1, 4}

    async def test_what_was_given_up_is_never_logged_behind_what_came_later(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks, keep=Keep(seconds=0.5, after=0.2)), Told()
        await log.write("guide", an_entry())
        server.hang()
        given_up = some(1)
        post(log, "guide", given_up, told)
        assert await log.flush(5) == 0
        server.resume()
        later = await log.write("guide", *some(5))
        entries = await stored(log, "guide")
        assert entries[-5:] == later
        assert entries[1:-5] in ([], [given_up[0].data])

    async def test_every_sender_is_told_once_when_more_waits_than_can_be_sent(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks, keep=Keep(seconds=0.3, after=0.1)), Told()
        server.hang()
        sent = some(6000)
        for number, entry in enumerate(sent):
            post(log, f"user:{number}", [entry], told)
        assert await log.flush(30) == 0
        assert sorted(message_id for message_id, _ in told.outcomes) == sorted(entry.message_id for entry in sent)
        assert len(told.errors) == 6000

    async def test_what_waits_is_bounded_by_number(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks, patience=Patience(entries=10), keep=Keep(seconds=0.3, after=0.1)), Told()
        server.hang()
        post(log, "guide", some(14), told)
        assert [type(each) for each in told.errors] == [Unavailable] * 4
        assert await log.flush(5) == 0
        assert len(told.outcomes) == 14
        server.resume()
        assert (await ALog(own, tasks).append_now("guide", an_entry())).offset in {1, 11}

    async def test_what_waits_is_bounded_by_bytes(self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks) -> None:
        log, told = ALog(own, tasks, patience=Patience(bytes=2500), keep=Keep(seconds=0.3, after=0.1)), Told()
        server.hang()
        post(log, "guide", some(4, size=1000), told)
        assert len(told.errors) == 2
        assert await log.flush(5) == 0
        assert len(told.outcomes) == 4

    async def test_reading_waits_for_a_restart_but_not_for_ever(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log = ALog(own, tasks, patience=Patience(seconds=2))
        data = await log.write("guide", an_entry(key="k"))
        restart = asyncio.create_task(asyncio.to_thread(server.restart))
        while not restart.done():
            assert (await log.newest(["guide"]))["guide"].offset == 1
            assert list((await log.read("guide", Position(0))).entries) == data
            assert await log.message_under("guide", "k")
        server.kill()
        questions = (log.read("guide", None), log.newest(["guide"]), log.message_under("guide", "k"))
        async with asyncio.timeout(PATIENCE):
            answers = await asyncio.gather(*questions, return_exceptions=True)
        assert [type(answer) for answer in answers] == [Unavailable] * 3

    async def test_a_full_store_is_overloaded_and_nothing_is_appended(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log = ALog(own, tasks)
        await log.write("guide", an_entry())
        await own.command("CONFIG", "SET", "maxmemory", "1")
        with pytest.raises(Overloaded):
            await log.append_now("guide", an_entry())
        assert (await log.read("guide", Position(0))).newest == (await log.newest(["guide"]))["guide"]
        await own.command("CONFIG", "SET", "maxmemory", "0")
        assert (await log.append_now("guide", an_entry())).offset == 2


@pytest.mark.on_both_loops
class TestEnding:
    async def test_flushing_waits_for_every_sender_and_says_how_many_are_left(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks), Told()
        assert await log.flush(1) == 0
        server.hang()
        post(log, "guide", some(3), told)
        assert await log.flush(0.05) == 3
        server.resume()
        assert await log.flush(10) == 0
        assert told.offsets == [1, 2, 3]

    async def test_who_still_waits_at_the_end_is_told(
        self, server: ValkeyServer, own: WatchedValkey, tasks: Tasks
    ) -> None:
        log, told = ALog(own, tasks), Told()
        server.hang()
        post(log, "guide", some(2), told)
        await until(lambda: own.attempts > 0, "the call is sent")
        post(log, "guide", some(2), told)
        await tasks.close()
        post(log, "user:a", some(2), told)
        assert await log.flush(1) == 0
        assert [type(each) for each in told.errors] == [Unavailable] * 6

    async def test_a_call_that_was_never_begun_is_told_too(self, valkey: Valkey, tasks: Tasks) -> None:
        log, told = ALog(valkey, tasks), Told()
        post(log, "guide", some(2), told)
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(tasks.close()))
        assert await log.flush(1) == 0
        assert len(told.outcomes) == 2

    async def test_a_defect_is_internal_and_what_waits_behind_it_goes_on(
        self, valkey: Valkey, tasks: Tasks, caplog: pytest.LogCaptureFixture
    ) -> None:
        log, told = ALog(valkey, tasks), Told()
        broken = Entry(b"{}", "m1", key="k", digest=object())  # type: ignore[arg-type]
        post(log, "guide", [broken], told)
        assert await log.flush(5) == 0
        assert [type(each) for each in told.errors] == [Internal]
        post(log, "guide", some(1), told)
        await log.flush(5)
        assert told.offsets == [1]
        assert caplog.records


class TestWriters:
    async def test_writers_not_heard_of_for_an_hour_are_swept_out_when_a_new_one_comes(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        await ALog(valkey, tasks).write("guide", an_entry())
        meta = valkey.key("log:{guide}:meta")
        now = time.time() * 1000
        for name, ago in (("w:old", 3_700_000), ("w:young", 3_500_000)):
            await valkey.command("HSET", meta, name, f"7 {now - ago:.0f} {{}}")
        await ALog(valkey, tasks).write("guide", an_entry())
        writers = {field for field in await valkey.command("HKEYS", meta) if field.startswith(b"w:")}
        assert b"w:old" not in writers
        assert b"w:young" in writers
        assert len(writers) == 3
