"""Open streams of changes: who wants to be told that something new is in a channel, and nothing more.

What changed is told once, however often it changed while it was not told, so that a slow listener costs no more than
a quick one. How it is told is a surface's affair; what was published is read from the log.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Protocol

from foundations.errors import Overloaded, Unauthenticated
from foundations.telemetry import Counters
from smart_city.post_office.channels import Channels
from smart_city.post_office.gateway.credentials import Credentials
from smart_city.post_office.gateway.draining import Drain, in_waves
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.gateway.watching import watching
from smart_city.post_office.log import ChannelLog
from smart_city.vocabulary import Identity, Position

GATHER_SECONDS = 0.1
"""A burst is told as one change: the first at once, what follows together."""


class Sessions(Protocol):
    """Who knows of revocations."""

    def revoked_since(self, identity: Identity, moment: float) -> bool: ...


class Listener:
    """One open stream: which channels it follows, and which of them have changed since it was told."""

    def __init__(self, identity: Identity, hub: Hub, most: int) -> None:
        self.identity = identity
        self.dismissed = ""
        """Why it may not stay, if it may not."""
        self._hub = hub
        self._most = most
        self._followed: dict[str, AsyncExitStack] = {}
        self._changed: dict[str, None] = {}
        self._wake = asyncio.Event()
        self._over = asyncio.Event()

    async def follow(self, channels: Collection[str]) -> None:
        """Hears these channels from now on, and no others.

        Raises:
            Overloaded: they are too many.
            Unavailable: the bus or the log is away.
        """
        wanted = set(channels)
        if len(wanted) > self._most:
            raise Overloaded(f"one stream may follow {self._most} channels; open another")
        for channel in self._followed.keys() - wanted:
            await self._followed.pop(channel).aclose()
        for channel in wanted - self._followed.keys():
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(watching(self._hub, channel, partial(self.ring, channel)))
                self._followed[channel] = stack.pop_all()

    def ring(self, channel: str) -> None:
        """A channel has changed, or may have."""
        self._changed[channel] = None
        self._wake.set()

    def wake(self) -> None:
        """Lets `changes` yield, although nothing changed."""
        self._wake.set()

    async def changes(self, beat_seconds: float | None = None) -> AsyncIterator[Sequence[str]]:
        """The channels that have changed, as they do, until the stream is over; with a beat, nothing now and then."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(beat_seconds):
                    await self._wake.wait()
            self._wake.clear()
            if self._over.is_set():
                return
            changed, self._changed = list(self._changed), {}
            yield changed
            if changed:
                with suppress(TimeoutError):
                    async with asyncio.timeout(GATHER_SECONDS):
                        await self._over.wait()

    def end(self) -> None:
        """Ends the stream in peace."""
        self._over.set()
        self._wake.set()

    @property
    def user_id(self) -> str:
        """Whose stream it is."""
        return self.identity.subject

    def send(self, frame: bytes) -> None:
        """Leaves the warning of an expiring session out: a stream cannot be refreshed."""

    def close(self, code: int, reason: str) -> None:
        """Ends the stream of somebody who may not stay."""
        self.dismissed = reason
        self.end()

    async def leave(self) -> None:
        """Hears nothing any more; the stream is over."""
        for stack in self._followed.values():
            await stack.aclose()
        self._followed.clear()


class Listening:
    """The listeners of this instance."""

    def __init__(
        self, *, hub: Hub, log: ChannelLog, channels: Channels, credentials: Credentials, sessions: Sessions,
        draining: Drain, counters: Counters, most: int, most_per_caller: int, most_channels: int,
    ) -> None:  # fmt: skip
        self._hub = hub
        self._log = log
        self._channels = channels
        self._credentials = credentials
        self._sessions = sessions
        self._draining = draining
        self._counters = counters
        self._most = most
        self._most_per_caller = most_per_caller
        self.most_channels = most_channels
        self._open: set[Listener] = set()
        self._callers: Counter[str] = Counter()

    def check(self, caller: Identity, channel: str) -> None:
        """Lets callers pass that may hear this channel.

        Raises:
            UnknownChannel, Forbidden: as everywhere.
        """
        self._channels.check(caller, "subscribe", channel)

    async def newest(self, channels: Sequence[str]) -> Mapping[str, Position]:
        """Where these logs are now."""
        return await self._log.newest(channels)

    @asynccontextmanager
    async def listener(self, caller: Identity, since: float) -> AsyncIterator[Listener]:
        """A stream of this caller, who was found behind a token not before ``since`` of the monotonic clock.

        Raises:
            Overloaded: this instance or this caller has as many as may be, or the instance is leaving.
            Unauthenticated: what let the caller in was revoked meanwhile.
        """
        self._admit(caller)
        listener = Listener(caller, self._hub, self.most_channels)
        self._open.add(listener)
        self._callers[caller.subject] += 1
        self._counters.listeners_active += 1
        self._credentials.add(listener)
        try:
            if self._sessions.revoked_since(caller, since):
                raise Unauthenticated("this token was revoked just now")
            yield listener
        finally:
            self._credentials.remove(listener)
            self._open.discard(listener)
            self._callers[caller.subject] -= 1
            self._counters.listeners_active -= 1
            self._callers += Counter()  # forgets those at zero
            await listener.leave()

    def _admit(self, caller: Identity) -> None:
        if self._draining.has_begun:
            raise Overloaded("this instance is leaving; try again at once", retry_after=0.1)
        if len(self._open) >= self._most:
            raise Overloaded(f"this instance has {self._most} open streams", retry_after=5)
        if self._callers[caller.subject] >= self._most_per_caller:
            raise Overloaded(f"{caller.subject} has {self._most_per_caller} open streams; close one", retry_after=5)

    async def end_at_drain(self) -> None:
        """Ends all streams in peace once the instance drains, in waves."""
        await self._draining.begun()
        async for listener in in_waves(list(self._open), self._draining.seconds):
            listener.end()
