"""Which process is meant by a pid: the one that began at a known moment, not whoever got its number later.

It only looks; it starts nothing and ends nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

LOOK_SECONDS = 0.5
"""How soon an end is noticed where the system does not tell."""

_PROC = Path("/proc")
_DEAD = frozenset({"Z", "X", "x"})
"""States of `/proc/PID/stat` in which nothing runs any more; a zombie whose parent died may stay for ever."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process that cannot be mistaken for a later one of the same number."""

    pid: int
    started: str
    """In the system's own unit; empty for one that was dead when it was looked at."""

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this number now."""
        return cls(pid, _started(pid))

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        return cls.of(os.getpid())

    @property
    def is_alive(self) -> bool:
        """Whether it lives. A hung process does, a zombie does not."""
        return bool(self.started) and _started(self.pid) == self.started

    async def ended(self) -> None:
        """Waits until it lives no more. Linux tells so at once; elsewhere it is looked at now and then."""
        handle = _handle(self.pid)
        if handle is None:
            while self.is_alive:  # noqa: ASYNC110  # nobody tells
                await asyncio.sleep(LOOK_SECONDS)
            return
        try:
            if self.is_alive:
                await _readable(handle)
        finally:
            os.close(handle)


def _handle(pid: int) -> int | None:
    """A descriptor that becomes readable when the process that has this number now ends; None where there is none."""
    if sys.platform != "linux":
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


async def _readable(handle: int) -> None:
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(handle, told.set)
    try:
        await told.wait()
    finally:
        loop.remove_reader(handle)


def machine() -> str:
    """Names what pids are counted in: this boot of this machine and, in a container, its own numbering.

    Two containers may share a host name; a pid says that somebody is dead only inside its own namespace.
    """
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return f"{socket.gethostname()}/{uuid.getnode():x}"


def _started(pid: int) -> str:
    """When the living process began, in whatever unit the system has; empty when nothing lives there."""
    if pid <= 0:
        return ""
    if not (_PROC / "self/stat").exists():
        return _started_by_ps(pid)
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before may hold spaces and parentheses
    return "" if fields[0] in _DEAD else fields[19]


def _started_by_ps(pid: int) -> str:
    """The same where there is no /proc (macOS)."""
    asked = subprocess.run(  # noqa: S603  # a fixed command and a number
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],  # noqa: S607
        capture_output=True, text=True, check=False, timeout=5,
    )  # fmt: skip
    state, _, started = asked.stdout.strip().partition(" ")
    return "" if not state or state[0] in _DEAD else started.strip()
