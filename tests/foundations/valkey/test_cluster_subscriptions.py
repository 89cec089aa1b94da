"""The bus over the nodes of a cluster: each channel is heard where its slot is, and every gap is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from foundations.valkey.slots import slot_of
from tests.support.valkey_cluster import ClusterNode, ValkeyCluster
from tests.support.waiting import PATIENCE, eventually, until

pytestmark = pytest.mark.on_both_loops

Move = Callable[[ValkeyCluster, int, ClusterNode], Awaitable[None]]
MOVES: dict[str, Move] = {
    "at once": lambda cluster, slot, to: cluster.migrate(slot, slot, to),
    "key by key": lambda cluster, slot, to: cluster.migrate_key_by_key(slot, to),
}


class Heard:
    """Collects what arrives on one channel, and counts its confirmations."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.confirmations = 0

    def confirm(self) -> None:
        self.confirmations += 1


class Bus:
    """Channels `0`, `1`, … of one instance, and how often it was told that it hears again."""

    def __init__(self, valkey: Valkey, subscriptions: Subscriptions) -> None:
        self.valkey = valkey
        self.subscriptions = subscriptions
        self.channels: list[Heard] = []
        self.again = 0
        subscriptions.heard_again.append(self._hear_again)

    def _hear_again(self) -> None:
        self.again += 1

    async def listen(self, number: int) -> None:
        self.channels = [Heard() for _ in range(number)]
        waiting = [
            self.subscriptions.listen(str(name), heard.data.append, heard.confirm)
            for name, heard in enumerate(self.channels)
        ]
        await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)

    async def publish(self, name: int, data: bytes | int = b"x") -> int:
        receivers: int = await self.valkey.command("SPUBLISH", self.valkey.key(str(name)), data)
        return receivers

    def slot(self, name: int) -> int:
        return self.valkey.slot_of(self.valkey.key(str(name)))


@pytest.fixture
async def bus(clustered: Valkey, tasks: Tasks) -> AsyncIterator[Bus]:
    started = Subscriptions(clustered, tasks)
    await started.start()
    yield Bus(clustered, started)
    await started.close()


async def test_channels_of_every_node_are_heard_in_their_order(bus: Bus) -> None:
    await bus.listen(60)
    for number in range(5):
        assert set(await asyncio.gather(*(bus.publish(name, number) for name in range(60)))) == {1}
    for heard in bus.channels:
        await until(lambda heard=heard: len(heard.data) == 5, "all heard")  # type: ignore[misc]
        assert heard.data == [b"%d" % number for number in range(5)]
    assert bus.subscriptions.is_hearing
    assert bus.again == 0


async def test_thousands_of_channels_are_confirmed_and_left(bus: Bus) -> None:
    await bus.listen(3000)
    assert {heard.confirmations for heard in bus.channels} == {1}
    for name in range(3000):
        bus.subscriptions.leave(str(name))

    async def is_left() -> bool:
        return sum(await asyncio.gather(*(bus.publish(name) for name in range(0, 3000, 100)))) == 0

    await eventually(is_left, "nothing is heard any more")


@pytest.mark.parametrize("way", list(MOVES))
async def test_a_channel_whose_slot_moves_is_heard_there_and_confirmed_again(
    valkey_cluster: ValkeyCluster, bus: Bus, way: str
) -> None:
    await bus.listen(30)
    owner = await valkey_cluster.primary_of(bus.slot(7))
    for times, to in enumerate((valkey_cluster.others(owner)[0], owner), 2):
        await MOVES[way](valkey_cluster, bus.slot(7), to)
        await until(lambda times=times: bus.channels[7].confirmations >= times, "confirmed again")  # type: ignore[misc]
        await until(lambda: bus.subscriptions.is_hearing, "hearing")
        assert await bus.publish(7, times) == 1
    await until(lambda: bus.channels[7].data == [b"2", b"3"], "heard at the new owners")
    others = {heard.confirmations for name, heard in enumerate(bus.channels) if bus.slot(name) != bus.slot(7)}
    assert others == {1}
    assert bus.again == 0


async def test_thousands_of_slots_that_move_at_once_are_followed(valkey_cluster: ValkeyCluster, bus: Bus) -> None:
    await bus.listen(1000)
    # Other tests leave slots where they have moved them, and what moves at once must lie on one node.
    shards = await valkey_cluster.nodes[0].ask("CLUSTER", "SLOTS")
    first, last, *_ = max(shards, key=lambda shard: shard[1] - shard[0])
    owner = await valkey_cluster.primary_of(first)
    moved = [heard for name, heard in enumerate(bus.channels) if first <= bus.slot(name) <= last]

    async def all_are_heard() -> bool:
        return set(await asyncio.gather(*(bus.publish(name) for name in range(1000)))) == {1}

    for times, to in enumerate((valkey_cluster.others(owner)[0], owner), 2):
        await valkey_cluster.migrate(first, last, to)
        await eventually(all_are_heard, "heard at the new owner", 10)
        await until(lambda: bus.subscriptions.is_hearing, "hearing")
        assert min(heard.confirmations for heard in moved) >= times


async def test_who_is_told_of_no_confirmations_is_told_when_all_is_heard_again(
    valkey_cluster: ValkeyCluster, bus: Bus
) -> None:
    await asyncio.wait_for(bus.subscriptions.listen("quiet", lambda _: None), PATIENCE)
    slot = bus.valkey.slot_of(bus.valkey.key("quiet"))
    owner = await valkey_cluster.primary_of(slot)
    await valkey_cluster.migrate(slot, slot, valkey_cluster.others(owner)[0])
    await until(lambda: bus.again == 1, "told")
    await valkey_cluster.migrate(slot, slot, owner)
    await until(lambda: bus.again == 2, "told")


async def test_one_lost_connection_concerns_only_what_was_heard_on_it(valkey_cluster: ValkeyCluster, bus: Bus) -> None:
    await bus.listen(60)
    node = valkey_cluster.nodes[0]
    assert await node.ask("CLIENT", "KILL", "TYPE", "pubsub") == 1
    await until(lambda: bus.again == 1, "hearing again")
    assert bus.subscriptions.is_hearing
    for name, heard in enumerate(bus.channels):
        is_of_node = await valkey_cluster.primary_of(bus.slot(name)) is node
        assert heard.confirmations == (2 if is_of_node else 1)


async def test_a_canary_whose_slot_moves_is_followed_by_another(valkey_cluster: ValkeyCluster, bus: Bus) -> None:
    async def canary_of(node: ClusterNode) -> bytes:
        (name,) = await node.ask("PUBSUB", "SHARDCHANNELS", bus.valkey.key("canary:*"))
        return bytes(name)

    node, other, _ = valkey_cluster.nodes
    slot = slot_of(await canary_of(node))
    assert await valkey_cluster.primary_of(slot) is node
    await valkey_cluster.migrate(slot, slot, other)

    async def has_another() -> bool:
        names = await node.ask("PUBSUB", "SHARDCHANNELS", bus.valkey.key("canary:*"))
        return [slot_of(name) for name in names] not in ([], [slot])

    await eventually(has_another, "another canary")
    await until(lambda: bus.subscriptions.is_hearing, "hearing")
    assert bus.again == 0
    await valkey_cluster.migrate(slot, slot, node)
