"""``GET /api/connections/info``: the caller's own connections, on all instances.

It is called like every operation, with its limit, deadline and figures, but stands in no catalogue: what
others may know of connections is Post Office's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fastapi import FastAPI

from city_hall.surfaces.callers import Identify
from city_hall.surfaces.catalogue import Catalogue
from city_hall.surfaces.http import bind_address
from foundations.invocation import Invocation
from foundations.operations import Result, operation, operations_of
from foundations.settings import Settings
from smart_city.vocabulary import Identity

PATH = "/api/connections/info"


class Registry(Protocol):
    """Where connections are written down."""

    async def connections_of(self, user_id: str) -> Sequence[Mapping[str, Any]]:
        """A user's connections on all instances."""
        ...


class OwnConnections(Result):
    """The caller and all of the caller's connections."""

    user_id: str
    connections: tuple[Mapping[str, Any], ...]


class _Desk:
    """The operation behind the address."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    @operation(scope="post_office.observe", sessions=True, read_only=True, example={})
    async def get_own_connections(self, caller: Identity) -> OwnConnections:
        """Lists the caller's own connections, wherever they are."""
        found = await self._registry.connections_of(caller.subject)
        return OwnConnections(user_id=caller.subject, connections=tuple(found))


def bind_connections(
    app: FastAPI, registry: Registry, identify: Identify, invocation: Invocation, settings: Settings
) -> None:
    """Gives ``app`` the address."""
    for entry in Catalogue(operations_of(_Desk(registry), "connections")):
        bind_address(app, PATH, entry, identify, invocation, settings)
