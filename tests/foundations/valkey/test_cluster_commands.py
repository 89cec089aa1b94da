"""A cluster as one store: who is asked, what is followed, and in which order things arrive."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from redis.exceptions import ResponseError

from foundations.errors import Unavailable
from foundations.valkey import Script, Valkey, WrongStore
from foundations.valkey.slots import SLOTS
from tests.support.ports import free_port
from tests.support.valkey import ValkeyServer
from tests.support.valkey_cluster import ClusterNode, ValkeyCluster

pytestmark = pytest.mark.on_both_loops

SET_AND_GET = Script.of("set_and_get", "redis.call('SET', KEYS[1], ARGV[1]) return redis.call('GET', KEYS[1])")


async def elsewhere(cluster: ValkeyCluster, slot: int) -> tuple[ClusterNode, ClusterNode]:
    """Who serves a slot, and somebody else."""
    owner = await cluster.primary_of(slot)
    return owner, cluster.others(owner)[0]


# Who is asked


async def test_each_command_goes_to_where_its_key_lies(valkey_cluster: ValkeyCluster, clustered: Valkey) -> None:
    keys = [clustered.key(str(number)) for number in range(300)]
    await asyncio.gather(*(clustered.command("SET", key, key) for key in keys))
    assert await asyncio.gather(*(clustered.command("GET", key) for key in keys)) == [key.encode() for key in keys]
    kept = [await node.ask("KEYS", clustered.key("*")) for node in valkey_cluster.nodes]
    assert all(kept)
    assert sum(map(len, kept)) == 300


async def test_a_script_is_taught_to_every_node_that_it_comes_to(clustered: Valkey) -> None:
    unknown = Script.of("own", f"return KEYS[1] .. '{secrets.token_hex(4)}'")
    keys = [clustered.key(str(number)) for number in range(30)]
    answers = await asyncio.gather(*(clustered.run(unknown, [key], []) for key in keys))
    assert [answer.decode()[:-8] for answer in answers] == keys
    assert await clustered.run(Script.of("keyless", "return 7"), [], []) == 7


async def test_what_has_no_key_is_answered_by_any_node(clustered: Valkey) -> None:
    assert await clustered.command("ECHO", "x") == b"x"
    assert (await clustered.command("INFO"))["cluster_enabled"] == 1
    assert len(await clustered.command("TIME")) == 2


@pytest.mark.on_one_server
async def test_keys_are_grouped_by_their_slots(clustered: Valkey, valkey: Valkey) -> None:
    keys = ["{a}1", "{b}1", "{a}2"]
    assert clustered.slot_of("{a}1") == clustered.slot_of("a") != clustered.slot_of("b")
    assert clustered.by_slot(keys, str) == [["{a}1", "{a}2"], ["{b}1"]]
    assert valkey.by_slot(keys, str) == [keys]


# What is followed


async def test_a_slot_that_moved_is_followed(valkey_cluster: ValkeyCluster, clustered: Valkey) -> None:
    key = clustered.key("k")
    slot = clustered.slot_of(key)
    await clustered.command("SET", key, "v")
    owner, other = await elsewhere(valkey_cluster, slot)
    await valkey_cluster.migrate(slot, slot, other)
    assert await clustered.command("GET", key) == b"v"
    assert await clustered.run(SET_AND_GET, [key], ["w"]) == b"w"
    await valkey_cluster.migrate(slot, slot, owner)
    assert await clustered.command("GET", key) == b"w"


async def test_a_script_that_leaves_at_once_is_not_sent_on_and_the_next_goes_where_its_slot_is(
    valkey_cluster: ValkeyCluster, clustered: Valkey
) -> None:
    key = clustered.key("k")
    slot = clustered.slot_of(key)
    assert await clustered.run(SET_AND_GET, [key], ["v"]) == b"v"
    owner, other = await elsewhere(valkey_cluster, slot)
    await valkey_cluster.migrate(slot, slot, other)
    told: asyncio.Queue[object] = asyncio.Queue()
    assert clustered.begin(SET_AND_GET, [key], ["w"], told.put_nowait, seconds=1)
    assert isinstance(await told.get(), ResponseError)
    assert await clustered.run(SET_AND_GET, [key], ["x"]) == b"x"
    assert clustered.begin(SET_AND_GET, [key], ["y"], told.put_nowait, seconds=1)
    assert await told.get() == b"y"
    await valkey_cluster.migrate(slot, slot, owner)


async def test_a_key_that_has_left_a_slot_on_the_move_is_asked_for_where_it_is(
    valkey_cluster: ValkeyCluster, clustered: Valkey
) -> None:
    tag = f"{{{clustered.prefix}}}"
    slot = clustered.slot_of(tag)
    await asyncio.gather(*(clustered.command("SET", f"{tag}{number}", number) for number in range(10)))
    _, other = await elsewhere(valkey_cluster, slot)
    source = await valkey_cluster.begin_moving(slot, other)
    await valkey_cluster.move_keys(slot, source, other, most=5)
    found = await asyncio.gather(*(clustered.command("GET", f"{tag}{number}") for number in range(10)))
    assert found == [b"%d" % number for number in range(10)]
    assert await clustered.run(SET_AND_GET, [f"{tag}new"], ["v"]) == b"v"
    assert f"{tag}new".encode() in await other.ask("CLUSTER", "GETKEYSINSLOT", slot, 100)
    await valkey_cluster.move_keys(slot, source, other)
    await valkey_cluster.finish_moving(slot, source, other)
    assert await clustered.command("GET", f"{tag}new") == b"v"


async def test_what_needs_keys_of_both_sides_has_to_wait(valkey_cluster: ValkeyCluster, clustered: Valkey) -> None:
    tag = f"{{{clustered.prefix}}}"
    slot = clustered.slot_of(tag)
    await asyncio.gather(*(clustered.command("SET", f"{tag}{number}", number) for number in range(2)))
    _, other = await elsewhere(valkey_cluster, slot)
    source = await valkey_cluster.begin_moving(slot, other)
    await valkey_cluster.move_keys(slot, source, other, most=1)
    with pytest.raises(Unavailable, match="TRYAGAIN"):
        await clustered.command("MGET", f"{tag}0", f"{tag}1")
    await valkey_cluster.move_keys(slot, source, other)
    await valkey_cluster.finish_moving(slot, source, other)
    assert await clustered.command("MGET", f"{tag}0", f"{tag}1") == [b"0", b"1"]


@pytest.mark.parametrize("at_once", [True, False])
async def test_the_order_of_one_key_is_kept_while_its_slot_moves(
    valkey_cluster: ValkeyCluster, clustered: Valkey, at_once: bool
) -> None:
    key = clustered.key("list")
    slot = clustered.slot_of(key)
    owner, other = await elsewhere(valkey_cluster, slot)
    asked: list[asyncio.Task[int]] = []
    moving = asyncio.create_task(_there_and_back(valkey_cluster, slot, owner, other, at_once=at_once))
    while not moving.done() or len(asked) < 1000:
        asked += [asyncio.create_task(clustered.command("RPUSH", key, len(asked) + more)) for more in range(5)]
        await asyncio.sleep(0.001)
    await moving
    assert await asyncio.gather(*asked) == [number + 1 for number in range(len(asked))]
    assert await clustered.command("LRANGE", key, 0, -1) == [b"%d" % number for number in range(len(asked))]


async def _there_and_back(
    cluster: ValkeyCluster, slot: int, owner: ClusterNode, other: ClusterNode, *, at_once: bool
) -> None:
    for to in (other, owner, other, owner):
        if at_once:
            await cluster.migrate(slot, slot, to)
        else:
            await cluster.migrate_key_by_key(slot, to)


# What is checked


async def test_one_of_the_nodes_in_the_url_is_enough(valkey_cluster: ValkeyCluster) -> None:
    port = valkey_cluster.nodes[1].port
    valkey = await Valkey.connect(f"redis://127.0.0.1:{free_port()},127.0.0.1:{port}/?cluster=true")
    try:
        assert await valkey.ping() > 0
        assert len(valkey.store.homes()) == 3
    finally:
        await valkey.close()


async def test_every_primary_must_be_one_to_trust(valkey_cluster: ValkeyCluster) -> None:
    await valkey_cluster.nodes[2].ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        with pytest.raises(WrongStore, match="allkeys-lru"):
            await Valkey.connect(valkey_cluster.url)
    finally:
        await valkey_cluster.nodes[2].ask("CONFIG", "SET", "maxmemory-policy", "noeviction")


async def test_a_cluster_is_full_when_one_of_its_nodes_is(valkey_cluster: ValkeyCluster, clustered: Valkey) -> None:
    assert not await clustered.is_full()
    await valkey_cluster.nodes[2].ask("CONFIG", "SET", "maxmemory", 1)
    try:
        assert await clustered.is_full()
    finally:
        await valkey_cluster.nodes[2].ask("CONFIG", "SET", "maxmemory", 0)


async def test_the_url_says_whether_it_is_a_cluster(valkey_cluster: ValkeyCluster, valkey_server: ValkeyServer) -> None:
    with pytest.raises(WrongStore, match="names a node of a cluster"):
        await Valkey.connect(f"redis://127.0.0.1:{valkey_cluster.nodes[0].port}")
    with ValkeyServer(tcp=True, appendonly="no") as single, pytest.raises(WrongStore, match="leave cluster=true out"):
        await Valkey.connect(f"{single.url}?cluster=true")


async def test_a_cluster_that_serves_only_a_part_of_the_slots_is_waited_for() -> None:
    with (
        ValkeyServer(tcp=True, cluster_enabled="yes", cluster_port=str(free_port())) as lonely,
        pytest.raises(Unavailable, match=f"{SLOTS} of {SLOTS} slots"),
    ):
        await Valkey.connect(f"{lonely.url}?cluster=true")
