"""The gateway: the door for every socket of this instance, and the list of who is inside.

It turns away whom there is no room for, knows who is here until the close, and ends all in a drain. How one comes in is
`arriving`'s matter, what a client's frames do the connection's, who hears a publication the hub's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from typing import Any, Literal

from websockets.http11 import Request

from foundations.errors import CityError, Internal, Unavailable
from foundations.telemetry import OTHER, log_event
from smart_city.post_office.fleet.directory import Registered
from smart_city.post_office.gateway.admission import Admission
from smart_city.post_office.gateway.arriving import Arriving
from smart_city.post_office.gateway.backlog import Patience
from smart_city.post_office.gateway.census import concerns, described
from smart_city.post_office.gateway.close_codes import CLOSE_CODES, DRAINING, OVERTAKEN, TOO_SLOW, WITHOUT_A_FRAME
from smart_city.post_office.gateway.connection import Connection
from smart_city.post_office.gateway.credentials import Credentials
from smart_city.post_office.gateway.desk import Desk, Guest
from smart_city.post_office.gateway.draining import Drain, in_waves
from smart_city.post_office.gateway.handshake import Handshakes, quiet
from smart_city.post_office.gateway.heartbeats import Heartbeats
from smart_city.post_office.gateway.msgpack import Packing
from smart_city.post_office.gateway.readers import Readers
from smart_city.post_office.gateway.round import Round
from smart_city.post_office.gateway.socket import Socket
from smart_city.vocabulary import Identity

_log = logging.getLogger("smart_city.post_office.gateway")

State = Literal["starting", "ready", "leaving", "draining"]
"""One that is leaving still serves everybody, and asks balancers to send nobody more."""
CLOSED_LOOK_SECONDS = 0.02


class Gateway:
    """The door for sockets, and the list of who is inside."""

    def __init__(
        self, desk: Desk, arriving: Arriving, admission: Admission, credentials: Credentials, heartbeats: Heartbeats,
        *, draining: Drain, instance_id: str, patience: Patience, close_seconds: float,
    ) -> None:  # fmt: skip
        self.max_message_bytes = desk.max_message_bytes
        self.patience = patience
        self.close_seconds = close_seconds
        self.pack: Callable[[bytes], bytes] = Packing()
        self.handshakes = Handshakes()
        self.readers = Readers(desk.max_message_bytes)
        self.state: State = "starting"
        self.draining = draining
        self.connections: dict[str, Guest] = {}
        self._desk = desk
        self._arriving = arriving
        self._admission = admission
        self._credentials = credentials
        self._heartbeats = heartbeats
        self._instance_id = instance_id

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
                while self.connections or self._arriving.count:
                    for guest in list(self.connections.values()):
                        guest.close(*DRAINING)  # also those whose admission was under way
                    await asyncio.sleep(CLOSED_LOOK_SECONDS)

    # Who is here

    def count(self) -> dict[str, Any]:
        """This instance's part of a count of all connections; users as hashes, so that they can be united."""
        users = {int.from_bytes(blake2b(c.user_id.encode(), digest_size=7).digest()) for c in self.connections.values()}
        return {
            "instance_id": self._instance_id, "connections": len(self.connections),
            "channels": self._desk.registry.subscribers.counts, "users": list(users),
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
        self._admission.check_room(len(self.connections) + self._arriving.count)
        with self._arriving.counted():
            yield

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
            token = self._admission.token_of(request, connections=len(self.connections) + self._arriving.count)
            resume = self._admission.resume_of(request)
        except CityError as error:
            self._arriving.refuse(socket, error)
            return
        except Exception:  # a connection is supervised here: whatever a handshake says, it gets an answer
            _log.exception("a handshake could not be read")
            self._arriving.refuse(socket, Internal("something went wrong here"))
            return
        self._arriving.admit(socket, token, resume, self._settle)

    def _settle(self, connection: Connection) -> None:
        older = self.connections.get(connection.connection_id)
        if older is not None:
            self.overtaken(older)
        connection.host = self
        self.enter(connection)
        self._heartbeats.add(connection)
        self._desk.counters.connections_active += 1
        self._desk.counters.connections_total += 1
        log_event(
            _log, "WebSocket connected", connection_id=connection.connection_id, user_id=connection.user_id,
            active=len(self.connections),
        )  # fmt: skip

    # Leaving

    def identified(self, connection: Connection, identity: Identity) -> None:
        """Somebody brought a new token of the same user, and may have left before that was known."""
        if self.connections.get(connection.connection_id) is connection:
            self._credentials.replace(connection, identity)

    def left(self, connection: Connection, code: int, reason: str) -> None:
        """The socket of a connection is gone."""
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
        socket.close(TOO_SLOW, f"you took nothing for {self.patience.stall_seconds:g} seconds; come back and recover")

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
