"""A real Valkey cluster for tests: primaries with replicas on loopback, whose slots move and whose nodes die at will.

The nodes know one another from the start, from a configuration written for them, so that nothing waits for gossip;
a primary still takes no writes in its first two seconds (Valkey's CLUSTER_WRITABLE_DELAY).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any

import pytest
import redis
import redis.asyncio

from foundations.valkey.client import Valkey
from tests.support.ports import free_port
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

SLOTS = 16384
PATIENCE_SECONDS = 20.0
KEYS_AT_ONCE = 100


class ClusterNode(ValkeyServer):
    """One node of a cluster, with the name that the cluster knows it by."""

    def __init__(self, **flags: str) -> None:
        self.bus_port = free_port()
        super().__init__(tcp=True, cluster_enabled="yes", cluster_port=str(self.bus_port), **flags)
        self.name = secrets.token_hex(20)
        self.login: dict[str, Any] = {
            "port": self.port,
            "password": flags.get("requirepass"),
            "protocol": 2,
            "socket_timeout": 5,
        }

    async def ask(self, *words: Any) -> Any:
        """One command to this very node, whatever it serves; text comes as bytes."""
        async with redis.asyncio.Redis(**self.login, single_connection_client=True) as to:
            return await to.execute_command(*words)  # type: ignore[no-untyped-call]


class ValkeyCluster:
    """``primaries`` nodes that share the slots evenly, with ``replicas`` each; ``flags`` as for `ValkeyServer`.

    A node that does not answer for ``cluster_node_timeout`` milliseconds is replaced by its replica. A primary whose
    last slot leaves stays a primary; by default Valkey makes it a replica of the new owner, and no slot comes back.
    """

    def __init__(
        self, *, primaries: int = 3, replicas: int = 0, cluster_node_timeout: str = "1500", **flags: str
    ) -> None:
        flags = {
            "appendonly": "no",
            "repl_diskless_sync_delay": "0",
            "cluster_allow_replica_migration": "no",
        } | flags
        made = [
            ClusterNode(cluster_node_timeout=cluster_node_timeout, cluster_replica_validity_factor="0", **flags)
            for _ in range(primaries * (1 + replicas))
        ]
        self.nodes: Sequence[ClusterNode] = made
        self._first_primaries = made[:primaries]
        self._write_configurations()

    @property
    def url(self) -> str:
        """As an operator would set it, naming every node."""
        return f"redis://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}/?cluster=true"

    def __enter__(self) -> ValkeyCluster:
        try:
            for node in self.nodes:
                node.start()
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not all(_serves(node, self.nodes) for node in self.nodes):
                assert time.monotonic() < deadline, f"no cluster: {[node.log() for node in self.nodes]}"
                time.sleep(0.02)  # between two looks at a condition with a deadline
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends every node and removes what it stored."""
        for node in self.nodes:
            node.kill()
            node.stop()

    # Who is who

    async def primary_of(self, slot: int) -> ClusterNode:
        """The node that serves a slot now, once all nodes that answer see the same."""

        async def found() -> ClusterNode | None:
            seen = await self._seen_to_serve(slot, slot)
            owner = seen.pop() if len(seen) == 1 else None
            return None if owner is None else self._named(owner)

        return await eventually(found, f"somebody serves slot {slot}", PATIENCE_SECONDS)

    async def _seen_to_serve(self, first: int, last: int) -> set[bytes | None]:
        """Who serves all of these slots, as each node that answers sees it; `None` for nobody alone."""
        seen: set[bytes | None] = set()
        for node in self.nodes:
            try:
                shards = await node.ask("CLUSTER", "SLOTS")
            except (redis.RedisError, OSError):
                continue
            seen.add(next((primary[2] for at, end, primary, *_ in shards if at <= first and last <= end), None))
        return seen

    async def replica_of(self, primary: ClusterNode) -> ClusterNode:
        """A replica that is connected to its primary."""

        async def found() -> ClusterNode | None:
            for node in self.nodes:
                if node is primary or not node.is_running:
                    continue
                _, *rest = await node.ask("ROLE")
                if len(rest) == 4 and rest[1] == primary.port and rest[2] == b"connected":
                    return node
            return None

        return await eventually(found, "a replica is connected", PATIENCE_SECONDS)

    def others(self, node: ClusterNode) -> list[ClusterNode]:
        """Every other node that runs."""
        return [other for other in self.nodes if other is not node and other.is_running]

    def _named(self, name: bytes) -> ClusterNode:
        return next(node for node in self.nodes if node.name == name.decode())

    # Slots that move

    async def migrate(self, first: int, last: int, to: ClusterNode) -> None:
        """Moves slots as Valkey 9 does: with all their keys, at one moment."""
        source = await self.primary_of(first)
        await source.ask("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, last, "NODE", to.name)

        async def moved() -> bool:
            return await self._seen_to_serve(first, last) == {to.name.encode()}

        await eventually(moved, f"slots {first}-{last} moved", PATIENCE_SECONDS)

    async def begin_moving(self, slot: int, to: ClusterNode) -> ClusterNode:
        """Opens a slot on both sides, as older servers and tools do: a key that has left is asked for with ASK."""
        source = await self.primary_of(slot)
        await to.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source.name)
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", to.name)
        return source

    async def move_keys(self, slot: int, source: ClusterNode, to: ClusterNode, *, most: int = 1_000_000) -> int:
        """Moves the slot's keys, or ``most`` of them, and says how many went."""
        moved = 0
        while moved < most:
            keys = await source.ask("CLUSTER", "GETKEYSINSLOT", slot, min(KEYS_AT_ONCE, most - moved))
            if not keys:
                break
            await source.ask("MIGRATE", "127.0.0.1", to.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
        return moved

    async def finish_moving(self, slot: int, source: ClusterNode, to: ClusterNode) -> None:
        """Gives the slot to its new owner; every node is told."""
        for node in (to, source, *self.others(to)):
            if await _is_primary(node):
                await node.ask("CLUSTER", "SETSLOT", slot, "NODE", to.name)
        assert await self.primary_of(slot) is to

    async def migrate_key_by_key(self, slot: int, to: ClusterNode) -> None:
        """Moves one slot in the old way, all of its steps."""
        source = await self.begin_moving(slot, to)
        await self.move_keys(slot, source, to)
        await self.finish_moving(slot, source, to)

    # Primaries that change

    async def kill_and_fail_over(self, primary: ClusterNode) -> ClusterNode:
        """SIGKILL; the cluster notices by itself and promotes the replica, which is returned once it serves.

        No write is lost, since the last moment before is without any; for the other case see `promote_lagging`.
        """
        replica = await self.replica_of(primary)
        await primary.ask("CLIENT", "PAUSE", int(PATIENCE_SECONDS * 1000), "WRITE")

        async def has_all() -> bool:
            (_, written, _), (*_, copied) = await primary.ask("ROLE"), await replica.ask("ROLE")
            return bool(written == copied)

        await eventually(has_all, "the replica has everything", PATIENCE_SECONDS)
        primary.kill()
        await self._until_primary(replica)
        return replica

    async def hand_over(self, primary: ClusterNode) -> ClusterNode:
        """A failover in good order: the replica takes over without losing a write, and is returned."""
        replica = await self.replica_of(primary)
        await replica.ask("CLUSTER", "FAILOVER")
        await self._until_primary(replica)
        return replica

    async def cut_off_replica(self, primary: ClusterNode) -> ClusterNode:
        """Stops the replica: what is written from now on is on the primary alone. See `promote_lagging`."""
        replica = await self.replica_of(primary)
        replica.hang()
        await primary.ask("CLIENT", "KILL", "TYPE", "replica")  # or the socket would keep the writes for it
        return replica

    async def promote_lagging(self, primary: ClusterNode, replica: ClusterNode) -> None:
        """Kills the primary and promotes the replica that was cut off: the writes in between are lost."""
        primary.kill()
        replica.resume()
        await replica.ask("CLUSTER", "FAILOVER", "TAKEOVER")
        await self._until_primary(replica)

    async def _until_primary(self, node: ClusterNode) -> None:
        """Until it serves, and everybody who lives knows."""

        async def known() -> bool:
            for one in (node, *self.others(node)):
                if not _serves(one, [node]) or not any(
                    serving[2] == node.name.encode() for _, _, serving, *_ in await one.ask("CLUSTER", "SLOTS")
                ):
                    return False
            return True

        await eventually(known, f"{node.port} is a primary", PATIENCE_SECONDS)

    # The configuration

    def _write_configurations(self) -> None:
        primaries = self._first_primaries
        lines = dict[str, tuple[str, str]]()
        for number, node in enumerate(self.nodes):
            of = number % len(primaries)
            primary = primaries[of]
            address = f"127.0.0.1:{node.port}@{node.bus_port},,tls-port=0,shard-id={primary.name}"
            first, last = of * SLOTS // len(primaries), (of + 1) * SLOTS // len(primaries) - 1
            served = ("master", f"- 0 0 {of + 1} connected {first}-{last}")
            role, rest = served if node is primary else ("slave", f"{primary.name} 0 0 {of + 1} connected")
            lines[node.name] = (role, f"{node.name} {address} %s {rest}")
        for node in self.nodes:
            text = "".join(
                line % (f"myself,{role}" if name == node.name else role) + "\n" for name, (role, line) in lines.items()
            )
            epochs = f"vars currentEpoch {len(primaries)} lastVoteEpoch 0\n"
            (node.directory / "nodes.conf").write_text(text + epochs)


def _serves(node: ClusterNode, expected: Sequence[ClusterNode]) -> bool:
    """Whether a node takes part in a cluster that serves, and knows of all that are expected."""
    with redis.Redis(**node.login) as to:
        try:
            info, known = to.execute_command("CLUSTER INFO"), to.execute_command("CLUSTER SLOTS")
        except redis.RedisError:
            return False
    return info["cluster_state"] == "ok" and all(other.name in str(known) for other in expected)


async def _is_primary(node: ClusterNode) -> bool:
    return bool((await node.ask("ROLE"))[0] == b"master")


@pytest.fixture(scope="session")
def valkey_cluster() -> Iterator[ValkeyCluster]:
    """Three primaries without replicas for all tests of a session. Slots may move; who harms nodes starts own ones."""
    with ValkeyCluster(cluster_node_timeout="15000") as cluster:  # a busy machine is no dead node
        yield cluster


@pytest.fixture
async def clustered(valkey_cluster: ValkeyCluster) -> AsyncIterator[Valkey]:
    """A client on that cluster whose keys no other test shares."""
    connected = await Valkey.connect(valkey_cluster.url, prefix=f"test-{secrets.token_hex(4)}:", timeout=5)
    yield connected
    await connected.close()
