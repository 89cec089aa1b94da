"""The registry: this instance's connections as operators and other instances see them in the store.

A connection stands here right before its welcome and is gone right after its close; whatever its instance
can no longer remove goes with the instance's lease. Writes of one turn of the loop share a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from foundations.errors import CityError, Internal, NotFound, TooManyConnections
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.scripts import Script
from smart_city.post_office.channels import connection_log

_log = logging.getLogger(__name__)
_PACKAGE = "smart_city.post_office.fleet"
AT_ONCE = 500
"""Connections in one script call."""
RENEWALS_A_LEASE = 2.5
RETRY_AFTER = 5.0
Item = TypeVar("Item")


class Registered(Protocol):
    """A connection, as far as the registry has to know it."""

    connection_id: str
    connected_at: str
    last_heartbeat: str

    @property
    def user_id(self) -> str: ...

    @property
    def channels(self) -> Sequence[str]: ...


class Registry:
    """Writes this instance's connections and subscriptions, and reads anybody's."""

    def __init__(
        self, valkey: Valkey, tasks: Tasks, *, instance_id: str, member: str, lease_seconds: float,
        owner_seconds: float, most_per_user: int,
    ) -> None:  # fmt: skip
        self._valkey = valkey
        self._tasks = tasks
        self._instance_id = instance_id
        self._held = valkey.key(held_key(member))
        self._lease = round(lease_seconds * 1000)
        self._owner = round(owner_seconds * 1000)
        self._most = most_per_user
        self._register = Script.read(_PACKAGE, "register")
        self._renew = Script.read(_PACKAGE, "renew")
        self._own = Script.read(_PACKAGE, "own")
        self._connections: dict[str, Registered] = {}
        self._stale: set[str] = set()
        self._owned_at = float("-inf")
        self._waiting: list[tuple[Registered, asyncio.Future[bool]]] = []
        self._leaving: list[tuple[str, str]] = []
        self._ended: set[str] = set()
        """Connections that are gone, until the store has been told."""
        self._channels: dict[str, int] = {}

    def start(self) -> None:
        """Begins to renew what stands here."""
        self._tasks.start("renew connections", self._keep)

    # Connections

    async def add(self, connection: Registered) -> None:
        """Writes a new connection and makes it the owner of its log.

        Raises:
            TooManyConnections: its user has as many as one may have.
            Unavailable: the store did not answer.
        """
        if not await self._written(connection):
            raise TooManyConnections(
                f"{connection.user_id} has {self._most} connections already; close one first",
                retry_after=RETRY_AFTER,
            )
        self._connections[connection.connection_id] = connection

    async def update(self, connection: Registered) -> None:
        """Writes a connection again whose channels have changed."""
        if connection.connection_id in self._connections:
            await self._written(connection)

    def heard(self, connection: Registered) -> None:
        """The connection answered a heartbeat; it is written with the next renewal."""
        self._stale.add(connection.connection_id)

    def remove(self, connection: Registered) -> None:
        """Takes a connection out, soon: it has closed, or was never admitted and may be half written."""
        self._ended.add(connection.connection_id)
        self._stale.discard(connection.connection_id)
        self._connections.pop(connection.connection_id, None)
        if not self._leaving:
            asyncio.get_running_loop().call_soon(lambda: self._tasks.spawn("remove connections", self._depart()))
        self._leaving.append((connection.connection_id, connection.user_id))

    def _written(self, connection: Registered) -> asyncio.Future[bool]:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(lambda: self._tasks.spawn("register connections", self._arrive()))
        outcome: asyncio.Future[bool] = loop.create_future()
        self._waiting.append((connection, outcome))
        return outcome

    async def _arrive(self) -> None:
        waiting, self._waiting = self._waiting, []
        for chunk in _chunks(waiting):
            slots = self._valkey.by_slot(chunk, lambda each: user_key(each[0].user_id))
            await asyncio.gather(*(self._arrive_in_slot(those) for those in slots))

    async def _arrive_in_slot(self, waiting: Sequence[tuple[Registered, asyncio.Future[bool]]]) -> None:
        try:
            outcomes = await self._write([connection for connection, _ in waiting])
        except Exception as error:  # whoever waits is told, whatever it is
            for _, future in waiting:
                if not future.done():
                    future.set_exception(_told(error))
            return
        for (_, future), stands in zip(waiting, outcomes, strict=True):
            if not future.done():
                future.set_result(stands)

    async def _write(self, connections: Sequence[Registered]) -> list[bool]:
        """Writes connections whose users lie in one slot, each whole, and that they own their logs.

        Both are sent in one turn, so that the end of a connection, which is sent later, also arrives later: each
        slot gets its calls in the order sent. One that has ended meanwhile is not written at all.
        """
        living = [c for c in connections if c.connection_id not in self._ended]
        if not living:
            return [False] * len(connections)
        args: list[bytes | str | int] = [self._lease, self._most]
        for connection in living:
            args += (connection.connection_id, self._described(connection))
        _, outcomes = await asyncio.gather(
            self._claim(living), self._valkey.run(self._register, [user_key(c.user_id) for c in living], args)
        )
        standing = {c.connection_id for c, stands in zip(living, outcomes, strict=True) if stands}
        return [connection.connection_id in standing for connection in connections]

    async def _claim(self, connections: Sequence[Registered]) -> None:
        if not connections:
            return
        slots = self._valkey.by_slot(connections, self._owner_key)
        held = [text for c in connections for text in (c.connection_id, c.user_id)]
        await asyncio.gather(
            *(
                self._valkey.run(
                    self._own,
                    [self._owner_key(c) for c in those],
                    [self._owner, self._instance_id, *(c.user_id for c in those)],
                )
                for those in slots
            ),
            self._valkey.command("HSET", self._held, *held),
        )

    def _owner_key(self, connection: Registered) -> str:
        return self._valkey.key(owner_key(connection.connection_id))

    async def _depart(self) -> None:
        """Removes what has closed; what the store does not take now is tried again with the next renewal."""
        leaving, self._leaving = self._leaving, []
        for chunk in _chunks(leaving):
            try:
                await asyncio.gather(
                    *(self._valkey.command("HDEL", user_key(user), name) for name, user in chunk),
                    *(self._valkey.command("DEL", self._valkey.key(owner_key(name))) for name, _ in chunk),
                    self._valkey.command("HDEL", self._held, *(name for name, _ in chunk)),
                )
            except CityError as error:
                _log.warning("%d closed connections are still registered: %s", len(chunk), error)
                self._leaving += chunk
                continue
            except Exception:  # trying again would change nothing; the lease takes them out
                _log.exception("%d closed connections cannot be taken out", len(chunk))
            self._ended.difference_update(name for name, _ in chunk)

    def _described(self, connection: Registered) -> bytes:
        return msgspec.json.encode(
            {
                "v": 1, "instance_id": self._instance_id, "connected_at": connection.connected_at,
                "last_heartbeat": connection.last_heartbeat, "channels": sorted(connection.channels),
            }
        )  # fmt: skip

    # Subscriptions

    def count_in(self, channels: Iterable[str]) -> None:
        """Counts one more connection of this instance that listens to each of these channels."""
        for channel in channels:
            self._channels[channel] = self._channels.get(channel, 0) + 1

    async def listed(self, channels: Sequence[str]) -> None:
        """Writes channels into the key that says what is listened to here."""
        await self._valkey.command("SADD", self.subscriptions_key, *channels)
        await self._valkey.command("PEXPIRE", self.subscriptions_key, self._lease)

    def count_out(self, channels: Iterable[str]) -> None:
        """Counts one connection less; channels that nobody listens to any more leave the key soon."""
        gone = []
        for channel in channels:
            self._channels[channel] -= 1
            if not self._channels[channel]:
                del self._channels[channel]
                gone.append(channel)
        if gone:
            self._tasks.spawn("leave channels", self._unlisted(gone))

    async def _unlisted(self, channels: Sequence[str]) -> None:
        gone = [channel for channel in channels if channel not in self._channels]
        try:
            if gone:
                await self._valkey.command("SREM", self.subscriptions_key, *gone)
        except CityError as error:
            _log.warning("%d channels stay listed until the lease ends: %s", len(gone), error)

    @property
    def subscribers(self) -> dict[str, int]:
        """How many connections of this instance listen to each channel, private logs left out."""
        return dict(self._channels)

    @property
    def subscriptions_key(self) -> str:
        """The set of channels that are listened to here: a fixed name, without the prefix."""
        return f"subscriptions:{self._instance_id}"

    # Renewal

    def claim_again(self) -> None:
        """This instance may have been given up meanwhile: with the next renewal its connections own their logs."""
        self._owned_at = float("-inf")

    async def _keep(self) -> None:
        is_away = False
        while True:
            await asyncio.sleep(self._lease / 1000 / RENEWALS_A_LEASE)
            try:
                await self._renew_all()
                if self._leaving:
                    await self._depart()
                is_away = False
            except CityError as error:
                if not is_away:
                    _log.warning("connections cannot be renewed: %s", error)
                is_away = True

    async def _renew_all(self) -> None:
        now = asyncio.get_running_loop().time()
        is_owning = now - self._owned_at > self._owner / 3000
        for chunk in _chunks(list(self._connections.values())):
            slots = self._valkey.by_slot(chunk, lambda c: user_key(c.user_id))
            await asyncio.gather(*(self._renew_in_slot(those) for those in slots))
            if is_owning:
                await self._claim([c for c in chunk if c.connection_id in self._connections])
        if is_owning:
            self._owned_at = now
        if self._channels:
            await self.listed(list(self._channels))

    async def _renew_in_slot(self, connections: Sequence[Registered]) -> None:
        args: list[str | int] = [self._lease, *(c.connection_id for c in connections)]
        alive = await self._valkey.run(self._renew, [user_key(c.user_id) for c in connections], args)
        again = [
            c for c, lives in zip(connections, alive, strict=True)
            if c.connection_id in self._connections and (not lives or c.connection_id in self._stale)
        ]  # fmt: skip
        if again:
            self._stale.difference_update(c.connection_id for c in again)
            await self._write(again)

    # Reading

    async def find(self, connection_id: str) -> dict[str, Any]:
        """One connection of any instance, as it is written.

        Raises:
            NotFound: there is none, or it is closed.
        """
        user = await self._valkey.command("HGET", self._valkey.key(owner_key(connection_id)), "user_id")
        data = user and await self._valkey.command("HGET", user_key(user.decode()), connection_id)
        if not data:
            raise NotFound(f"there is no connection {connection_id!r} (any more)")
        return {"connection_id": connection_id, "user_id": user.decode(), **_record(data)}

    async def connections_of(self, user_id: str) -> list[dict[str, Any]]:
        """A user's connections on all instances."""
        found = await self._valkey.command("HGETALL", user_key(user_id))
        return [
            {"connection_id": connection_id.decode(), "user_id": user_id, **_record(data)}
            for connection_id, data in found.items()
        ]

    async def is_connected(self, user_id: str) -> bool:
        """Whether the user has a connection anywhere."""
        return bool(await self._valkey.command("HLEN", user_key(user_id)))

    async def release(self) -> None:
        """Takes out everything of this instance at its end."""
        self._leaving += [(c.connection_id, c.user_id) for c in self._connections.values()]
        self._connections.clear()
        await self._depart()
        await self._valkey.command("DEL", self.subscriptions_key)


