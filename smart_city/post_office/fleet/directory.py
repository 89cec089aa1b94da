"""The directory: who is connected, as a hash a user that operators and other instances read.

Each connection is one field, written whole or not at all, which ends with its instance's lease; one that has a newer
owner is left alone. Whose connection it is, is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import msgspec

from foundations.valkey.client import Valkey
from foundations.valkey.scripts import Script
from smart_city.post_office.fleet.calls import run_each
from smart_city.post_office.fleet.names import user_key
from smart_city.post_office.fleet.ownership import Claim

STANDS, OVERTAKEN = 1, 2
"""What the scripts answer of a connection; 0 is neither."""


class Registered(Protocol):
    """A connection, as far as others are told of it.

    Its ``fence`` is higher than that of every owner before; up to ``heard_offset`` its own log has reached the client.
    """

    connection_id: str
    connected_at: str
    last_heartbeat: str
    fence: int

    @property
    def heard_offset(self) -> int: ...

    @property
    def user_id(self) -> str: ...

    @property
    def channels(self) -> Sequence[str]: ...


class Directory:
    """The hashes, as one instance writes and reads them."""

    def __init__(self, valkey: Valkey, *, instance_id: str, lease_seconds: float, most_per_user: int) -> None:
        self.most_per_user = most_per_user
        self._valkey = valkey
        self._instance_id = instance_id
        self._lease = round(lease_seconds * 1000)
        self._register, self._prolong, self._unregister = (
            Script.read("smart_city.post_office.fleet", name) for name in ("register", "prolong", "unregister")
        )

    async def write(self, connections: Sequence[Registered], how: Literal["new", "again"]) -> list[int]:
        """Writes connections; 0 for each that its user has no room for or, ``again``, that was not there."""
        return await run_each(
            self._valkey, self._register, connections, keys=_key_of, head=[self._lease, self.most_per_user, how],
            args=lambda c: (c.connection_id, c.fence, self._described(c)),
        )  # fmt: skip

    async def prolong(self, connections: Sequence[Registered]) -> list[int]:
        """Has connections stand for another lease; 0 for each that was not there."""
        return await run_each(
            self._valkey, self._prolong, connections, keys=_key_of, head=[self._lease],
            args=lambda c: (c.connection_id,),
        )  # fmt: skip

    async def remove(self, claims: Sequence[Claim]) -> int:
        """Takes out those that have no newer owner; how many were there."""
        removed = await run_each(
            self._valkey, self._unregister, claims, keys=_key_of, args=lambda c: (c.connection_id, c.fence)
        )  # fmt: skip
        return sum(removed)

    async def find(self, user_id: str, connection_id: str) -> dict[str, Any] | None:
        """One connection, as it is written."""
        data = await self._valkey.command("HGET", user_key(user_id), connection_id)
        return _record(user_id, connection_id, data) if data else None

    async def of(self, user_id: str) -> list[dict[str, Any]]:
        """A user's connections on all instances."""
        found = await self._valkey.command("HGETALL", user_key(user_id))
        return [_record(user_id, connection_id.decode(), data) for connection_id, data in found.items()]

    async def has(self, user_id: str) -> bool:
        """Whether the user has a connection anywhere."""
        return bool(await self._valkey.command("HLEN", user_key(user_id)))

    def _described(self, connection: Registered) -> bytes:
        return msgspec.json.encode(
            {
                "v": 1, "fence": connection.fence, "instance_id": self._instance_id,
                "connected_at": connection.connected_at, "last_heartbeat": connection.last_heartbeat,
                "channels": sorted(connection.channels),
            }
        )  # fmt: skip


class _OfUser(Protocol):
    @property
    def user_id(self) -> str: ...


def _key_of(item: _OfUser) -> tuple[str]:
    return (user_key(item.user_id),)


def _record(user_id: str, connection_id: str, data: bytes) -> dict[str, Any]:
    record: dict[str, Any] = msgspec.json.decode(data)
    for inner in ("v", "fence"):
        record.pop(inner, None)
    return {"connection_id": connection_id, "user_id": user_id, **record}
