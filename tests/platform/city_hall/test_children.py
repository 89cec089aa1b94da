"""Child processes one by one: told, heard, restarted, given up, ended. Each is a small Python program."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import pytest

from city_hall.children import REFUSED, Briefing, Child
from city_hall.lifeline import SUPERVISOR_GONE
from city_hall.refusals import StartRefused
from foundations.processes import Process
from tests.support.waiting import PATIENCE, until

BEGIN = """
import os, signal, sys, time
from city_hall.lifeline import Lifeline
line = Lifeline(int(sys.argv[1]))
files = line.briefing()
note = open(os.environ["NOTE"], "a")
def say(word):
    note.write(f"{os.getpid()} {word}\\n")
    note.flush()
"""


def child_that(does: str) -> Child:
    return Child("the child", (sys.executable, "-c", BEGIN + does))


@pytest.fixture
def note(tmp_path: Path) -> Path:
    """Where children write what they have to say: a line with pid and word each."""
    path = tmp_path / "note"
    path.touch()
    return path


def pids(note: Path) -> list[int]:
    return [int(line.split()[0]) for line in note.read_text().splitlines()]


async def test_a_child_gets_its_environment_and_its_files(note: Path) -> None:
    child = child_that("say(os.environ['WORD']); say(os.read(files[0], 9).decode()); line.ready(); signal.pause()")
    ours, theirs = os.pipe()
    os.write(theirs, b"a file")
    keeping = asyncio.ensure_future(child.keep())

    child.brief(Briefing({"NOTE": str(note), "WORD": "hello"}, (ours,)))
    await asyncio.wait_for(child.ready.wait(), PATIENCE)

    assert [line.partition(" ")[2] for line in note.read_text().splitlines()] == ["hello", "a file"]
    await child.end(5)
    await asyncio.wait_for(keeping, PATIENCE)
    os.close(ours)
    os.close(theirs)


async def test_a_program_that_does_not_exist_is_refused() -> None:
    child = Child("the child", ("/nowhere/at/all",))

    with pytest.raises(StartRefused, match="the child cannot be started"):
        await child.keep()


async def test_one_that_refuses_is_not_started_again_and_its_words_are_kept(note: Path) -> None:
    child = child_that(f"say('start'); line.failed('no room\\nat the inn'); sys.exit({REFUSED})")
    child.brief(Briefing({"NOTE": str(note)}))

    with pytest.raises(StartRefused, match=r"^no room at the inn$"):
        await child.keep()

    assert len(pids(note)) == 1


async def test_one_that_never_gets_ready_is_given_up(note: Path) -> None:
    child = child_that("say('start'); sys.exit(7)")
    child.brief(Briefing({"NOTE": str(note)}))

    with pytest.raises(StartRefused, match="exit status 7"):
        await child.keep()

    assert len(set(pids(note))) == 3


async def test_one_that_was_ready_is_started_again_and_again(note: Path) -> None:
    child = child_that("line.ready(); say('start'); os.kill(os.getpid(), signal.SIGKILL)")
    child.brief(Briefing({"NOTE": str(note)}))
    keeping = asyncio.ensure_future(child.keep())

    await until(lambda: len(pids(note)) >= 4, "it was started four times", 20)

    assert not keeping.done()
    await child.end(5)
    keeping.cancel()


async def test_a_successor_gets_the_latest_briefing(note: Path) -> None:
    child = child_that("say(os.environ['WORD']); line.ready(); signal.pause()")
    child.brief(Briefing({"NOTE": str(note), "WORD": "first"}))
    keeping = asyncio.ensure_future(child.keep())
    await until(lambda: "first" in note.read_text(), "the first is there", 10)

    child.brief(Briefing({"NOTE": str(note), "WORD": "second"}))
    child.replace()

    await until(lambda: "second" in note.read_text(), "the second is there", 10)
    await child.end(5)
    await asyncio.wait_for(keeping, PATIENCE)


async def test_one_that_does_not_want_to_end_is_killed(note: Path) -> None:
    child = child_that("signal.signal(signal.SIGTERM, signal.SIG_IGN); say('start'); line.ready(); time.sleep(60)")
    child.brief(Briefing({"NOTE": str(note)}))
    keeping = asyncio.ensure_future(child.keep())
    await asyncio.wait_for(child.ready.wait(), PATIENCE)

    await child.end(0.05)

    await asyncio.wait_for(keeping, PATIENCE)
    assert not Process.of(pids(note)[0]).is_alive


async def test_one_that_waits_for_its_briefing_can_be_ended() -> None:
    child = child_that("")
    keeping = asyncio.ensure_future(child.keep())
    await asyncio.sleep(0)

    await child.end(5)
    await asyncio.wait_for(keeping, PATIENCE)


async def test_a_busy_child_ends_with_its_supervisor(note: Path) -> None:
    """The supervisor is a process of its own here, which is killed."""
    supervising = (
        "import asyncio, sys\n"
        "from city_hall.children import Briefing, Child\n"
        "async def main():\n"
        "    child = Child('the child', (sys.executable, '-c', sys.argv[2]))\n"
        "    child.brief(Briefing({'NOTE': sys.argv[1]}))\n"
        "    await child.keep()\n"
        "asyncio.run(main())\n"
    )
    busy = BEGIN + "say('start')\nwhile True: pass"
    supervisor = await asyncio.create_subprocess_exec(sys.executable, "-c", supervising, str(note), busy)
    await until(lambda: len(pids(note)) == 1, "the child is busy", 20)
    process = Process.of(pids(note)[0])
    assert process.is_alive

    supervisor.kill()
    await supervisor.wait()

    await until(lambda: not process.is_alive, "the child has ended", 10)


async def test_a_child_whose_supervisor_is_gone_before_it_was_told_ends() -> None:
    read_end = "import socket, subprocess, sys\nours, theirs = socket.socketpair()\n"
    code = (
        read_end + f"child = subprocess.Popen([sys.executable, '-c', {BEGIN!r}, str(theirs.fileno())], "
        "pass_fds=(theirs.fileno(),))\n"
        "theirs.close(); ours.close()\nsys.exit(child.wait(20))"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)

    assert await asyncio.wait_for(process.wait(), 30) == SUPERVISOR_GONE
