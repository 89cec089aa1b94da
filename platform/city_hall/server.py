"""uvicorn's server as a worker runs it: it can be interrupted while the city opens, and drains before it stops.

When a worker serves is `worker`'s affair, and how connections end the gateway's; here are signals and their order.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Protocol

import uvicorn

DATE_SECONDS = 1.0

_log = logging.getLogger("smart_city.worker")


class Draining(Protocol):
    """What an application knows of its end."""

    wanted: asyncio.Event
    """Set when it must end, although nobody outside has asked for it."""


class Leaving(Protocol):
    """Who ends the connections of an application: its gateway."""

    @property
    def draining(self) -> Draining: ...

    def announce_drain(self) -> None:
        """Readiness says no from now on; everybody is still served."""
        ...

    async def drain(self) -> None:
        """Ends all connections, spread over the drain."""
        ...


class Server(uvicorn.Server):
    """Tells when it listens, and ends in peace after a signal.

    uvicorn raises the signal again once it has stopped, for the handler that was there before: `_stop`.
    """

    def __init__(
        self, config: uvicorn.Config, on_listening: Callable[[], None], leaving: Callable[[], Leaving | None], *,
        notice_seconds: float,
    ) -> None:  # fmt: skip
        super().__init__(config)
        self._on_listening = on_listening
        self._leaving = leaving
        self._notice_seconds = notice_seconds
        self._opening: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._over = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._stop)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """What the calling task does inside is cancelled by a signal."""
        self._opening = asyncio.current_task()
        try:
            yield
        finally:
            self._opening = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_listening()
        if (leaving := self._leaving()) is not None:
            self._ending = asyncio.create_task(self._end_when_wanted(leaving.draining.wanted))

    async def main_loop(self) -> None:
        """Serves until it is to end, which it learns at once; the date that answers carry is renewed each second.

        uvicorn's own looks ten times a second, a sixth of what an idle instance burns.
        """
        tenths = 0
        while not await self.on_tick(tenths):
            tenths += 10
            with suppress(TimeoutError):
                async with asyncio.timeout(DATE_SECONDS):
                    await self._over.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Takes a signal while it serves."""
        super().handle_exit(sig, frame)
        self._soon(self._over.set)

    async def _end_when_wanted(self, wanted: asyncio.Event) -> None:
        await wanted.wait()
        _log.error("this instance has to end: it drains")
        self.should_exit = True
        self._over.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Readiness first, then the listener, then the connections in waves; what is left uvicorn ends."""
        if (leaving := self._leaving()) is not None:
            self._ending.cancel()
            leaving.announce_drain()
            await asyncio.sleep(self._notice_seconds)
            for server in self.servers:
                server.close()
            await leaving.drain()
        await super().shutdown(sockets)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.should_exit = True
        self._soon(self._interrupt)

    def _soon(self, step: Callable[[], None]) -> None:
        """For signals, which may come as late as to a loop that is closed: the worker ends anyway."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(step)

    def _interrupt(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
