"""What processes have used: CPU time to the nanosecond, and memory. It knows nothing of what they did with it.

CPU time is the scheduler's own sum (`/proc/PID/task/*/schedstat`): `/proc/PID/stat` counts in ticks of 10 ms.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

IDLE_SHARE = 0.03
IDLE_LOOK_SECONDS = 0.25


def cpu_ns(processes: Iterable[int]) -> int:
    """The CPU time that these processes have had in all their threads that live, in ns."""
    return sum(_thread_ns(thread) for pid in processes for thread in Path(f"/proc/{pid}/task").iterdir())


def _thread_ns(thread: Path) -> int:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
        return int((thread / "schedstat").read_text().split()[0])
    return 0


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
