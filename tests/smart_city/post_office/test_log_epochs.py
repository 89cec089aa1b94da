"""The epochs of a log: a restart or failover of the store begins one, and positions tell what survived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.log.calls import Post, append_call, log_script, read_answers
from smart_city.vocabulary import Position
from tests.support.logs import ROOMY, ALog, an_entry
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def own(server: ValkeyServer) -> AsyncIterator[Valkey]:
    """A client on a server that may be restarted."""
    valkey = await Valkey.connect(server.url)
    yield valkey
    await valkey.close()


class TestRestarts:
    async def test_a_restart_begins_an_epoch_and_loses_nothing(
        self, server: ValkeyServer, own: Valkey, tasks: Tasks
    ) -> None:
        log = ALog(own, tasks)
        before = await log.write("guide", an_entry(), an_entry())
        old = (await log.read("guide", None)).newest
        await asyncio.to_thread(server.restart)
        after = await log.write("guide", an_entry())
        page = await log.read("guide", Position(0, old.epoch))
        new = page.newest.epoch
        assert new != old.epoch
        assert page.chain == ((old.epoch, 1), (new, 3))
        assert list(page.entries) == before + after
        assert list((await log.read("guide", old)).entries) == after
        assert [page.epoch_of(offset) for offset in (1, 2, 3)] == [old.epoch, old.epoch, new]
        assert log.announced[-1].epoch_start == 3

    async def test_a_position_got_after_a_restart_lies_in_what_is_written_there(
        self, server: ValkeyServer, own: Valkey, tasks: Tasks
    ) -> None:
        log = ALog(own, tasks)
        empty = (await log.read("guide", None, create=True)).newest
        await asyncio.to_thread(server.restart)
        assert (await log.read("guide", None)).newest == empty
        assert await log.newest(["guide"]) == {"guide": empty}
        data = await log.write("guide", an_entry())
        assert list((await log.read("guide", empty)).entries) == data

    async def test_sixteen_epochs_are_remembered(self, own: Valkey, tasks: Tasks) -> None:
        log = ALog(own, tasks)
        positions = []
        for _ in range(18):
            appended = await log.append_now("guide", an_entry())
            positions.append(Position(appended.offset, appended.epoch))
            await promote(own)
        page = await log.read("guide", None)
        assert [epoch for epoch, _ in page.chain] == [each.epoch for each in positions[3:]] + [page.chain[-1][0]]
        for position in positions:
            expected = "unknown_epoch" if position.offset <= 3 else ""
            assert (await log.read("guide", position)).reason == expected


async def promote(valkey: Valkey) -> None:
    """Makes a primary a replica of nobody and back: its data stays, its replication id does not."""
    await valkey.command("REPLICAOF", "127.0.0.1", "1")
    await valkey.command("REPLICAOF", "NO", "ONE")


class TestFailover:
    """A replica is cut off, the primary goes on, and then the replica is promoted: what went on is lost."""

    @pytest.fixture
    async def primary(self) -> AsyncIterator[Valkey]:
        with ValkeyServer(tcp=True, repl_diskless_sync_delay="0") as server:
            valkey = await Valkey.connect(server.url)
            yield valkey
            await valkey.close()

    @pytest.fixture
    async def replica(self, primary: Valkey) -> AsyncIterator[Valkey]:
        with ValkeyServer(tcp=True) as server:
            valkey = await Valkey.connect(server.url)
            await valkey.command("REPLICAOF", "127.0.0.1", primary.url.rpartition(":")[2])
            yield valkey
            await valkey.close()

    async def test_a_position_in_the_lost_tail_has_diverged_and_earlier_ones_are_good(
        self, primary: Valkey, replica: Valkey, tasks: Tasks
    ) -> None:
        on_primary, on_replica = ALog(primary, tasks), ALog(replica, tasks)
        data = await on_primary.write("guide", *(an_entry() for _ in range(100)))
        await replicated(primary)
        await replica.command("REPLICAOF", "NO", "ONE")
        lost = await on_primary.append_now("guide", an_entry())
        entry = an_entry()
        appended = await on_replica.append_now("guide", entry)
        assert (appended.offset, appended.epoch != lost.epoch) == (101, True)
        for offset, reason in ((98, ""), (100, ""), (101, "diverged"), (102, "diverged")):
            page = await on_replica.read("guide", Position(offset, lost.epoch))
            assert page.reason == reason
            expected = [] if reason else [*data[offset:], entry.data]
            assert list(page.entries) == expected

    async def test_a_position_in_the_lost_tail_has_diverged_before_anything_new_is_written(
        self, primary: Valkey, replica: Valkey, tasks: Tasks
    ) -> None:
        on_primary, on_replica = ALog(primary, tasks), ALog(replica, tasks)
        await on_primary.write("guide", an_entry())
        await replicated(primary)
        await replica.command("REPLICAOF", "NO", "ONE")
        lost = await on_primary.append_now("guide", an_entry())
        page = await on_replica.read("guide", Position(lost.offset, lost.epoch))
        assert page.reason == "diverged"
        assert page.newest == Position(1, lost.epoch)
        appended = await on_replica.append_now("guide", an_entry())
        assert (appended.offset, appended.epoch) == (2, page.chain[-1][0])
        assert (await on_replica.read("guide", page.newest)).recovered

    async def test_a_log_of_which_nothing_survived_begins_again(
        self, primary: Valkey, replica: Valkey, tasks: Tasks
    ) -> None:
        on_primary, on_replica = ALog(primary, tasks), ALog(replica, tasks)
        await on_primary.write("other", an_entry())
        await replicated(primary)
        await replica.command("REPLICAOF", "NO", "ONE")
        lost = await on_primary.append_now("guide", an_entry())
        await on_replica.append_now("guide", an_entry())
        page = await on_replica.read("guide", Position(lost.offset, lost.epoch))
        assert page.reason == "unknown_epoch"

    async def test_a_call_that_is_sent_again_after_its_effect_was_lost_begins_another_epoch(
        self, primary: Valkey, replica: Valkey, tasks: Tasks
    ) -> None:
        await ALog(primary, tasks).write("other", an_entry())
        await replicated(primary)
        await replica.command("REPLICAOF", "NO", "ONE")
        posts = {"guide": [Post(an_entry(), lambda _: None, needs_owner=False)]}
        call = append_call(posts, slot=0, writer="w", sequence=1, prefix="", limits=ROOMY)
        script = log_script("append")
        lost, kept = [
            read_answers(await valkey.run(script, call.keys, call.arguments()))[0] for valkey in (primary, replica)
        ]
        assert (lost.f, kept.f) == (1, 1)
        assert (await ALog(replica, tasks).read("guide", Position(1, lost.e))).reason == "unknown_epoch"

    async def test_a_promotion_that_lost_nothing_leaves_every_position_good(
        self, primary: Valkey, replica: Valkey, tasks: Tasks
    ) -> None:
        on_primary, on_replica = ALog(primary, tasks), ALog(replica, tasks)
        await on_primary.write("guide", *(an_entry() for _ in range(10)))
        newest = (await on_primary.read("guide", None)).newest
        await replicated(primary)
        await replica.command("REPLICAOF", "NO", "ONE")
        data = await on_replica.write("guide", an_entry())
        page = await on_replica.read("guide", newest)
        assert (page.recovered, list(page.entries)) == (True, data)

    async def test_what_reaches_a_replica_waits_for_its_promotion(
        self, primary: Valkey, replica: Valkey, tasks: Tasks
    ) -> None:
        await ALog(primary, tasks).write("guide", an_entry())
        await replicated(primary)
        writing = asyncio.create_task(ALog(replica, tasks).append_now("guide", an_entry()))
        async with asyncio.timeout(PATIENCE):
            while not await refused_writes(replica):
                pass
        await replica.command("REPLICAOF", "NO", "ONE")
        assert (await writing).offset == 2


async def refused_writes(replica: Valkey) -> int:
    """How many commands a replica has refused because it is one."""
    errors = await replica.command("INFO", "errorstats")
    return int(errors.get("errorstat_READONLY", {}).get("count", 0))


async def replicated(primary: Valkey) -> None:
    """Waits until the replica has everything."""
    async with asyncio.timeout(PATIENCE):
        while await primary.command("WAIT", 1, 100) < 1:
            pass
