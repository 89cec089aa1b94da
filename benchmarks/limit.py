"""The limit as a subject: a bare loop in C (`load/limit.c`) that writes to each subscriber and does nothing else.

What a server costs beyond it is that server's own. It publishes in a way of its own, since it is no product.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Literal, Self

from benchmarks.generator import built
from benchmarks.processes import Program
from benchmarks.subjects import Audience

TAKEN_SECONDS = 60.0


class Limit:
    """``each``: one write() per socket and message. ``gathered``: one per socket and turn of its loop, for bursts."""

    version = "-"
    host = "127.0.0.1"
    store: Sequence[int] = ()

    def __init__(self, manner: Literal["each", "gathered"] = "each") -> None:
        self.name = "C limit" if manner == "each" else "C limit, gathered"
        self._manner = manner
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            program = Program([built("limit", "limit.c"), self._manner])
            stack.push_async_callback(program.end)
            self.port = int((await program.said(r"(\d+)\n", 10))[1])
            self.processes = [program.pid]
            self._reader, self._writer = await asyncio.open_connection(self.host, self.port)
            self._writer.write(b"PUB\n")
            stack.callback(self._writer.close)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def audience(self, channel: str, clients: int) -> Audience:
        return Audience(path=f"/{channel}")

    async def publish(self, channel: str, payload: bytes) -> None:
        await self.publish_batch([(channel, payload)])

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        lines = [b"/%s %d\n%s" % (channel.encode(), len(payload), payload) for channel, payload in publications]
        self._writer.write(b"".join(lines) + b".\n")
        async with asyncio.timeout(TAKEN_SECONDS):
            await self._reader.readexactly(1)
