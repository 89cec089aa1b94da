"""``smart-city`` as a process of its own, from a terminal that is none. It knows no command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

SECONDS = 60.0
"""For a process to start and end: two seconds on a quiet machine, thirty have been seen."""
COMMAND = (sys.executable, "-m", "city_hall")


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


def environment(url: str = "", token: str = "", **more: str) -> Mapping[str, str]:
    """Without what the tests' own surroundings say about a platform."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SMART_CITY_") or "_TEST_" in name}
    given = {"SMART_CITY_URL": url, "SMART_CITY_TOKEN": token, "COLUMNS": "120", "TERM": "dumb", **more}
    return kept | {name: value for name, value in given.items() if value}


async def started(words: tuple[str, ...], env: Mapping[str, str]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        *COMMAND, *words, stdin=pipe, stdout=pipe, stderr=pipe, env=env, limit=1 << 24
    )


async def smart_city(
    *words: str, url: str = "", token: str = "", given: bytes = b"", env: Mapping[str, str] | None = None
) -> Ended:
    """Runs it to its end."""
    process = await started(words, environment(url, token, **(env or {})))
    try:
        async with asyncio.timeout(SECONDS):
            out, err = await process.communicate(given)
    finally:
        await gone(process)
    return Ended(process.returncode or 0, out.decode(), err.decode())


@asynccontextmanager
async def running(
    *words: str, url: str = "", token: str = "", **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """It runs until the block is left."""
    process = await started(words, environment(url, token))
    try:
        yield process
    finally:
        await gone(process)


async def gone(process: asyncio.subprocess.Process) -> None:
    """Ended, and waited for, so that nothing of it is left."""
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    async with asyncio.timeout(SECONDS):
        await process.communicate()


async def line(process: asyncio.subprocess.Process, seconds: float = SECONDS) -> Any:
    """The next line that it prints, as JSON."""
    assert process.stdout is not None
    async with asyncio.timeout(seconds):
        said = await process.stdout.readline()
    assert said, "it has ended"
    return json.loads(said)
