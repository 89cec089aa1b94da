"""The gateway: every socket of this instance, from its handshake to its close.

It admits, welcomes, listens for the heartbeat of each and for revocations, and knows who is here. What a
client's frames do is the connection's matter, who hears a publication the hub's.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import blake2b
from time import monotonic
from typing import Any, Literal

from websockets.frames import CloseCode
from websockets.http11 import Request

from foundations.errors import CityError, Internal, Unavailable
from foundations.telemetry import OTHER, log_event
from smart_city.post_office.channels import connection_log, user_log
from smart_city.post_office.envelopes import timestamp
from smart_city.post_office.fleet.directory import Registered
from smart_city.post_office.gateway.admission import Admission
from smart_city.post_office.gateway.census import concerns, described
from smart_city.post_office.gateway.close_codes import CLOSE_CODES, OVER, TAKEN_OVER, TOO_SLOW, WITHOUT_A_FRAME
from smart_city.post_office.gateway.connection import Connection
from smart_city.post_office.gateway.credentials import Credentials
from smart_city.post_office.gateway.desk import Desk, Guest
from smart_city.post_office.gateway.draining import Drain, in_waves
from smart_city.post_office.gateway.feed import Feed
from smart_city.post_office.gateway.heartbeats import Heartbeats
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.gateway.joining import Joined
from smart_city.post_office.gateway.messages import FEATURES, PROTOCOL_VERSION, encode, wire
from smart_city.post_office.gateway.msgpack import Packing
from smart_city.post_office.gateway.outbox import Round
from smart_city.post_office.gateway.server_frames import Place, Welcome
from smart_city.post_office.gateway.socket import Socket, quiet
from smart_city.vocabulary import Identity, Position

_log = logging.getLogger("smart_city.post_office.gateway")

FIRST_PAUSE = 0.1
"""Before a handshake that found the store away is tried again; each pause is twice the one before."""
RETRY_AFTER = 1.0
REVOKED = OVER, "the session or token was revoked"
OVERTAKEN = TAKEN_OVER, "another socket took over this connection; come back without resume"
DRAINING = CloseCode.SERVICE_RESTART, "this instance is draining; reconnect now"

State = Literal["starting", "ready", "leaving", "draining"]
"""One that is leaving still serves everybody, and asks balancers to send nobody more."""
CLOSED_LOOK_SECONDS = 0.02


class Gateway:
    """The door for sockets, and the list of who is inside."""

    def __init__(
        self, desk: Desk, hub: Hub, admission: Admission, credentials: Credentials, heartbeats: Heartbeats, *,
        draining: Drain,
        instance_id: str,
        max_unsent_bytes: int, stall_seconds: float, handshake_seconds: float, handshakes_at_once: int,
        patience_seconds: float,
        close_seconds: float,
    ) -> None:  # fmt: skip
        self.max_message_bytes = desk.max_message_bytes
        self.max_unsent_bytes = max_unsent_bytes
        self.stall_seconds = stall_seconds
        self.close_seconds = close_seconds
        self.pack: Callable[[bytes], bytes] = Packing()
        self.state: State = "starting"
        self.draining = draining
        self.connections: dict[str, Guest] = {}
        self._desk = desk
        self._hub = hub
        self._admission = admission
        self._credentials = credentials
        self._heartbeats = heartbeats
        self._instance_id = instance_id
        self._handshake_seconds = handshake_seconds
        self._admissions = asyncio.Semaphore(handshakes_at_once)
        self._patience_seconds = patience_seconds
        self._arriving = 0

    def start(self) -> None:
        """Opens the door; must be called on the loop that serves."""
        quiet.setLevel(logging.WARNING)  # below that the protocol library logs handshakes with their tokens
        self.round = Round(asyncio.get_running_loop())
        self._heartbeats.start()
        self.state = "ready"

    def announce_drain(self) -> None:
        """Asks balancers to look for another instance, while everybody is still served."""
        self.state = "leaving"

    async def drain(self) -> None:
        """Lets nobody in any more, and ends in waves whoever is inside or waits here; an agent at work comes last."""
        self.state = "draining"
        self._desk.dispatcher.rest()
        self.draining.begin()
        inside = list(self.connections.values())
        async for guest in in_waves(inside, self.draining.seconds, lambda guest: guest.is_working):
            guest.close(*DRAINING)
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * self.close_seconds):
                while self.connections or self._arriving:
                    for guest in list(self.connections.values()):
                        guest.close(*DRAINING)  # also those whose admission was under way
                    await asyncio.sleep(CLOSED_LOOK_SECONDS)

    # Who is here

    def count(self) -> dict[str, Any]:
        """This instance's part of a count of all connections; users as hashes, so that they can be united."""
        users = {int.from_bytes(blake2b(c.user_id.encode(), digest_size=7).digest()) for c in self.connections.values()}
        return {
            "instance_id": self._instance_id, "connections": len(self.connections),
            "channels": self._desk.registry.subscribers, "users": list(users),
        }  # fmt: skip

    def connections_on(self, channel: str) -> list[str]:
        """Ids of those here who listen to a channel or have sent to it."""
        return [
            connection.connection_id for connection in self.connections.values()
            if channel in connection.subscriptions or channel in connection.sent_to
        ]  # fmt: skip

    def census(self, *, user_id: str, channel: str, limit: int) -> dict[str, Any]:
        """This instance's part of a list of connections: how many fit, and the newest of them.

        An empty ``user_id`` or ``channel`` fits all.
        """
        fitting = [
            connection for connection in self.connections.values()
            if user_id in {"", connection.user_id} and (not channel or concerns(connection, channel))
        ]  # fmt: skip
        newest = [described(connection, self._instance_id) for connection in fitting[: -limit - 1 : -1]]
        return {"instance_id": self._instance_id, "total": len(fitting), "connections": newest}

    def enter(self, guest: Guest) -> None:
        """Somebody was let in, and stands in the registry: counted, and ended when its right to be here ends."""
        self.connections[guest.connection_id] = guest
        self._credentials.add(guest)

    def leave(self, guest: Guest) -> None:
        """Somebody is gone, for good or to be resumed."""
        if self.connections.get(guest.connection_id) is guest:
            del self.connections[guest.connection_id]
        self._credentials.remove(guest)
        self._desk.registry.remove(guest, may_return=guest.may_return)

    def overtaken(self, connection: Registered) -> None:
        """Somebody here has a newer owner somewhere: what hangs on the old socket ends at once."""
        guest = self.connections.get(connection.connection_id)
        if guest is connection:
            guest.close(*OVERTAKEN)
            if isinstance(guest, Connection):
                guest.closed(*OVERTAKEN)

    # Arriving

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Keeps room for one who is about to enter.

        Raises:
            Unavailable, Overloaded: there is none, now.
        """
        self._check_ready()
        self._admission.check_room(len(self.connections) + self._arriving)
        self._arriving += 1
        try:
            yield
        finally:
            self._arriving -= 1

    def _check_ready(self) -> None:
        if self.state not in {"ready", "leaving"}:
            raise Unavailable("this instance is not serving", retry_after=1)

    def arrived(self, socket: Socket, request: Request) -> None:
        """Admits a socket, or closes it with the code that says why not."""
        if self.state == "draining":
            socket.close(*DRAINING)
            return
        try:
            socket.address = self._admission.address_of(request, socket.address)
            self._check_ready()
            token = self._admission.token_of(request, connections=len(self.connections) + self._arriving)
            resume = self._admission.resume_of(request)
        except CityError as error:
            self._refuse(socket, error)
            return
        except Exception:  # a connection is supervised here: whatever a handshake says, it gets an answer
            _log.exception("a handshake could not be read")
            self._refuse(socket, Internal("something went wrong here"))
            return
        self._arriving += 1
        self._desk.tasks.spawn("admit a connection", self._admit(socket, token, resume))

    async def _admit(self, socket: Socket, token: str, resume: str) -> None:
        arrived = monotonic()
        try:
            async with asyncio.timeout(self._handshake_seconds), self._admissions:
                await self._spend(socket.address)
                began = monotonic()
                connection = await self._let_in(socket, token, resume)
            self._desk.counters.handshakes.observe(monotonic() - arrived)
            if connection is not None and self._desk.sessions.revoked_since(connection.identity, began):
                socket.close(*REVOKED)
        except CityError as error:
            self._refuse(socket, error)
        except TimeoutError:
            self._refuse(socket, Unavailable("the handshake took too long", retry_after=1))
        except Exception:  # a connection is supervised here: the socket must not be left without an answer
            _log.exception("a connection could not be admitted")
            self._refuse(socket, Internal("something went wrong here"))
        finally:
            self._arriving -= 1

    async def _spend(self, address: str) -> None:
        """Counts a handshake that brought a token; others are refused at no cost."""
        if not address:
            return
        credit = self._desk.limits.handshakes(address)
        if not credit.spend():
            await credit.refill()

    async def _let_in(self, socket: Socket, token: str, resume: str) -> Connection | None:
        """Lets in who may come in; while the store is away it is waited for a little."""
        ends_at, pause = monotonic() + self._patience_seconds, FIRST_PAUSE
        while True:
            try:
                identity = await self._desk.sessions.admit(token, address=socket.address)
                return await self._welcome(socket, identity, resume)
            except Unavailable:
                if socket.is_closing or monotonic() + pause > ends_at:
                    raise
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads them, keeps no secret
            pause *= 2

    async def _welcome(self, socket: Socket, identity: Identity, resume: str) -> Connection | None:
        """Resumes the connection asked for, or else begins one."""
        taken = await self._desk.registry.take_over(resume, identity.subject) if resume else None
        if taken is None:
            return await self._begun(socket, identity)
        connection = Connection(
            self._desk, socket, identity, resume, fence=taken.fence, heard_offset=taken.heard
        )  # fmt: skip
        await self._register(connection)
        return self._entered(connection, {})

    async def _begun(self, socket: Socket, identity: Identity) -> Connection | None:
        """Writes a new connection into the registry, subscribes it to its own logs, and says welcome."""
        connection = Connection(self._desk, socket, identity, f"c{secrets.token_hex(10)}")
        feeds: list[Feed] = []
        try:
            await self._open_own(connection, feeds)
            await self._register(connection)
        except BaseException:
            for feed in feeds:
                self._hub.close(feed)
            raise
        prepared = {feed.channel: (feed, None) for feed in feeds}
        return self._entered(connection, connection.subscriptions.take(prepared, dict.fromkeys(prepared)))

    def _entered(self, connection: Connection, joined: Mapping[str, Joined]) -> Connection | None:
        """Says welcome, unless the socket is gone meanwhile; the subscriptions of a resumed connection are none."""
        if connection.socket.is_closing:
            connection.subscriptions.end()
            self._withdraw(connection)
            return None
        connection.send(self._welcome_frame(connection, {c: j.subscription.position for c, j in joined.items()}))
        self._settle(connection)
        connection.subscriptions.begin(joined)
        connection.socket.admitted(connection)
        return connection

    async def _open_own(self, connection: Connection, feeds: list[Feed]) -> None:
        """Opens the connection's own logs; whatever becomes of it, all that was opened is in ``feeds``."""

        async def open_one(channel: str, *, is_fresh: bool) -> None:
            feeds.append(await self._hub.open(channel, is_fresh=is_fresh))

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(open_one(connection_log(connection.connection_id), is_fresh=True))
                group.create_task(open_one(user_log(connection.user_id), is_fresh=False))
        except* CityError as refusals:
            raise refusals.exceptions[0] from None

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
            heartbeat_seconds=self._heartbeats.seconds, max_message_bytes=self.max_message_bytes,
            channels={channel: Place.of(position) for channel, position in positions.items()}, timestamp=timestamp(),
        )  # fmt: skip
        return wire(encode(welcome))

    def _settle(self, connection: Connection) -> None:
        older = self.connections.get(connection.connection_id)
        if older is not None:
            self.overtaken(older)
        connection.on_closed = self._left
        connection.on_identity = self._credentials.replace
        self.enter(connection)
        self._heartbeats.add(connection)
        self._desk.counters.connections_active += 1
        self._desk.counters.connections_total += 1
        log_event(
            _log, "WebSocket connected", connection_id=connection.connection_id, user_id=connection.user_id,
            active=len(self.connections),
        )  # fmt: skip

    def _refuse(self, socket: Socket, error: CityError) -> None:
        self._desk.counters.errors += 1
        self._desk.counters.handshake_refusals[error.code] += 1
        reason = error.message
        if error.close_code == CloseCode.TRY_AGAIN_LATER:
            reason = f"retry_after={RETRY_AFTER if error.retry_after is None else error.retry_after:g} {reason}"
        log_event(_log, "WebSocket refused", code=error.code, reason=error.message)
        fallback = CloseCode.INTERNAL_ERROR if isinstance(error, Internal) else CloseCode.POLICY_VIOLATION
        socket.close(error.close_code or fallback, reason)

    # Leaving

    def _left(self, connection: Connection, code: int, reason: str) -> None:
        self.leave(connection)
        self._heartbeats.remove(connection)
        self._desk.counters.connections_active -= 1
        self._desk.counters.closes[str(code) if code in CLOSE_CODES or code in WITHOUT_A_FRAME else OTHER] += 1
        log_event(
            _log, "WebSocket disconnected", connection_id=connection.connection_id, user_id=connection.user_id,
            active=len(self.connections), code=code, reason=reason,
        )  # fmt: skip

    def too_slow(self, socket: Socket) -> None:
        """A reader that is behind and takes nothing at all is closed; what it misses is in the logs."""
        socket.close(TOO_SLOW, f"you took nothing for {self.stall_seconds:g} seconds; come back and recover")

    def disconnect(self, code: int, *, connection_id: str = "", user_id: str = "") -> int:
        """Closes one connection, or all of a user here; returns how many there were."""
        found = [
            connection for connection in self.connections.values()
            if connection.connection_id == connection_id or connection.user_id == user_id
        ]  # fmt: skip
        for connection in found:
            connection.may_return = False
            connection.close(code, "disconnected by an operator")
        return len(found)