class Leftovers:
    """What an instance that died has left behind: its connections' claims on their logs."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    async def of(self, member: str) -> dict[str, str]:
        """The member's connections that nobody has settled yet, each with its user."""
        found = await self._valkey.command("HGETALL", self._held(member))
        return {connection_id.decode(): user_id.decode() for connection_id, user_id in found.items()}

    async def end_claim(self, connection_id: str) -> None:
        """From now on nothing is appended to the connection's log."""
        await self._valkey.command("DEL", self._valkey.key(owner_key(connection_id)))

    async def settle(self, member: str, connection_id: str) -> None:
        """The connection is dealt with."""
        await self._valkey.command("HDEL", self._held(member), connection_id)

    def _held(self, member: str) -> str:
        return self._valkey.key(held_key(member))


def _told(error: Exception) -> CityError:
    if isinstance(error, CityError):
        return error
    _log.error("connections cannot be registered", exc_info=error)
    return Internal("the connection cannot be registered; the log of this instance has the details")


def user_key(user_id: str) -> str:
    """The hash of a user's connections: a fixed name, without the prefix."""
    return f"connections:{user_id}"


def owner_key(connection_id: str) -> str:
    """The record that a connection's log has a living owner; it shares the log's slot."""
    return f"owner:{{{connection_log(connection_id)}}}"


def held_key(member: str) -> str:
    """The hash of a member's connections, each with its user: what it leaves behind when it dies."""
    return f"instance:{{{member}}}:connections"


def _record(data: bytes) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.json.decode(data)
    record.pop("v", None)
    return record


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
