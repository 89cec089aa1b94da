"""Who is connected: operations that count connections, find and list them, and end them, on all instances."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from foundations.errors import InvalidArgument, NotFound
from foundations.operations import Result, exactly_one_of, operation
from foundations.rates import Rate
from smart_city.post_office.channels import Channels
from smart_city.post_office.fleet import Fleet
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.operations.publishing import ConnectionIdArgument
from smart_city.vocabulary import ChannelName, Identity

DISCONNECTED = 1000
STANDARD_CODES = (1000, 1001, 1008, 1012, 1013)
"""Of the codes that are not our own those that a server may send."""
CloseCodeArgument = Annotated[
    int,
    Field(
        ge=1000, le=4999, description="the close code; 1000: do not come back",
        json_schema_extra={"anyOf": [{"enum": list(STANDARD_CODES)}, {"minimum": 3000}]},
    ),
]  # fmt: skip
SubjectArgument = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9._~@|-]{1,128}$", description="a user's id, or ~ and a realm for a service"),
]


class ConnectionCount(Result):
    """Living connections, by where they are and what they listen to."""

    model_config = ConfigDict(serialize_by_alias=True)

    global_: int = Field(alias="global")
    by_channel: dict[str, int]
    by_instance: dict[str, int]
    users: int


class ConnectionsOfChannel(Result):
    """Ids of the connections that listen to a channel, and of those that have sent to it."""

    channel: str
    connections: list[str]


class ConnectionFound(Result):
    """One living connection."""

    connection_id: str
    user_id: str
    instance_id: str
    connected_at: str
    last_heartbeat: str
    channels: list[str]


class ConnectionListed(Result):
    """One living connection, as its instance sees it."""

    connection_id: str
    user_id: str
    instance_id: str
    connected_at: str
    last_heartbeat: str
    channels: list[str] = Field(description="the first fifty")
    channel_count: int
    consumes: list[str] = Field(description="agent channels whose inboxes it takes from")
    unsent_bytes: int = Field(description="bytes that wait for it on its instance")
    is_lagging: bool = Field(default=False, description="whether it does not keep up, and is fed from the logs")
    address: str | None = Field(default=None, description="of the client; a proxy's if that is not trusted")


class ConnectionsListed(Result):
    """How many connections fit, and the newest of them."""

    total: int
    connections: list[ConnectionListed]
    silent_instances: list[str] = Field(description="have not answered in time: their connections are missing")


class Disconnected(Result):
    """How many connections were closed."""

    disconnected: int


class Connections:
    """The operations about connections."""

    def __init__(self, *, channels: Channels, registry: Registry, fleet: Fleet) -> None:
        self._channels = channels
        self._registry = registry
        self._fleet = fleet

    @operation(scope="post_office.observe", read_only=True, example={})
    async def get_connection_count(self, caller: Identity) -> ConnectionCount:
        """Counts the living connections of all instances, by channel and by instance, and their users."""
        answers = await self._fleet.ask("count", {})
        by_channel: dict[str, int] = {}
        users: set[int] = set()
        for answer in answers:
            users.update(answer["users"])
            for channel, count in answer["channels"].items():
                by_channel[channel] = by_channel.get(channel, 0) + count
        by_instance = {answer["instance_id"]: answer["connections"] for answer in answers}
        return ConnectionCount.model_validate(
            {
                "global": sum(by_instance.values()), "by_channel": by_channel,
                "by_instance": by_instance, "users": len(users),
            }
        )  # fmt: skip

    @operation(scope="post_office.observe", read_only=True, example={"channel": "guide"})
    async def get_connections_by_channel(self, caller: Identity, channel: ChannelName) -> ConnectionsOfChannel:
        """Lists the connections that listen to a channel and those that have sent to it, on all instances.

        Errors: `unknown_channel`.
        """
        self._channels.kind(channel)
        answers = await self._fleet.ask("connections_of_channel", {"channel": channel})
        return ConnectionsOfChannel(channel=channel, connections=sorted(id_ for found in answers for id_ in found))

    @operation(
        scope="post_office.observe", read_only=True, example={"channel": "guide", "limit": 50}, rate=Rate(50, 200)
    )
    async def list_connections(
        self,
        caller: Identity,
        user_id: SubjectArgument | None = None,
        channel: ChannelName | None = None,
        limit: Annotated[int, Field(ge=1, le=200, description="how many to describe at most")] = 50,
    ) -> ConnectionsListed:
        """Lists living connections of all instances, the newest first: all, a user's, or those that concern a channel.

        A connection concerns a channel that it listens to, whose inbox it takes from, or to which it has sent.
        Addresses are told to callers with `post_office.admin`. Errors: `unknown_channel`.
        """
        if channel is not None:
            self._channels.kind(channel)
        about = {"user_id": user_id or "", "channel": channel or "", "limit": limit}
        answers = await self._fleet.ask("connections", about)
        heard = {answer["instance_id"] for answer in answers}
        found = [connection for answer in answers for connection in answer["connections"]]
        found.sort(key=lambda connection: str(connection["connected_at"]), reverse=True)
        may_see_addresses = "post_office.admin" in caller.scopes
        return ConnectionsListed(
            total=sum(answer["total"] for answer in answers),
            connections=[_listed(connection, with_address=may_see_addresses) for connection in found[:limit]],
            silent_instances=sorted({one.instance_id for one in self._fleet.living.values()} - heard),
        )

    @operation(scope="post_office.observe", read_only=True, example={"connection_id": "c0123456789abcdef0123"})
    async def get_connection(self, caller: Identity, connection_id: ConnectionIdArgument) -> ConnectionFound:
        """Looks one connection up. Errors: `not_found` once it is closed."""
        return ConnectionFound(**await self._registry.find(connection_id))

    @operation(
        scope="post_office.admin", destructive=True, idempotent=True, example={"user_id": "mallory"},
        rules=[exactly_one_of("connection_id", "user_id")],
    )  # fmt: skip
    async def disconnect(
        self,
        caller: Identity,
        connection_id: ConnectionIdArgument | None = None,
        user_id: SubjectArgument | None = None,
        code: CloseCodeArgument = DISCONNECTED,
    ) -> Disconnected:
        """Closes one connection, or all connections of a user or service, on whichever instance they are.

        Errors: `invalid_argument` (name one of the two), `not_found` (no such connection).
        """
        if (connection_id is None) == (user_id is None):
            raise InvalidArgument("name either a connection_id or a user_id")
        if code not in STANDARD_CODES and code < 3000:
            raise InvalidArgument(f"{code} is not a close code that a server may send")
        about = {"connection_id": connection_id or "", "user_id": user_id or "", "code": code}
        count = sum(await self._fleet.ask("disconnect", about))
        if not count and connection_id:
            raise NotFound(f"there is no connection {connection_id!r} (any more)")
        return Disconnected(disconnected=count)


def _listed(told: Mapping[str, Any], *, with_address: bool) -> ConnectionListed:
    return ConnectionListed.model_validate({**told, "address": (told["address"] or None) if with_address else None})
