"""Arriving: a socket between its handshake and its welcome, or the close code that says why there is none.

It is admitted by its token, stands in the registry, and resumes the connection that it asked for or begins one. Whether
this instance takes anybody, and who is inside, is the gateway's matter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import monotonic

from websockets.frames import CloseCode

from foundations.errors import CityError, Internal, Unauthenticated, Unavailable
from foundations.telemetry import log_event
from smart_city.post_office.channels import connection_log, user_log
from smart_city.post_office.envelopes import timestamp
from smart_city.post_office.gateway.close_codes import REVOKED
from smart_city.post_office.gateway.connection import Connection
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.gateway.joining import Joined
from smart_city.post_office.gateway.messages import FEATURES, PROTOCOL_VERSION, encode, wire
from smart_city.post_office.gateway.server_frames import Place, Welcome
from smart_city.post_office.gateway.socket import Socket
from smart_city.vocabulary import Identity, Position

_log = logging.getLogger("smart_city.post_office.gateway")

FIRST_PAUSE = 0.1
"""Before a handshake that found the store away is tried again; each pause is twice the one before."""
RETRY_AFTER = 1.0

Settle = Callable[[Connection], None]
"""Enters a connection whose welcome is queued into the list of who is inside."""


class Arriving:
    """The handshakes of one instance, so many at once."""

    def __init__(
        self, desk: Desk, hub: Hub, *, instance_id: str, heartbeat_seconds: float, handshake_seconds: float,
        handshakes_at_once: int, patience_seconds: float,
    ) -> None:  # fmt: skip
        self.count = 0
        """How many are on their way in."""
        self._desk = desk
        self._hub = hub
        self._instance_id = instance_id
        self._heartbeat_seconds = heartbeat_seconds
        self._handshake_seconds = handshake_seconds
        self._admissions = asyncio.Semaphore(handshakes_at_once)
        self._patience_seconds = patience_seconds

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Counts one on its way in."""
        self.count += 1
        try:
            yield
        finally:
            self.count -= 1

    def admit(self, socket: Socket, token: str, resume: str, settle: Settle) -> None:
        """Begins to admit a socket; in the end it is welcomed, or closed with the code that says why not."""
        self.count += 1
        self._desk.tasks.spawn("admit a connection", self._admit(socket, token, resume, settle))

    async def _admit(self, socket: Socket, token: str, resume: str, settle: Settle) -> None:
        arrived = monotonic()
        try:
            async with asyncio.timeout(self._handshake_seconds), self._admissions:
                await self._spend(socket.address)
                began = monotonic()
                connection = await self._let_in(socket, token, resume, settle)
            self._desk.counters.handshakes.observe(monotonic() - arrived)
            if connection is not None and self._desk.sessions.revoked_since(connection.identity, began):
                socket.close(*REVOKED)
        except CityError as error:
            self.refuse(socket, error)
        except TimeoutError:
            self.refuse(socket, Unavailable("the handshake took too long", retry_after=1))
        except Exception:  # a connection is supervised here: the socket must not be left without an answer
            _log.exception("a connection could not be admitted")
            self.refuse(socket, Internal("something went wrong here"))
        finally:
            self.count -= 1

    async def _spend(self, address: str) -> None:
        """Counts a handshake that brought a token; others are refused at no cost."""
        if not address:
            return
        credit = self._desk.limits.handshakes(address)
        if not credit.spend():
            await credit.refill()

    async def _let_in(self, socket: Socket, token: str, resume: str, settle: Settle) -> Connection | None:
        """Lets in who may come in; while the store is away it is waited for a little."""
        ends_at, pause = monotonic() + self._patience_seconds, FIRST_PAUSE
        identity: Identity | None = None
        while True:
            try:
                identity = await self._identified(token, socket.address, identity)
                return self._entered(*await self._joined(socket, identity, resume), settle)
            except Unavailable:
                if socket.is_closing or monotonic() + pause > ends_at:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads them, keeps no secret
            pause *= 2

    async def _identified(self, token: str, address: str, known: Identity | None) -> Identity:
        """Who comes with the token. Who is known already is only asked for: a ticket opens nothing a second time."""
        if known is None:
            return await self._desk.sessions.admit(token, address=address)
        if not all(await self._desk.sessions.still_valid([known])):
            raise Unauthenticated("the session or token was revoked")
        return known

    async def _joined(self, socket: Socket, identity: Identity, resume: str) -> tuple[Connection, Mapping[str, Joined]]:
        """Resumes the connection asked for, or else begins one."""
        taken = await self._desk.registry.take_over(resume, identity.subject) if resume else None
        if taken is None:
            return await self._begun(socket, identity)
        connection = Connection(
            self._desk, socket, identity, resume, fence=taken.fence, heard_offset=taken.heard
        )  # fmt: skip
        await self._register(connection)
        return connection, {}

    async def _begun(self, socket: Socket, identity: Identity) -> tuple[Connection, Mapping[str, Joined]]:
        """Writes a new connection into the registry and subscribes it to its own logs."""
        connection = Connection(self._desk, socket, identity, f"c{secrets.token_hex(10)}")
        own = connection_log(connection.connection_id)
        feeds = await self._hub.open_whole((own, user_log(connection.user_id)), fresh=(own,))
        try:
            await self._register(connection)
        except BaseException:
            for feed in feeds:
                self._hub.close(feed)
            raise
        prepared = {feed.channel: (feed, None) for feed in feeds}
        return connection, connection.subscriptions.take(prepared, dict.fromkeys(prepared))

    def _entered(self, connection: Connection, joined: Mapping[str, Joined], settle: Settle) -> Connection | None:
        """Says welcome, unless the socket is gone meanwhile; the subscriptions of a resumed connection are none."""
        if connection.socket.is_closing:
            connection.subscriptions.end()
            self._withdraw(connection)
            return None
        connection.send(self._welcome_frame(connection, {c: j.subscription.position for c, j in joined.items()}))
        settle(connection)
        connection.subscriptions.begin(joined)
        connection.socket.admitted(connection)
        return connection

    async def _register(self, connection: Connection) -> None:
        try:
            await self._desk.registry.add(connection)
        except BaseException:
            self._withdraw(connection)  # it may be half written
            raise

    def _withdraw(self, connection: Connection) -> None:
        """It was never welcomed here; only what was a connection before can be resumed."""
        self._desk.registry.remove(connection, may_return=connection.fence > 1)

    def _welcome_frame(self, connection: Connection, positions: Mapping[str, Position]) -> bytes:
        welcome = Welcome(
            protocol=PROTOCOL_VERSION, features=FEATURES, connection_id=connection.connection_id,
            user_id=connection.user_id, instance_id=self._instance_id, resumed=connection.fence > 1,
            heartbeat_seconds=self._heartbeat_seconds, max_message_bytes=self._desk.max_message_bytes,
            channels={channel: Place.of(position) for channel, position in positions.items()}, timestamp=timestamp(),
        )  # fmt: skip
        return wire(encode(welcome))

    def refuse(self, socket: Socket, error: CityError) -> None:
        """Closes a socket that is not let in, with the code that says why."""
        self._desk.counters.errors += 1
        self._desk.counters.handshake_refusals[error.code] += 1
        reason = error.message
        if error.close_code == CloseCode.TRY_AGAIN_LATER:
            reason = f"retry_after={RETRY_AFTER if error.retry_after is None else error.retry_after:g} {reason}"
        log_event(_log, "WebSocket refused", code=error.code, reason=error.message)
        fallback = CloseCode.INTERNAL_ERROR if isinstance(error, Internal) else CloseCode.POLICY_VIOLATION
        socket.close(error.close_code or fallback, reason)
