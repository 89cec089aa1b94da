"""Flame graphs: where the platform's CPU goes in a case, recorded by py-spy from outside while the case runs.

Recording stops the platform for each look at it, so what is measured meanwhile is not written down.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from benchmarks.case import Case, Trial
from benchmarks.catalogue import made
from benchmarks.generator import Load
from benchmarks.measure import idle
from benchmarks.processes import Failed, Program
from benchmarks.subjects import Missing

LOOKS_A_SECOND = 500


async def record(case: Case, into: Path, *, quick: bool) -> Path:
    """Runs a case once with its first subject, and writes what was seen to an SVG in this folder.

    Raises:
        Missing: py-spy is not installed, or may not look into processes here.
    """
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(Load())
        subject = await stack.enter_async_context(made(case.subjects[0], case.channels))
        await idle(subject.processes)
        async with _spying(subject.processes, into / f"flame-{case.name}.svg") as written:
            await case.run(Trial(subject=subject, load=load, quick=quick))
    return written


@asynccontextmanager
async def _spying(processes: Sequence[int], into: Path) -> AsyncIterator[Path]:
    """On the last of the processes, which is the one that serves, and with the C code below Python's if it can."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if spy is None:
        raise Missing("there is no py-spy: scripts/environment bench installs it")
    command = [spy, "record", "--pid", str(processes[-1]), "--output", str(into), "--rate", str(LOOKS_A_SECOND)]
    program = Program([*command, "--nonblocking"])
    try:
        await program.said("Sampling process", 20)
    except Failed as failure:
        await program.end()
        raise Missing(f"py-spy cannot look into the platform: {failure}") from failure
    try:
        yield into
    finally:
        os.kill(program.pid, signal.SIGINT)
        async with asyncio.timeout(60):
            await program.said("Wrote flamegraph", 60)
        await program.end()
