"""The lease: one living holder of a name, whoever dies, hangs or loses sight of Valkey."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from foundations import processes
from foundations.errors import Unavailable
from foundations.lease import Held, Lease, Owner
from foundations.processes import Process, machine
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, ROOM, until

pytestmark = pytest.mark.on_both_loops
SECONDS = 1.0


class Watched:
    """A lease, with a count of how often it was lost and regained."""

    def __init__(self, valkey: Valkey, tasks: Tasks, seconds: float = SECONDS) -> None:
        self.lease = Lease(valkey, "desk", seconds=seconds, tasks=tasks)
        self.lost = 0
        self.regained = 0
        self.lease.lost.append(self._lose)
        self.lease.regained.append(self._regain)

    def _lose(self) -> None:
        self.lost += 1

    def _regain(self) -> None:
        self.regained += 1


@asynccontextmanager
async def own_server() -> AsyncIterator[tuple[ValkeyServer, Valkey]]:
    with ValkeyServer() as server:
        valkey = await Valkey.connect(server.url, timeout=0.5)
        try:
            yield server, valkey
        finally:
            await valkey.close()


async def hold_as(valkey: Valkey, owner: Owner, *, milliseconds: int = 500, name: str = "desk") -> None:
    """Puts somebody else's lease there, as another instance would."""
    key = valkey.key(f"lease:{{{name}}}")
    await valkey.command("HSET", key, "token", "another", "owner", json.dumps(asdict(owner)))
    await valkey.command("PEXPIRE", key, milliseconds)


ELSEWHERE = replace(Owner.this(), host="far", machine="another machine")


async def test_a_free_lease_is_taken_and_kept_longer_than_it_lasts(valkey: Valkey, tasks: Tasks) -> None:
    watched = Watched(valkey, tasks)
    await watched.lease.acquire()
    assert watched.lease.is_held
    key = valkey.key("lease:{desk}")
    renewed = 0
    before = await valkey.command("PTTL", key)
    async with asyncio.timeout(PATIENCE):
        while renewed < 8:  # eight fifths of its time
            now = await valkey.command("PTTL", key)
            renewed += now > before
            before = now
            assert now > 0
    assert watched.lease.is_held
    assert (watched.lost, watched.regained) == (0, 0)
    await watched.lease.release()


async def test_a_lease_held_by_a_living_process_of_this_machine_is_refused_at_once(
    valkey: Valkey, tasks: Tasks
) -> None:
    first, second = (Lease(valkey, "desk", seconds=60, tasks=tasks) for _ in range(2))
    await first.acquire()
    with pytest.raises(Held) as held:
        await asyncio.wait_for(second.acquire(), PATIENCE)
    assert held.value.owner == Owner.this()
    assert str(os.getpid()) in str(held.value)
    assert held.value.owner.host in str(held.value)
    assert first.is_held
    assert not second.is_held
    await first.release()


async def test_a_released_lease_is_free_at_once(valkey: Valkey, tasks: Tasks) -> None:
    first, second = (Lease(valkey, "desk", seconds=60, tasks=tasks) for _ in range(2))
    await first.acquire()
    await first.release()
    await first.release()
    assert not first.is_held
    await asyncio.wait_for(second.acquire(), PATIENCE)
    await second.release()
    assert await valkey.command("EXISTS", valkey.key("lease:{desk}")) == 0


async def test_releasing_is_no_loss(valkey: Valkey, tasks: Tasks) -> None:
    watched = Watched(valkey, tasks)
    await watched.lease.acquire()
    await watched.lease.release()
    assert watched.lost == 0


async def test_the_lease_of_a_dead_process_of_this_machine_is_taken_at_once(valkey: Valkey, tasks: Tasks) -> None:
    with python("") as gone:
        owner = owner_at(gone.pid)
        gone.wait(10)
    await hold_as(valkey, owner, milliseconds=60_000)
    lease = Lease(valkey, "desk", seconds=60, tasks=tasks)
    await asyncio.wait_for(lease.acquire(), PATIENCE)
    assert lease.is_held
    await lease.release()


