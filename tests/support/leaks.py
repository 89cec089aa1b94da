"""No process outlives the tests: one that carries this run's mark in its environment at the end fails it.

The mark is inherited by all that is started, however deep, unless it overwrites its environment, as servers that
set their title do. Where there is no /proc, nothing is checked.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundations.processes import Process

MARK = "SMART_CITY_TEST_RUN"
PATIENCE_SECONDS = 10.0
LEAKED = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[LEAKED] = []
    if not _is_worker(config):
        os.environ[MARK] = secrets.token_hex(8)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Waits a little for what is just ending, then names and ends the rest."""
    if _is_worker(session.config):
        return
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (left := list(marked_processes(os.environ[MARK]))) and time.monotonic() < deadline:
        time.sleep(0.02)  # between two looks at a condition with a deadline
    for process, command in left:
        session.config.stash[LEAKED].append(f"{process.pid} ({command})")
        if process.is_alive:
            os.kill(process.pid, signal.SIGKILL)
    if left:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if leaked := config.stash[LEAKED]:
        terminalreporter.write_line(f"Processes outlived the tests: {', '.join(leaked)}", red=True)


def marked_processes(mark: str) -> Iterator[tuple[Process, str]]:
    """Every other living process that was started under this mark, with its command line."""
    wanted = f"{MARK}={mark}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended, or is not ours to look into
            environment = (folder / "environ").read_bytes().split(b"\0")
            if wanted not in environment or int(folder.name) == os.getpid():
                continue
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            if (process := Process.of(int(folder.name))).is_alive:
                yield process, command


def _is_worker(config: pytest.Config) -> bool:
    """Whether this is one of pytest-xdist's workers; only their parent looks."""
    return hasattr(config, "workerinput")
