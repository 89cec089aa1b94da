"""Who comes in to read a channel as server-sent events, with the same checks as a socket and one place more taken.

It opens streams and lets go of them; what a stream does in between is `event_stream`'s, who asks for one the
surface's.
"""

from __future__ import annotations

import logging
import secrets

from foundations.telemetry import log_event
from smart_city.post_office.gateway.close_codes import DRAINING, REVOKED
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.event_stream import EventStream
from smart_city.post_office.gateway.events import Rendering
from smart_city.post_office.gateway.gateway import Gateway
from smart_city.vocabulary import Identity, Position

_log = logging.getLogger("smart_city.post_office.gateway")


class EventStreams:
    """Opens the event streams of this instance. Each counts as a connection of its user and of the instance."""

    def __init__(self, desk: Desk, gateway: Gateway, *, heartbeat_seconds: float) -> None:
        self._desk = desk
        self._gateway = gateway
        self._heartbeat_seconds = heartbeat_seconds
        self._rendering = Rendering()

    async def open(self, identity: Identity, channel: str, since: Position | None) -> EventStream:
        """A stream at its place, standing in the registry; whoever opens it gives it to `let_go` at its end.

        Raises:
            UnknownChannel, Forbidden: nothing to be read there, or not by this caller.
            Overloaded: no room here; TooManyConnections: no more for this user.
            Unavailable: draining, or the log or the bus does not answer.
        """
        self._desk.channels.check(identity, "subscribe", channel)
        with self._gateway.arriving():
            return await self._admit(identity, channel, since)

    async def _admit(self, identity: Identity, channel: str, since: Position | None) -> EventStream:
        desk = self._desk
        stream = EventStream(
            desk.joining, self._rendering, identity, channel, f"e{secrets.token_hex(10)}",
            limit=self._gateway.patience.unsent_bytes, heartbeat_seconds=self._heartbeat_seconds,
        )  # fmt: skip
        feed, passage = await desk.joining.prepare(channel, since)
        try:
            await self._register(stream)
        except BaseException:
            desk.joining.give_back(feed)
            raise
        self._enter(stream)
        stream.begin(feed, passage, since)
        if self._gateway.draining.has_begun:
            stream.close(*DRAINING)
        return stream

    def check(self, stream: EventStream, began: float) -> None:
        """Ends a stream whose caller was revoked since the moment ``began``, when it was asked who that is."""
        if self._desk.sessions.revoked_since(stream.identity, began):
            stream.close(*REVOKED)

    async def _register(self, stream: EventStream) -> None:
        registry = self._desk.registry
        registry.subscribers.count_in(stream.channels)
        try:
            await registry.add(stream)
            if stream.channels:
                await registry.subscribers.listed(stream.channels)
        except BaseException:
            registry.remove(stream)  # it may be half written
            registry.subscribers.count_out(stream.channels)
            raise

    def _enter(self, stream: EventStream) -> None:
        self._gateway.enter(stream)
        self._desk.counters.event_streams_active += 1
        self._desk.counters.event_streams_total += 1
        log_event(
            _log, "Event stream opened", connection_id=stream.connection_id, user_id=stream.user_id,
            channel=stream.channel,
        )  # fmt: skip

    def let_go(self, stream: EventStream, why: str) -> None:
        """The stream has ended, whoever ended it: nothing of it is left."""
        stream.leave()
        self._gateway.leave(stream)
        self._desk.registry.subscribers.count_out(stream.channels)
        self._desk.counters.event_streams_active -= 1
        log_event(
            _log, "Event stream closed", connection_id=stream.connection_id, user_id=stream.user_id,
            channel=stream.channel, reason=why,
        )  # fmt: skip
