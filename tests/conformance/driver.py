"""The client under test, in a process of its own: instructions on its standard input, what it tells on its output.

One JSON object a line, both ways. It passes them on; what they mean is the scenario's.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import IO, Any

from tests.conformance.patterns import Mismatch

END_SECONDS = 15.0
LINE_BYTES = 64 << 20

Told = dict[str, Any]


class Driver:
    """A running command."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes]) -> None:
        self._process = process
        self._errors = errors

    @classmethod
    @asynccontextmanager
    async def started(cls, command: Sequence[str]) -> AsyncIterator[Driver]:
        """Starts a command, and ends it on leaving if it has not ended.

        Raises:
            Mismatch: it cannot be started.
        """
        with tempfile.TemporaryFile() as errors:
            try:
                process = await asyncio.create_subprocess_exec(
                    *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=errors,
                    limit=LINE_BYTES,
                )  # fmt: skip
            except OSError as error:
                raise Mismatch(f"the command does not start: {error}") from None
            try:
                yield cls(process, errors)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()

    @property
    def said(self) -> str:
        """The end of what it has written to its standard error."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-2000:].strip()

    async def do(self, instruction: Told) -> None:
        """Gives an instruction."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(instruction).encode() + b"\n")
            await self._process.stdin.drain()
        except ConnectionError:
            raise Mismatch("the command has ended") from None

    async def told(self, seconds: float) -> Told:
        """The next that it tells.

        Raises:
            Mismatch: nothing in time, or no JSON object.
        """
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(seconds):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise Mismatch(f"the client told nothing within {seconds:g} s") from None
        if not line:
            raise Mismatch("the command has ended")
        try:
            told = json.loads(line)
        except ValueError:
            raise Mismatch(f"what the client told is no JSON: {line!r}") from None
        if not isinstance(told, dict):
            raise Mismatch(f"what the client told is no object: {line!r}")
        return told

    async def close(self) -> None:
        """Tells it to close, and waits for its end; it has nothing more to tell.

        Raises:
            Mismatch: it has, or it did not end well.
        """
        await self.do({"do": "close"})
        told = await self.told(END_SECONDS)
        if told.get("told") != "closed":
            raise Mismatch(f"the client told what no step has asked for: {json.dumps(told)}")
        try:
            async with asyncio.timeout(END_SECONDS):
                code = await self._process.wait()
        except TimeoutError:
            raise Mismatch(f"the command did not end within {END_SECONDS:g} s of being told to close") from None
        if code:
            raise Mismatch(f"the command ended with {code}")
