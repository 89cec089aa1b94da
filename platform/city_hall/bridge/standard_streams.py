"""The bridge's life: from its first word to the platform until its host closes standard input, or a signal comes.

Standard output has the protocol and nothing else; whatever a library prints goes to standard error.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, cast

from mcp.server.stdio import stdio_server

from city_hall.bridge.following import Following
from city_hall.bridge.server import bridge_to
from city_hall.bridge.upstream import Upstream

if TYPE_CHECKING:
    import anyio

STDIN = 0
PIECE_BYTES = 64 * 1024
LONGEST_LINE = 8 * 1024 * 1024
"""No message of the protocol is longer: a request's body may be 4 MiB and a little."""
LINES_AHEAD = 16
_OVER = (RuntimeError, OSError, concurrent.futures.CancelledError)
"""What a thread meets when nobody wants its lines any more: the loop is closed, or the descriptor."""
END_SECONDS = 3.0
"""After a signal, whatever still hangs on the streams gets so long."""


async def serve(url: str, token: str) -> None:
    """Bridges standard input and output to the platform at ``url``.

    Raises:
        Unreachable, Refused: the platform does not answer, or says no, before the first request.
    """
    serving = asyncio.current_task()
    assert serving is not None  # noqa: S101  # a coroutine runs in a task
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, _end, serving)
    with contextlib.suppress(asyncio.CancelledError):
        await _bridge(url, token)


async def _bridge(url: str, token: str) -> None:
    async with Upstream(url, token) as upstream:
        who, instructions = await upstream.introduction()
        following = Following(upstream)
        server = bridge_to(upstream, who, instructions, following)
        # The lines are all that the SDK asks of standard input, and its own reader cannot be interrupted.
        lines = cast("anyio.AsyncFile[str]", Lines(STDIN))
        try:
            async with stdio_server(stdin=lines) as (read, write):
                await server.run(read, write, server.create_initialization_options())
        finally:
            await following.close()


def _end(serving: asyncio.Task[None]) -> None:
    serving.cancel()
    asyncio.get_running_loop().call_later(END_SECONDS, os._exit, 0)


class Lines:
    """The lines of a file descriptor, read by a thread that nobody has to wait for."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read: asyncio.Queue[bytes] = asyncio.Queue(LINES_AHEAD)
        self._loop = asyncio.get_running_loop()

    async def __aiter__(self) -> AsyncIterator[str]:
        threading.Thread(target=self._read_all, name="standard input", daemon=True).start()
        while line := await self._read.get():
            yield line.decode(errors="replace")

    def _read_all(self) -> None:
        """Reads until the end, never further ahead than the protocol is behind."""
        with contextlib.suppress(*_OVER):
            rest = b""
            while piece := os.read(self._descriptor, PIECE_BYTES):
                *lines, rest = (rest + piece).split(b"\n")
                for line in filter(bytes.strip, lines):
                    self._hand_over(line)
                if len(rest) > LONGEST_LINE:
                    print(f"a message is longer than {LONGEST_LINE} bytes", file=sys.stderr)  # noqa: T201
                    break
            else:
                self._hand_over(rest)
            self._hand_over(b"")

    def _hand_over(self, line: bytes) -> None:
        asyncio.run_coroutine_threadsafe(self._read.put(line), self._loop).result()
