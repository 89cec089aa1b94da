"""Programs that the harness starts: they end with it, also when it is killed, and what they say is kept for errors.

It starts and ends; when a program is ready, each subject knows itself (`Program.said` is one way).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

END_SECONDS = 15.0
LOOK_SECONDS = 0.01
PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class Failed(Exception):
    """A program ended, or did not become ready in time; the sentence has its last words."""


class Program:
    """One program, from its start to its end. Its two outputs go to one file, so that it never waits for a reader."""

    def __init__(
        self, command: Sequence[str | Path], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> None:
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # it is open as long as the program
        self._command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=self._words, stderr=self._words, cwd=cwd,
            env={**os.environ, **(env or {})}, start_new_session=True, preexec_fn=_end_with_the_harness,
        )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def words(self) -> str:
        """All that it has said."""
        size = os.fstat(self._words.fileno()).st_size
        return os.pread(self._words.fileno(), size, 0).decode(errors="replace")

    async def said(self, pattern: str, seconds: float = 30.0) -> re.Match[str]:
        """Waits until it has said something like that.

        Raises:
            Failed: it ended, or did not say it for so long.
        """
        deadline = asyncio.get_running_loop().time() + seconds
        while (found := re.search(pattern, self.words)) is None:
            if self._process.poll() is not None:
                raise Failed(f"{self._command[0]} ended with {self._process.returncode}: {self.words[-2000:]}")
            if asyncio.get_running_loop().time() > deadline:
                raise Failed(f"{self._command[0]} did not say {pattern!r} in {seconds:.0f} s: {self.words[-2000:]}")
            await asyncio.sleep(LOOK_SECONDS)
        return found

    async def end(self) -> None:
        """SIGTERM, and SIGKILL if that is not enough."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, END_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)  # and its workers: it is the first of a session of its own
            await asyncio.to_thread(self._process.wait, END_SECONDS)
        self._words.close()


def children_of(pid: int) -> list[int]:
    """The living processes that this one has started, and theirs (on Linux)."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found += [int(child), *children_of(int(child))]
    return found


def _end_with_the_harness() -> None:
    """The kernel sees to it: on Linux a program gets SIGTERM when the thread that started it is gone."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