async def test_a_later_process_of_the_same_number_is_not_the_holder(valkey: Valkey, tasks: Tasks) -> None:
    await hold_as(valkey, replace(Owner.this(), started="long ago"), milliseconds=60_000)
    lease = Lease(valkey, "desk", seconds=60, tasks=tasks)
    await asyncio.wait_for(lease.acquire(), PATIENCE)
    await lease.release()


async def test_a_hung_process_of_this_machine_is_still_its_holder(valkey: Valkey, tasks: Tasks) -> None:
    with python("import time; time.sleep(60)") as sleeper:
        sleeper.send_signal(signal.SIGSTOP)
        await hold_as(valkey, owner_at(sleeper.pid), milliseconds=60_000)
        with pytest.raises(Held):
            await Lease(valkey, "desk", seconds=60, tasks=tasks).acquire()
        sleeper.kill()


def python(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code])


def owner_at(pid: int) -> Owner:
    return replace(Owner.this(), pid=pid, started=Process.of(pid).started)


async def test_the_lease_of_another_machine_that_is_not_renewed_is_taken_when_it_lapses(
    valkey: Valkey, tasks: Tasks
) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await hold_as(valkey, ELSEWHERE)
    lease = Lease(valkey, "desk", seconds=SECONDS, tasks=tasks)
    await asyncio.wait_for(lease.acquire(), PATIENCE)
    assert 0.3 < loop.time() - began < 0.5 + ROOM
    await lease.release()


async def test_the_lease_of_another_machine_that_is_renewed_is_refused(valkey: Valkey, tasks: Tasks) -> None:
    async def renew() -> None:
        while True:
            await hold_as(valkey, ELSEWHERE, milliseconds=3000)
            await asyncio.sleep(SECONDS / 5)

    renewing = tasks.spawn("renew", renew())
    await until_held(valkey)
    with pytest.raises(Held) as held:
        await asyncio.wait_for(Lease(valkey, "desk", seconds=SECONDS, tasks=tasks).acquire(), PATIENCE)
    assert held.value.owner == ELSEWHERE
    renewing.cancel()


async def until_held(valkey: Valkey) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await valkey.command("EXISTS", valkey.key("lease:{desk}")):
            pass


async def test_a_record_of_a_newer_version_is_somebody_elses(valkey: Valkey, tasks: Tasks) -> None:
    await valkey.command("HSET", valkey.key("lease:{desk}"), "token", "another", "owner", b"\x00")
    with pytest.raises(Held, match="unknown"):
        await asyncio.wait_for(Lease(valkey, "desk", seconds=SECONDS, tasks=tasks).acquire(), PATIENCE)


async def test_a_lease_that_was_taken_is_lost(valkey: Valkey, tasks: Tasks) -> None:
    watched = Watched(valkey, tasks)
    await watched.lease.acquire()
    await hold_as(valkey, ELSEWHERE, milliseconds=60_000)
    await until(lambda: watched.lost == 1, "told")
    assert not watched.lease.is_held
    await valkey.command("DEL", valkey.key("lease:{desk}"))
    await until(lambda: watched.regained == 1, "back")
    assert watched.lease.is_held
    await watched.lease.release()


async def test_who_has_lost_its_lease_to_another_is_told_once_to_whom(valkey: Valkey, tasks: Tasks) -> None:
    lease = Lease(valkey, "desk", seconds=0.2, tasks=tasks)
    told: list[Owner] = []
    lease.taken.append(told.append)
    await lease.acquire()
    await valkey.command("DEL", valkey.key("lease:{desk}"))
    await asyncio.sleep(0.3)  # some renewals: it takes again what nobody has
    assert told == []
    await hold_as(valkey, ELSEWHERE, milliseconds=60_000)
    await until(lambda: bool(told), "told")
    await asyncio.sleep(0.2)  # some more
    assert told == [ELSEWHERE]
    await lease.release()


