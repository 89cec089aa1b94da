"""The store of a trial, asked beside the platform: one server, or whatever node of a cluster serves a key.

Each command has a connection of its own, since servers die in between.
"""

from __future__ import annotations

from typing import Protocol

import redis.asyncio

from foundations.valkey.slots import slot_of
from tests.support.valkey import ValkeyServer
from tests.support.valkey_cluster import ValkeyCluster


class Store(Protocol):
    """Where a trial's instances keep everything."""

    @property
    def url(self) -> str:
        """As an instance is told."""
        ...

    async def command(self, *words: str) -> object:
        """A command's reply; the second word is its key."""
        ...


class SingleStore:
    """One server."""

    def __init__(self, server: ValkeyServer) -> None:
        self._server = server
        self.url = server.url

    async def command(self, *words: str) -> object:
        return await _ask(self._server.port, *words)

    async def setting(self, name: str) -> str:
        """How the server is configured."""
        reply = await self.command("CONFIG", "GET", name)
        assert isinstance(reply, list)
        return str(reply[1].decode())


class ClusterStore:
    """The nodes of a cluster."""

    def __init__(self, cluster: ValkeyCluster) -> None:
        self._cluster = cluster
        self.url = cluster.url

    async def command(self, *words: str) -> object:
        node = await self._cluster.primary_of(slot_of(words[1]))
        return await _ask(node.port, *words)


async def _ask(port: int, *words: str) -> object:
    async with redis.asyncio.Redis(port=port, protocol=2, socket_timeout=10, single_connection_client=True) as to:
        reply: object = await to.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's own
        return reply
