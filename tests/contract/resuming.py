"""Connections that are lost and come back under their id, as plain sockets. It expects nothing of the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.shapes import position
from tests.support.platform import Instance
from tests.support.wire_client import Frame, WireClient


@asynccontextmanager
async def resumed(city: Instance, token: str, connection_id: str, **options: Any) -> AsyncIterator[WireClient]:
    """A connection that asks to be the one with this id."""
    async with WireClient.connected(f"{city.ws_url}?resume={connection_id}", token, **options) as client:
        yield client


async def lost(city: Instance, token: str, **options: Any) -> tuple[str, Frame]:
    """A connection that came and whose network broke: its id, and its positions."""
    async with WireClient.connected(city.ws_url, token, **options) as client:
        client.socket.transport.abort()
    return client.id, {channel: position(at) for channel, at in client.welcome["channels"].items()}


def is_resumed(client: WireClient, connection_id: str) -> None:
    """The welcome of one that is the old connection: the same id, and subscribed to nothing."""
    welcome = client.welcome
    assert (welcome["resumed"], welcome["connection_id"], welcome["channels"]) == (True, connection_id, {})


def is_fresh(client: WireClient, connection_id: str) -> None:
    """The welcome of one that is a new connection, as if it had not asked."""
    welcome = client.welcome
    assert welcome["resumed"] is False
    assert client.id != connection_id
    assert set(welcome["channels"]) == {f"connection:{client.id}", f"user:{welcome['user_id']}"}