async def test_another_holder_is_left_alone_at_the_release(valkey: Valkey, tasks: Tasks) -> None:
    lease = Lease(valkey, "desk", seconds=60, tasks=tasks)
    await lease.acquire()
    await hold_as(valkey, ELSEWHERE, milliseconds=60_000)
    await lease.release()
    assert await valkey.command("HGET", valkey.key("lease:{desk}"), "token") == b"another"


async def test_while_valkey_hangs_the_lease_is_lost_in_time_and_regained_after(tasks: Tasks) -> None:
    async with own_server() as (server, valkey):
        watched = Watched(valkey, tasks)
        await watched.lease.acquire()
        server.hang()
        await until(lambda: watched.lost == 1, "lost", SECONDS + 1)
        assert not watched.lease.is_held
        server.resume()
        await until(lambda: watched.regained == 1, "back")
        assert watched.lease.is_held
        await watched.lease.release()


async def test_after_valkey_was_away_longer_than_the_lease_it_is_taken_again(tasks: Tasks) -> None:
    async with own_server() as (server, valkey):
        watched = Watched(valkey, tasks)
        await watched.lease.acquire()
        server.kill()
        await until(lambda: watched.lost == 1, "lost", SECONDS + 1)
        server.start()
        await until(lambda: watched.regained == 1, "back")
        assert await valkey.command("PTTL", valkey.key("lease:{desk}")) > 0
        await watched.lease.release()


async def test_a_short_outage_loses_nothing(tasks: Tasks) -> None:
    async with own_server() as (server, valkey):
        watched = Watched(valkey, tasks, seconds=5)
        await watched.lease.acquire()
        server.restart()
        key = valkey.key("lease:{desk}")
        await until_renewed(valkey, key)
        assert (watched.lease.is_held, watched.lost) == (True, 0)
        await watched.lease.release()


async def until_renewed(valkey: Valkey, key: str) -> None:
    before: int | None = None
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                now = int(await valkey.command("PTTL", key))
            except Unavailable:
                continue
            if before is not None and now > before:
                return
            before = now


async def test_a_full_store_still_renews(tasks: Tasks) -> None:
    async with own_server() as (_, valkey):
        watched = Watched(valkey, tasks)
        await watched.lease.acquire()
        await valkey.command("CONFIG", "SET", "maxmemory", 1)
        await until_renewed(valkey, valkey.key("lease:{desk}"))
        assert watched.lost == 0
        await valkey.command("CONFIG", "SET", "maxmemory", 0)
        await watched.lease.release()


async def test_with_valkey_away_a_lease_is_not_taken_and_its_release_is_no_error(tasks: Tasks) -> None:
    async with own_server() as (server, valkey):
        lease = Lease(valkey, "desk", seconds=60, tasks=tasks)
        await lease.acquire()
        server.kill()
        await lease.release()
        with pytest.raises(Unavailable):
            await Lease(valkey, "other", seconds=60, tasks=tasks).acquire()


async def test_a_failing_callback_keeps_nobody_else_from_being_told(
    valkey: Valkey, tasks: Tasks, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("mine")

    watched = Watched(valkey, tasks)
    watched.lease.lost.insert(0, fail)
    await watched.lease.acquire()
    await hold_as(valkey, ELSEWHERE, milliseconds=60_000)
    await until(lambda: watched.lost == 1, "told")
    assert any(record.exc_info for record in caplog.records)
    await watched.lease.release()


# Which process is meant


def test_a_living_process_is_known_by_its_number_and_its_beginning() -> None:
    this = Process.this()
    assert this == Process.of(os.getpid())
    assert this.is_alive
    assert not replace(this, started="0").is_alive
    assert not Process.of(0).is_alive


def test_a_zombie_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and still has its number
    assert not Process.of(child.pid).is_alive
    child.wait(10)


def test_where_there_is_no_proc_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    this = Process.of(os.getpid())
    assert this.is_alive
    assert not Process.of(2**22 - 1).is_alive
    assert machine() == machine()
