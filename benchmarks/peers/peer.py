"""What all peers share as subjects: an address, and what they have started, which ends when they are left."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.processes import Program

ROOT = Path(__file__).resolve().parents[2]
TOLD = r'\{"port".*\}'
"""What a server of ours says about itself once it can be connected to: JSON, with its port and its version."""


class Peer:
    """A `benchmarks.subjects.Subject` without its server: that is started in ``start``."""

    name: str

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self.version = ""
        self.processes: Sequence[int] = ()
        self.store: Sequence[int] = ()
        self._started = AsyncExitStack()

    async def start(self, started: AsyncExitStack) -> None:
        """Starts everything, and sets the address, the version and the processes.

        Raises:
            Missing: it cannot be had on this machine.
            Failed: it can, and did not start.
        """
        raise NotImplementedError

    def run(self, started: AsyncExitStack, *command: str | Path, env: Mapping[str, str] | None = None) -> Program:
        """Starts a program, which ends when the peer is left."""
        program = Program(command, env=env, cwd=ROOT)
        started.push_async_callback(program.end)
        return program

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as started:
            await self.start(started)
            self._started = started.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._started.aclose()


def found(pattern: str, program: Program) -> str:
    """What a program has said at the group of a pattern; ``?`` where it has not."""
    match = re.search(pattern, program.words)
    return match[1] if match else "?"
