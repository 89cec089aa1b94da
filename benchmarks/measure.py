"""What processes have used: CPU time to the nanosecond, and memory. It knows nothing of what they did with it.

CPU time is the scheduler's own sum (`clock_getcpuclockid`), threads that have ended included: `/proc/PID/stat` counts
in ticks of 10 ms, and `/proc/PID/task` forgets who has left.
"""

from __future__ import annotations

import asyncio
import ctypes
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

_libc = ctypes.CDLL(None)
IDLE_SHARE = 0.03
IDLE_LOOK_SECONDS = 0.25


def cpu_ns(processes: Iterable[int]) -> int:
    """The CPU time that these processes have had in all their threads, in ns.

    Raises:
        ProcessLookupError: one of them is gone.
    """
    return sum(time.clock_gettime_ns(_clock_of(pid)) for pid in processes)


def _clock_of(pid: int) -> int:
    clock = ctypes.c_int()
    if _libc.clock_getcpuclockid(pid, ctypes.byref(clock)):
        raise ProcessLookupError(f"process {pid} is gone")
    return clock.value


async def idle(processes: Sequence[int], patience: float = 20.0) -> bool:
    """Waits until they are done with what they began: they use less than `IDLE_SHARE` of a core. Not for ever."""
    for _ in range(round(patience / IDLE_LOOK_SECONDS)):
        before = cpu_ns(processes)
        await asyncio.sleep(IDLE_LOOK_SECONDS)
        if cpu_ns(processes) - before < IDLE_SHARE * IDLE_LOOK_SECONDS * 1e9:
            return True
    return False


def memory_bytes(processes: Iterable[int]) -> int:
    """Their proportional set size: what is shared among them counts once."""
    return sum(_rollup(pid, "Pss") for pid in processes)


def resident_bytes(processes: Iterable[int]) -> int:
    """Their resident set sizes."""
    return sum(_rollup(pid, "Rss") for pid in processes)


def _rollup(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)
    if found is None:
        raise LookupError(f"the kernel does not tell {field} of process {pid}")
    return int(found[1]) * 1024
