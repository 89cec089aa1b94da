"""The supervisor's child processes: started, briefed, heard, restarted with back-off, ended within a bound.

Each lives in a process group of its own, which a terminal's Ctrl-C does not reach, and on one socket: there
it is told what to be, says ``ready`` or ``failed SENTENCE``, and learns at its end-of-file that it has no
supervisor any more (`lifeline` is the other end). What children do is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import random
import signal
import socket
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from city_hall.refusals import StartRefused

REFUSED = 3
"""Exit status of a child that must not be started again."""
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 20.0
STEADY_SECONDS = 30.0
"""A child that lived this long before it ended starts again with the first pause."""
TRIES_BEFORE_READY = 3
"""A child that never got ready is given up after so many tries."""
LAST_WORDS_SECONDS = 1.0
BEAT_SECONDS = 0.5
"""So often a child that beats at all does so."""
LOOKS_A_HANG = 20

_log = logging.getLogger("smart_city.supervisor")


@dataclass(frozen=True, slots=True)
class Briefing:
    """What a child is to be: environment variables, and open files that it gets."""

    environment: Mapping[str, str]
    files: tuple[int, ...] = ()
    hang_seconds: float = math.inf
    """A child that has begun to beat, and then does not for so long, hangs and is killed."""

    def send(self, line: socket.socket) -> None:
        socket.send_fds(line, [json.dumps(dict(self.environment)).encode() + b"\n"], self.files)


class Child:
    """One program, kept running by `keep` until `end`."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        """``command`` gets one more argument, the descriptor of the child's end of the socket."""
        self.name = name
        self.ready = asyncio.Event()
        self._command = tuple(command)
        self._briefing: asyncio.Future[Briefing] = asyncio.get_running_loop().create_future()
        self._process: Process | None = None
        self._last_words = ""
        self._silent_looks = 0
        self._beats = False
        self._is_ending = False

    def brief(self, briefing: Briefing) -> None:
        """Says what the child and all its successors are to be.

        A child may be started before: it then loads its modules while it waits. A later briefing is for those
        that are started after it.
        """
        if self._briefing.done():
            self._briefing = asyncio.get_running_loop().create_future()
        self._briefing.set_result(briefing)

    async def keep(self) -> None:
        """Runs the child, again and again, until `end`.

        Raises:
            StartRefused: it said that it must not be started again, or never got ready.
        """
        pause, tries = FIRST_PAUSE, 0
        clock = asyncio.get_running_loop().time
        while not self._is_ending:
            began = clock()
            status = await self._live()
            tries += 1
            if self._is_ending:
                return
            self._judge(status, tries)
            if clock() - began >= STEADY_SECONDS:
                pause = FIRST_PAUSE
            _log.error("%s ended: %s; starting it again in %.1f s", self.name, _ending(status), pause)
            await asyncio.sleep(pause * random.uniform(0.75, 1))  # noqa: S311  # spreads restarts
            pause = min(pause * 2, LONGEST_PAUSE)

    async def end(self, within: float) -> int:
        """SIGTERM, then after ``within`` seconds SIGKILL; the exit status when the process is gone."""
        self._is_ending = True
        if self._process is None or self._process.returncode is not None:
            return 0  # how it ended before was told then
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(within):
                return await self._process.wait()
        except TimeoutError:
            _log.warning("%s did not end within %.0f s and is killed", self.name, within)
            self.kill()
            return await self._process.wait()

    def replace(self) -> None:
        """SIGTERM; a successor is started."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL, to it and whatever it started."""
        self._is_ending = True
        self._signal(signal.SIGKILL)

    def _judge(self, status: int, tries: int) -> None:
        """Whether there is any use in starting it again."""
        if status == REFUSED:
            raise StartRefused(self._last_words or f"{self.name} refused to start, and did not say why.")
        if not self.ready.is_set() and tries >= TRIES_BEFORE_READY:
            why = self._last_words or _ending(status)
            raise StartRefused(f"{self.name} ended {tries} times before it was ready: {why}.")

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _live(self) -> int:
        """One process from its start to its end; its exit status."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours:
            with theirs:
                self._process = process = await self._start(theirs.fileno())
            self._beats = False
            talking = [asyncio.ensure_future(work) for work in (self._tell(ours), self._hear(ours), self._watch())]
            try:
                if self._is_ending:  # asked for while it was being started
                    self._signal(signal.SIGKILL)
                status = await process.wait()
                await asyncio.wait(talking[1:2], timeout=LAST_WORDS_SECONDS)
                return status
            finally:
                self._signal(signal.SIGKILL)
                for task in talking:
                    task.cancel()
                await asyncio.wait(talking)

    async def _start(self, line: int) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, str(line), stdin=DEVNULL, process_group=0, pass_fds=(line,)
            )
        except OSError as error:
            raise StartRefused(f"{self.name} cannot be started: {error}.") from error

    async def _tell(self, line: socket.socket) -> None:
        """Sends the briefing as soon as there is one; the child, or what it was to get, may be gone by then."""
        briefing = await asyncio.shield(self._briefing)
        with contextlib.suppress(OSError):
            briefing.send(line)

    async def _hear(self, line: socket.socket) -> None:
        """Takes in what the child reports until it ends."""
        heard = b""
        with contextlib.suppress(ConnectionError):
            while more := await asyncio.get_running_loop().sock_recv(line, 4096):
                *reports, heard = (heard + more).split(b"\n")
                for report in reports:
                    self._take_in(report.decode(errors="replace"))

    async def _watch(self) -> None:
        """Kills a child whose event loop hangs. Looks are counted, not seconds: we may have been asleep ourselves."""
        patience = (await asyncio.shield(self._briefing)).hang_seconds
        if patience == math.inf:
            return
        pause = max(BEAT_SECONDS, patience / LOOKS_A_HANG)
        while True:
            await asyncio.sleep(pause)
            self._silent_looks += 1
            if self._beats and self._silent_looks * pause > patience:
                _log.error("%s hangs: its event loop has not turned for %.1f s; it is killed", self.name, patience)
                self._signal(signal.SIGKILL)
                return

    def _take_in(self, report: str) -> None:
        word, _, rest = report.partition(" ")
        if word == "beat":
            self._beats = True
            self._silent_looks = 0
        elif word == "ready":
            self.ready.set()
        elif word == "failed":
            self._last_words = rest


def _ending(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
