"""Sessions of the handshake era: a name under which a client's subscriptions are kept, on every instance.

No instance owns a session: requests, cancellations and the stream of notifications may each go elsewhere. What they
must tell one another goes over one channel of the bus; what is kept is `session_store`'s matter.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from city_hall.surfaces.mcp.calls import CallName, Calls
from city_hall.surfaces.mcp.channels import Address
from city_hall.surfaces.mcp.session_store import SessionName, SessionStore
from foundations.errors import CityError, NotFound
from foundations.valkey import Subscriptions, Valkey
from smart_city.post_office.gateway.listening import Listener, Listening
from smart_city.vocabulary import Identity

BUS = "bus:mcp"
BEAT_SECONDS = 15.0
"""How often something is written to a stream on which nothing happens, for the proxies on its way."""
RETRY_SECONDS = 1.0
Found = TypeVar("Found")

_log = logging.getLogger("smart_city.mcp")


class News(msgspec.Struct, frozen=True, omit_defaults=True):
    """What instances tell one another of a session: a call to cancel, a newer stream, or other subscriptions."""

    session: SessionName
    cancel: str = ""
    stream: str = ""
    v: int = 1


@dataclass(slots=True, eq=False)
class Stream:
    """A session's open stream here."""

    session: SessionName
    listener: Listener
    name: str = field(default_factory=lambda: secrets.token_hex(8))
    uris: Mapping[str, Sequence[str]] = field(default_factory=dict)
    is_stale: bool = True


