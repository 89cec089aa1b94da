"""A cluster's slots move and its primaries change, also to a replica that lags: nothing is lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from foundations.valkey.slots import slot_of
from tests.faults.invariants import Allowed
from tests.faults.load import GUIDE
from tests.faults.trial import Trials
from tests.support.valkey_cluster import ValkeyCluster

LOSING = Allowed(loses=True)
SLOT = slot_of(f"{{{GUIDE}}}")
"""Where the log and the inbox of the channel lie on which most happens."""

pytestmark = pytest.mark.timeout(180)


@pytest.fixture
def cluster() -> Iterator[ValkeyCluster]:
    """Three primaries, each with a replica."""
    with ValkeyCluster(replicas=1, appendonly="yes") as nodes:
        yield nodes


async def test_a_slot_that_moves_at_once(trials: Trials, cluster: ValkeyCluster) -> None:
    async with trials("slot migration, atomic, there and back", cluster) as city:
        home = await cluster.primary_of(SLOT)
        away = await cluster.primary_of((SLOT + 6000) % 16384)
        for to in (away, home):
            await cluster.migrate(SLOT, SLOT, to)
            await city.flows()


async def test_a_slot_that_moves_key_by_key(trials: Trials, cluster: ValkeyCluster) -> None:
    async with trials("slot migration, key by key", cluster) as city:
        away = await cluster.primary_of((SLOT + 6000) % 16384)
        await cluster.migrate_key_by_key(SLOT, away)
        await city.flows()


async def test_a_primary_that_hands_over(trials: Trials, cluster: ValkeyCluster) -> None:
    async with trials("failover in good order", cluster) as city:
        await cluster.hand_over(await cluster.primary_of(SLOT))
        await city.flows()


async def test_a_primary_that_is_killed(trials: Trials, cluster: ValkeyCluster) -> None:
    """Replication is not waited for: what was under way to the replica is lost with the primary."""
    async with trials("failover after SIGKILL of a primary", cluster, allowed=LOSING) as city:
        await cluster.kill_and_fail_over(await cluster.primary_of(SLOT))
        await city.flows()


async def test_a_replica_that_lags_and_is_promoted(trials: Trials, cluster: ValkeyCluster) -> None:
    async with trials("failover with a lagging replica", cluster, allowed=LOSING) as city:
        primary = await cluster.primary_of(SLOT)
        replica = await cluster.cut_off_replica(primary)
        await city.flows()
        await asyncio.sleep(1)  # so much is lost
        await cluster.promote_lagging(primary, replica)
        await city.flows()
