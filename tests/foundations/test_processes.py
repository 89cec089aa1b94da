"""Processes that are meant by a pid: whoever waits for the end of one is told, also where the system does not tell."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator

import pytest

from foundations import processes
from foundations.processes import Process

pytestmark = pytest.mark.on_both_loops


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(("sleep", "60")) as child:
        yield child
        child.kill()


@pytest.fixture(params=["the system tells", "it is looked at"])
def how(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int) -> int:
        raise PermissionError(pid)

    if request.param == "it is looked at":
        monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
        monkeypatch.setattr(processes, "LOOK_SECONDS", 0.01)


@pytest.mark.usefixtures("how")
async def test_the_end_of_a_process_is_waited_for(child: subprocess.Popen[bytes]) -> None:
    waiting = asyncio.create_task(Process.of(child.pid).ended())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    child.kill()
    async with asyncio.timeout(20):
        await waiting


@pytest.mark.usefixtures("how")
async def test_one_that_has_ended_is_not_waited_for(child: subprocess.Popen[bytes]) -> None:
    process = Process.of(child.pid)
    child.kill()
    child.wait()
    async with asyncio.timeout(20):
        await process.ended()
        await Process(os.getpid(), "of another one that had this number").ended()
