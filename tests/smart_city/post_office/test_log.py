"""One channel's log: offsets, positions and their judgement, idempotency, retention, owners, the bus."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from foundations.errors import Conflict
from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from smart_city.post_office.log import Appended, Gone, LogLimits, Page, Retention, Stretch, bus
from smart_city.vocabulary import Position
from tests.support.logs import ALog, an_entry, short_lived, some_limits
from tests.support.valkey import keys_in
from tests.support.waiting import PATIENCE, until


@pytest.fixture
def log(valkey: Valkey, tasks: Tasks) -> ALog:
    return ALog(valkey, tasks)


class TestOffsets:
    async def test_the_first_publication_is_offset_one_and_each_further_one_higher(self, log: ALog) -> None:
        appended = [await log.append_now("guide", an_entry()) for _ in range(3)]
        assert [each.offset for each in appended] == [1, 2, 3]
        assert len({each.epoch for each in appended}) == 1
        assert not any(each.duplicate for each in appended)

    async def test_channels_count_on_their_own(self, log: ALog) -> None:
        await log.write("guide", an_entry(), an_entry())
        assert (await log.append_now("pillar:content", an_entry())).offset == 1

    async def test_two_instances_write_into_one_log(self, valkey: Valkey, tasks: Tasks, log: ALog) -> None:
        other = ALog(valkey, tasks)
        first, second = an_entry(), an_entry()
        await log.append_now("guide", first)
        assert (await other.append_now("guide", second)).offset == 2
        assert (await log.read("guide", Position(0))).entries == (first.data, second.data)

    async def test_an_answer_names_the_message_and_what_was_announced_is_what_was_written(self, log: ALog) -> None:
        entry = an_entry()
        appended = await log.append_now("guide", entry)
        assert appended == Appended(entry.message_id, 1, appended.epoch, duplicate=False)
        assert log.announced == [Stretch("guide", appended.epoch, 1, 1, (entry.data,), 1)]


class TestUnwrittenLogs:
    async def test_it_is_at_zero_without_an_epoch_and_has_no_keys(self, log: ALog, valkey: Valkey) -> None:
        page = await log.read("connection:a", None)
        assert page == Page((), Position(0, ""), 1, 0, None, "", (), ())
        assert await log.newest(["connection:a"]) == {"connection:a": Position(0, "")}
        assert await keys_in(valkey) == []

    async def test_its_position_is_good_before_and_after_the_first_publication(self, log: ALog) -> None:
        assert (await log.read("connection:a", Position(0, ""))).recovered
        data = await log.write("connection:a", an_entry())
        page = await log.read("connection:a", Position(0, ""))
        assert page.recovered
        assert list(page.entries) == data

    async def test_a_position_that_says_more_than_nothing_is_not_good_there(self, log: ALog) -> None:
        assert (await log.read("guide", Position(3, ""))).reason == "future"
        assert (await log.read("guide", Position(3, "gone"))).reason == "unknown_epoch"

    async def test_who_joins_it_gets_the_epoch_of_the_first_publication(self, log: ALog) -> None:
        page = await log.read("guide", None, create=True)
        assert page.newest.offset == 0
        assert page.newest.epoch
        appended = await log.append_now("guide", an_entry())
        assert (appended.offset, appended.epoch) == (1, page.newest.epoch)
        assert (await log.read("guide", page.newest)).recovered

    async def test_joining_a_connections_log_leaves_it_unwritten(self, log: ALog, valkey: Valkey) -> None:
        assert (await log.read("connection:a", None, create=True)).newest == Position(0, "")
        assert await keys_in(valkey) == []

    async def test_joining_twice_begins_it_once(self, log: ALog) -> None:
        first = await log.read("guide", None, create=True)
        assert await log.read("guide", None, create=True) == first
        assert await log.newest(["guide", "user:a"]) == {"guide": first.newest, "user:a": Position(0, "")}


class TestReading:
    async def test_without_a_position_it_says_where_the_log_is(self, log: ALog) -> None:
        await log.write("guide", an_entry(), an_entry())
        page = await log.read("guide", None)
        assert (page.newest.offset, page.since, page.first_kept) == (2, 2, 1)
        assert page.recovered is None
        assert page.entries == ()

    async def test_what_came_after_a_position_is_read_in_order(self, log: ALog) -> None:
        data = await log.write("guide", *(an_entry() for _ in range(5)))
        newest = (await log.read("guide", None)).newest
        for offset in range(6):
            page = await log.read("guide", Position(offset, newest.epoch))
            assert (page.recovered, page.since, page.newest) == (True, offset, newest)
            assert list(page.entries) == data[offset:]

    async def test_a_page_holds_as_many_as_asked_for_and_the_next_goes_on(self, log: ALog) -> None:
        data = await log.write("guide", *(an_entry() for _ in range(5)))
        first = await log.read("guide", Position(0), limit=2)
        assert list(first.entries) == data[:2]
        second = await log.read("guide", Position(2, first.epoch_of(2)), limit=2)
        assert list(second.entries) == data[2:4]

    async def test_a_page_holds_as_many_bytes_as_asked_for_but_always_one_entry(self, log: ALog) -> None:
        data = await log.write("guide", *(an_entry(size=size) for size in (100, 100, 100, 5000, 100)))
        assert list((await log.read("guide", Position(0), max_bytes=250)).entries) == data[:2]
        assert list((await log.read("guide", Position(3), max_bytes=250)).entries) == data[3:4]
        assert list((await log.read("guide", Position(0), max_bytes=5400)).entries) == data

    async def test_a_page_back_in_time_is_short_at_its_old_end(self, log: ALog) -> None:
        sizes = (100, 100, 100, 5000, 100)
        data = await log.write("guide", *(an_entry(size=size) for size in sizes))
        page = await log.read_back("guide", None, max_bytes=250)
        assert (page.since, list(page.entries)) == (4, data[4:])
        page = await log.read_back("guide", 5, max_bytes=250)
        assert (page.since, list(page.entries)) == (3, data[3:4])
        page = await log.read_back("guide", 4, max_bytes=250)
        assert (page.since, list(page.entries)) == (1, data[1:3])
        page = await log.read_back("guide", 1)
        assert (page.since, page.entries) == (0, ())

    async def test_a_page_back_in_time_holds_as_many_as_asked_for(self, log: ALog) -> None:
        data = await log.write("guide", *(an_entry() for _ in range(5)))
        page = await log.read_back("guide", 4, limit=2)
        assert (page.since, list(page.entries)) == (1, data[1:3])
        assert list((await log.read_back("guide", 900)).entries) == data
        assert (await log.read_back("nowhere", None)).entries == ()

    async def test_open_answers_come_with_the_place_of_the_log_and_not_with_each_page_up_to_there(
        self, log: ALog, valkey: Valkey
    ) -> None:
        await log.write("guide", an_entry())
        await valkey.command("HSET", valkey.key("log:{guide}:streams"), "m1", b'{"part":3}')
        assert (await log.read("guide", None)).streams == (b'{"part":3}',)
        for page in (await log.read("guide", Position(0)), await log.read_back("guide", None)):
            assert (len(page.entries), page.streams) == (1, ())

    async def test_a_log_whose_tail_was_deleted_by_hand_is_read_to_its_end(self, log: ALog, valkey: Valkey) -> None:
        data = await log.write("guide", an_entry(), an_entry())
        await valkey.command("XDEL", valkey.key("log:{guide}:entries"), "2-0")
        assert list((await log.read("guide", Position(0))).entries) == data[:1]


class TestPositions:
    async def test_one_in_an_epoch_that_nobody_knows_is_not_good(self, log: ALog) -> None:
        await log.write("guide", an_entry())
        page = await log.read("guide", Position(1, "other"))
        assert (page.recovered, page.reason, page.since, page.entries) == (False, "unknown_epoch", 1, ())

    @pytest.mark.parametrize("offset", [2, 10**15])
    async def test_one_above_the_newest_is_in_the_future(self, log: ALog, offset: int) -> None:
        epoch = (await log.append_now("guide", an_entry())).epoch
        for position in (Position(offset, epoch), Position(offset)):
            page = await log.read("guide", position)
            assert (page.recovered, page.reason, page.since) == (False, "future", 1)

    async def test_one_before_what_is_kept_is_trimmed(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, some_limits(count=2))
        data = await log.write("guide", *(an_entry() for _ in range(5)))
        epoch = (await log.read("guide", None)).newest.epoch
        assert (await log.read("guide", Position(2, epoch))).reason == "trimmed"
        assert (await log.read("guide", Position(0, ""))).reason == "trimmed"
        page = await log.read("guide", Position(3, epoch))
        assert (page.recovered, page.first_kept) == (True, 4)
        assert list(page.entries) == data[3:]

    def test_an_offset_has_the_epoch_that_the_chain_gives_it(self) -> None:
        page = Page((("e1", 5), ("e2", 9), ("e3", 9)), Position(12, "e3"), 5, 12, None, "", (), ())
        assert [page.epoch_of(offset) for offset in (2, 5, 8, 9, 12)] == ["e1", "e1", "e1", "e3", "e3"]


class TestIdempotency:
    async def test_a_repeat_gets_the_first_answer(self, log: ALog) -> None:
        entry = an_entry(key="alice/k", digest="d")
        first = await log.append_now("guide", entry)
        await log.write("guide", an_entry())
        again = await log.append_now("guide", an_entry(key="alice/k", digest="d"))
        assert again == replace(first, duplicate=True)
        assert (await log.read("guide", None)).newest.offset == 2
        assert len(log.announced) == 2

    async def test_the_same_key_with_another_digest_is_a_conflict(self, log: ALog) -> None:
        await log.append_now("guide", an_entry(key="alice/k", digest="d"))
        with pytest.raises(Conflict):
            await log.append_now("guide", an_entry(key="alice/k", digest="other"))
        assert (await log.read("guide", None)).newest.offset == 1

    async def test_a_repeat_in_the_same_round_is_one_too(self, log: ALog) -> None:
        sent = [an_entry(key="alice/k", digest=digest) for digest in ("d", "d", "other")]
        outcomes = await asyncio.gather(*(log.append_now("guide", entry) for entry in sent), return_exceptions=True)
        assert isinstance(outcomes[0], Appended)
        assert outcomes[1] == replace(outcomes[0], duplicate=True)
        assert isinstance(outcomes[2], Conflict)
        assert log.announced == [Stretch("guide", outcomes[0].epoch, 1, 1, (sent[0].data,), 1)]

    async def test_a_refusal_is_not_remembered(self, log: ALog, valkey: Valkey) -> None:
        with pytest.raises(Gone):
            await log.append_now("connection:a", an_entry(key="k"), owner="a")
        await valkey.command("HSET", valkey.key("owner:{connection:a}"), "user_id", "alice")
        assert not (await log.append_now("connection:a", an_entry(key="k"), owner="a")).duplicate

    async def test_keys_belong_to_their_channel(self, log: ALog) -> None:
        await log.append_now("guide", an_entry(key="alice/k"))
        assert not (await log.append_now("pillar:content", an_entry(key="alice/k"))).duplicate
        assert await log.message_under("guide", "alice/k")
        assert await log.message_under("guide", "bob/k") is None

    async def test_a_key_is_forgotten_after_its_time(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, some_limits(keys=0.05))
        await log.append_now("guide", an_entry(key="alice/k", digest="d"))
        async with asyncio.timeout(PATIENCE):
            while await log.message_under("guide", "alice/k"):
                pass
        assert (await log.append_now("guide", an_entry(key="alice/k", digest="other"))).offset == 2


class TestRetention:
    async def test_the_newest_entries_are_kept_by_number(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, some_limits(count=3))
        data = await log.write("guide", *(an_entry() for _ in range(10)))
        page = await log.read("guide", Position(7))
        assert (page.first_kept, list(page.entries)) == (8, data[7:])

    async def test_the_newest_entries_are_kept_by_bytes(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, some_limits(size=1000))
        await log.write("guide", *(an_entry(size=100) for _ in range(12)))
        assert (await log.read("guide", None)).first_kept == 3
        await log.write("guide", an_entry(size=650))
        assert (await log.read("guide", None)).first_kept == 10

    async def test_the_newest_entry_stays_however_large(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, some_limits(size=1000))
        data = await log.write("guide", an_entry(), an_entry(size=5000))
        page = await log.read("guide", Position(1))
        assert (page.first_kept, list(page.entries)) == (2, data[1:])

    async def test_a_round_that_is_larger_than_the_limit_leaves_its_end(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, some_limits(count=3))
        appended = await asyncio.gather(*(log.append_now("guide", an_entry()) for _ in range(10)))
        assert [each.offset for each in appended] == list(range(1, 11))
        assert (await log.read("guide", None)).first_kept == 8

    async def test_old_entries_go_when_new_ones_come(self, valkey: Valkey, tasks: Tasks) -> None:
        age = 0.2
        log = ALog(valkey, tasks, short_lived(age))
        await log.write("guide", *(an_entry() for _ in range(20)))
        written, page = 20, await log.read("guide", None)
        async with asyncio.timeout(PATIENCE):
            while page.first_kept <= 20:
                await log.write("guide", an_entry())
                written, page = written + 1, await log.read("guide", None)
        assert page.newest.offset == written
        assert (await log.read("guide", Position(page.first_kept - 1))).recovered

    async def test_entries_of_an_idle_log_expire_and_its_position_stays_good(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        log = ALog(valkey, tasks, short_lived(0.1))
        appended = await log.append_now("guide", an_entry())
        async with asyncio.timeout(PATIENCE):
            while (page := await log.read("guide", None)).first_kept == 1:
                pass
        assert (page.newest, page.first_kept) == (Position(1, appended.epoch), 2)
        assert (await log.read("guide", Position(1, appended.epoch))).recovered
        assert (await log.read("guide", Position(0, appended.epoch))).reason == "trimmed"
        assert (await log.append_now("guide", an_entry())).offset == 2

    async def test_a_log_outlives_its_entries_and_a_connections_lives_shorter(self, log: ALog, valkey: Valkey) -> None:
        lives = {}
        for channel in ("guide", "connection:a"):
            await log.write(channel, an_entry())
            for part in ("entries", "meta"):
                lives[channel, part] = await valkey.command("PTTL", valkey.key(f"log:{{{channel}}}:{part}"))
        assert 3_600_000 <= lives["guide", "entries"] < 5_400_000 < lives["guide", "meta"]
        assert 60_000 <= lives["connection:a", "entries"] < 90_000 < lives["connection:a", "meta"]
        assert lives["connection:a", "meta"] < lives["guide", "meta"]

    @pytest.mark.parametrize("ask", ["read", "newest"])
    async def test_asking_keeps_an_idle_log_from_being_forgotten(self, log: ALog, valkey: Valkey, ask: str) -> None:
        await log.write("guide", an_entry())
        meta = valkey.key("log:{guide}:meta")
        await valkey.command("PEXPIRE", meta, 10_000)
        await (log.read("guide", None) if ask == "read" else log.newest(["guide"]))
        assert await valkey.command("PTTL", meta) > 3_600_000

    async def test_a_busy_log_is_not_forgotten(self, valkey: Valkey, tasks: Tasks) -> None:
        log = ALog(valkey, tasks, short_lived(0.1))
        clock = asyncio.get_running_loop().time
        began, epoch = clock(), (await log.append_now("guide", an_entry())).epoch
        while clock() < began + 0.5:
            assert (await log.append_now("guide", an_entry())).epoch == epoch

    async def test_a_forgotten_log_begins_again_in_another_epoch(self, log: ALog, valkey: Valkey) -> None:
        await log.write("guide", an_entry(), an_entry())
        lost = (await log.read("guide", None)).newest
        await valkey.command("DEL", valkey.key("log:{guide}:meta"))
        entry = an_entry()
        appended = await log.append_now("guide", entry)
        assert appended.offset == 1
        assert appended.epoch != lost.epoch
        assert (await log.read("guide", lost)).reason == "unknown_epoch"
        assert (await log.read("guide", Position(0))).entries == (entry.data,)

    async def test_joining_a_forgotten_log_leaves_nothing_of_the_old_one(self, log: ALog, valkey: Valkey) -> None:
        await log.write("guide", an_entry(), an_entry())
        await valkey.command("DEL", valkey.key("log:{guide}:meta"))
        assert (await log.read("guide", Position(0))).entries == ()
        page = await log.read("guide", None, create=True)
        assert (page.newest.offset, page.first_kept) == (0, 1)
        assert (await log.append_now("guide", an_entry())).offset == 1

    def test_a_log_may_not_be_forgotten_before_its_entries(self) -> None:
        with pytest.raises(ValueError, match="twice"):
            Retention(count=1, bytes=1, age=10, idle=10)

    def test_a_connections_log_lives_for_the_resume_window(self) -> None:
        limits = LogLimits.within(count=5, size=6, age=100, resume_window=10)
        assert limits.of("connection:a").age == 10
        assert limits.of("user:connection").age == limits.of("guide").age == 100


class TestOwners:
    async def test_an_entry_whose_owner_has_ended_is_refused_and_the_others_are_not(
        self, log: ALog, valkey: Valkey
    ) -> None:
        free = an_entry()
        outcomes = await asyncio.gather(
            log.append_now("connection:a", an_entry(), owner="a"),
            log.append_now("connection:a", free),
            log.append_now("guide", an_entry()),
            return_exceptions=True,
        )
        assert isinstance(outcomes[0], Gone)
        assert isinstance(outcomes[1], Appended)
        assert isinstance(outcomes[2], Appended)
        assert (await log.read("connection:a", Position(0))).entries == (free.data,)

    async def test_an_ended_connections_log_gets_no_keys(self, log: ALog, valkey: Valkey) -> None:
        with pytest.raises(Gone):
            await log.append_now("connection:a", an_entry(), owner="a")
        assert await keys_in(valkey) == []
        assert log.announced == []

    async def test_a_living_owner_lets_entries_in(self, log: ALog, valkey: Valkey) -> None:
        await valkey.command("HSET", valkey.key("owner:{connection:a}"), "user_id", "alice")
        assert (await log.append_now("connection:a", an_entry(), owner="a")).offset == 1

    async def test_only_the_connections_own_log_has_an_owner(self, log: ALog) -> None:
        with pytest.raises(ValueError, match="own"):
            await log.append_now("guide", an_entry(), owner="a")


class TestTheBus:
    @pytest.fixture
    async def heard(self, valkey: Valkey, tasks: Tasks) -> list[object]:
        heard: list[object] = []
        subscriptions = Subscriptions(valkey, tasks)
        await subscriptions.start()
        await subscriptions.listen(bus.bus_channel("guide"), lambda payload: heard.append(bus.parse("guide", payload)))
        return heard

    async def test_it_says_what_the_writer_announces(self, log: ALog, heard: list[object]) -> None:
        await asyncio.gather(*(log.append_now("guide", an_entry("ä€😀")) for _ in range(3)))
        await log.append_now("guide", an_entry())
        await until(lambda: len(heard) == 2, "both stretches are heard")
        assert heard == log.announced
        assert [len(stretch.entries or ()) for stretch in log.announced] == [3, 1]

    async def test_above_64_kib_it_says_only_the_positions(self, log: ALog, heard: list[object]) -> None:
        at_most, above = 64 * 1024, 64 * 1024 + 1
        await log.write("guide", an_entry(size=at_most), an_entry(size=above))
        await until(lambda: len(heard) == 2, "both stretches are heard")
        epoch = log.announced[0].epoch
        assert heard == [log.announced[0], Stretch("guide", epoch, 1, 2, None, 2)]

    async def test_what_was_not_appended_is_not_heard(self, log: ALog, heard: list[object]) -> None:
        await log.append_now("guide", an_entry(key="k"))
        await log.append_now("guide", an_entry(key="k"))
        await log.append_now("guide", an_entry())
        await until(lambda: len(heard) == 2, "both stretches are heard")
        assert heard == log.announced
