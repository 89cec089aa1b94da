"""Owned tasks: watched, restarted, and all ended with their owner."""

from __future__ import annotations

import asyncio

import pytest

from foundations import supervision
from foundations.supervision import Tasks
from tests.support.waiting import PATIENCE, until


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_loop_that_fails_is_logged_and_started_again(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise RuntimeError("broken")
        await for_ever()

    tasks.start("loop", run)
    await until(lambda: runs == 4, "started four times")
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert all("test/loop" in record.getMessage() for record in caplog.records)
    assert len(tasks) == 1


async def test_the_pause_grows_with_each_failure_and_is_short_again_after_a_steady_run(
    tasks: Tasks, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs == 3:
            monkeypatch.setattr(supervision, "STEADY_SECONDS", 0.0)
        raise RuntimeError("broken")

    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.1)
    tasks.start("loop", run)
    await until(lambda: runs == 4, "four failures")
    pauses = [float(record.getMessage().split()[-2]) for record in caplog.records[:3]]
    assert pauses == [0.1, 0.2, 0.1]


async def test_a_loop_that_ends_is_not_started_again(tasks: Tasks) -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1

    await asyncio.wait_for(tasks.start("loop", run), PATIENCE)
    assert (runs, len(tasks)) == (1, 0)


async def test_without_restart_a_failure_is_the_end(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        raise RuntimeError("broken")

    task = tasks.start("loop", run, restart=False)
    await until(task.done, "ended")
    assert (len(caplog.records), len(tasks)) == (1, 0)


async def test_a_spawned_task_gives_its_result(tasks: Tasks) -> None:
    async def run() -> int:
        return 42

    assert await asyncio.wait_for(tasks.spawn("one", run()), PATIENCE) == 42


async def test_a_failure_that_nobody_awaits_is_logged(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        raise RuntimeError("broken")

    task = tasks.spawn("one", run())
    await until(task.done, "ended")
    await asyncio.sleep(0)
    assert caplog.records[0].getMessage() == "test/one failed"
    assert caplog.records[0].exc_info is not None


async def test_closing_ends_every_task() -> None:
    tasks = Tasks("owner")
    cleaned = []

    async def run() -> None:
        try:
            await for_ever()
        finally:
            cleaned.append(True)

    for number in range(10):
        tasks.start(f"loop {number}", run)
    await asyncio.sleep(0)
    await tasks.close()
    assert (len(cleaned), len(tasks)) == (10, 0)


async def test_closing_waits_no_longer_than_told_and_names_who_did_not_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks("owner")
    let_go = asyncio.Event()

    async def stubborn() -> None:
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    task = tasks.spawn("stubborn", stubborn())
    await asyncio.sleep(0)
    await asyncio.wait_for(tasks.close(timeout=0.05), PATIENCE)
    assert "owner/stubborn" in caplog.text
    let_go.set()
    await asyncio.wait_for(task, PATIENCE)


async def test_a_task_may_close_its_own_owner() -> None:
    tasks = Tasks("owner")
    other = tasks.start("other", for_ever)
    await asyncio.wait_for(tasks.spawn("closer", tasks.close()), PATIENCE)
    assert other.cancelled()


async def test_nothing_starts_after_the_end() -> None:
    tasks = Tasks("owner")
    await tasks.close()
    with pytest.raises(RuntimeError, match="owner is closed"):
        tasks.start("late", for_ever)