class Sessions:
    """The subscriptions of all sessions, and those of their streams that are open here."""

    def __init__(self, valkey: Valkey, bus: Subscriptions, listening: Listening, calls: Calls, *, most: int) -> None:
        self._valkey = valkey
        self._store = SessionStore(valkey, most=most)
        self._bus = bus
        self._listening = listening
        self._calls = calls
        self._streams: dict[SessionName, Stream] = {}

    @asynccontextmanager
    async def heard(self) -> AsyncIterator[None]:
        """Hears what other instances tell, until left."""
        self._bus.heard_again.append(self._all_stale)
        self._bus.listen(BUS, self._hear)
        try:
            yield
        finally:
            self._bus.leave(BUS)
            self._bus.heard_again.remove(self._all_stale)

    # Sessions and their subscriptions

    async def begin(self, caller: Identity) -> str:
        """Begins a session and returns its name. Of too many, those of this caller end that were unused for longest.

        Raises:
            Unavailable, Overloaded: the store is away, or full.
        """
        session = SessionName.new(caller.subject)
        for ended in await self._store.begin(session):
            await self._publish(News(ended, stream="none"))
        return session.name

    async def use(self, session: SessionName) -> None:
        """Puts the session's end off.

        Raises:
            NotFound: there is no such session (any more).
            Unavailable: the store is away.
        """
        await self._store.use(session)

    async def subscribe(self, caller: Identity, session: SessionName, uri: str, *, most: int) -> None:
        """Tells the session's stream of changes from now on, wherever that stream is, and when there is one.

        Raises:
            NotFound, UnknownChannel, Forbidden: no such session or resource, or not for this caller.
            Overloaded: the session has as many subscriptions as it may.
        """
        channel = Address.parse(uri).channel
        self._listening.check(caller, channel)
        newest = (await self._listening.newest([channel]))[channel]
        await self._store.subscribe(session, uri, newest.offset, most=most)
        await self._publish(News(session))

    async def unsubscribe(self, session: SessionName, uri: str) -> None:
        """Tells of this no more."""
        await self._store.unsubscribe(session, uri)
        await self._publish(News(session))

    async def end(self, session: SessionName) -> None:
        """Forgets the session and ends its stream.

        Raises:
            NotFound: there is no such session (any more).
        """
        await self._store.end(session)
        await self._publish(News(session, stream="none"))

    async def cancel(self, name: CallName) -> None:
        """Cancels a call, on whichever instance it waits."""
        self._calls.cancel(name)
        await self._publish(News(name.session, cancel=name.request_id))

    # The stream

    @asynccontextmanager
    async def stream(self, caller: Identity, session: SessionName, since: float) -> AsyncIterator[Stream]:
        """The session's one stream: an older one, wherever it is, ends.

        Raises:
            NotFound: there is no such session (any more).
            Overloaded, Unauthenticated: as `Listening.listener`.
        """
        await self._store.use(session)
        async with self._listening.listener(caller, since) as listener:
            stream = Stream(session, listener)
            await self._publish(News(session, stream=stream.name))
            if (older := self._streams.get(session)) is not None:
                older.listener.end()
            self._streams[session] = stream
            try:
                yield stream
            finally:
                if self._streams.get(session) is stream:
                    del self._streams[session]

    async def updates(self, stream: Stream) -> AsyncIterator[Sequence[str]]:
        """The URIs that have changed, as they do; nothing now and then, so that something is written.

        While the store is away, a stream that has to read its subscriptions tries again and again.
        """
        stream.listener.wake()
        async for channels in stream.listener.changes(BEAT_SECONDS):
            offsets = await self._tried(stream, self._look(stream, channels)) or {}
            yield [uri for channel in channels for uri in stream.uris.get(channel, ())]
            await self._tried(stream, self._remember(stream, offsets))

    async def _tried(self, stream: Stream, reading: Coroutine[Any, Any, Found]) -> Found | None:
        """What was found; nothing while the store is away, and then the stream looks again soon."""
        try:
            return await reading
        except CityError as error:
            _log.warning("the subscriptions of a session are not at hand: %s", error)
            asyncio.get_running_loop().call_later(RETRY_SECONDS, stream.listener.wake)
            return None

    async def _look(self, stream: Stream, channels: Sequence[str]) -> Mapping[str, int]:
        """Where the channels are that will be told of now, by their URIs."""
        if stream.is_stale:
            stream.is_stale = False  # before it is read: news that come meanwhile make it stale again
            try:
                await self._read(stream)
            except CityError:
                stream.is_stale = True
                raise
        newest = await self._listening.newest(channels)
        return {uri: newest[channel].offset for channel in channels for uri in stream.uris.get(channel, ())}

    async def _read(self, stream: Stream) -> None:
        """Follows what the session has subscribed to; what changed while nobody followed it is told now."""
        told = await self._store.subscriptions(stream.session)
        uris: dict[str, list[str]] = {}
        for uri in told:
            channel = Address.parse(uri).channel
            if self._may(stream.listener.identity, channel):
                uris.setdefault(channel, []).append(uri)
        await stream.listener.follow(uris)
        stream.uris = uris
        newest = await self._listening.newest(list(uris))
        for channel, named in uris.items():
            if any(told[uri] != newest[channel].offset for uri in named):
                stream.listener.ring(channel)

    def _may(self, caller: Identity, channel: str) -> bool:
        try:
            self._listening.check(caller, channel)
        except CityError:
            return False
        return True

    async def _remember(self, stream: Stream, told: Mapping[str, int]) -> None:
        """Keeps up to where changes were told, once they were; without any, only that the session is in use.

        The news that a session has ended may have been missed: then its stream ends here.
        """
        try:
            await self._store.use(stream.session, told)
        except NotFound:
            stream.listener.end()

    # What instances tell one another

    def _hear(self, payload: bytes) -> None:
        try:
            news = msgspec.json.decode(payload, type=News)
        except msgspec.MsgspecError as error:
            _log.warning("news of a session were not understood: %s", error)
            return
        if news.cancel:
            self._calls.cancel(CallName(news.session, news.cancel))
            return
        stream = self._streams.get(news.session)
        if stream is None or news.stream == stream.name:
            return
        if news.stream:
            stream.listener.end()
        else:
            stream.is_stale = True
            stream.listener.wake()

    def _all_stale(self) -> None:
        """News may have been missed."""
        for stream in self._streams.values():
            stream.is_stale = True
            stream.listener.wake()

    async def _publish(self, news: News) -> None:
        await self._valkey.command("SPUBLISH", self._valkey.key(BUS), msgspec.json.encode(news))
