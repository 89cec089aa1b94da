"""Connections as the store shows them: written whole, renewed with the instance, gone with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest

from foundations.errors import NotFound, TooManyConnections, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.fleet.registry import Leftovers, Registry, owner_key, user_key
from tests.support.platform import unique
from tests.support.somebody import Somebody
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

Made = Callable[..., Registry]


@pytest.fixture
def make(valkey: Valkey, tasks: Tasks) -> Made:
    def registry(lease_seconds: float = 5, most_per_user: int = 20) -> Registry:
        return Registry(
            valkey, tasks, instance_id=unique("instance"), member=unique("member"), lease_seconds=lease_seconds,
            owner_seconds=60, most_per_user=most_per_user,
        )  # fmt: skip

    return registry


async def stored(valkey: Valkey, user_id: str) -> dict[str, dict[str, object]]:
    found = await valkey.command("HGETALL", user_key(user_id))
    return {name.decode(): json.loads(data) for name, data in found.items()}


async def test_connections_of_one_turn_are_written_together_and_found_again(make: Made, valkey: Valkey) -> None:
    registry, alice = make(), unique("alice")
    some = [Somebody(alice, channels=("guide",)) for _ in range(5)]
    for one in some:
        await registry.add(one)
    assert set(await stored(valkey, alice)) == {one.connection_id for one in some}
    found = await registry.find(some[0].connection_id)
    assert (found["user_id"], found["channels"]) == (alice, ["guide"])
    assert len(await registry.connections_of(alice)) == 5
    assert await registry.is_connected(alice)


async def test_one_more_than_a_user_may_have_is_not_written(make: Made, valkey: Valkey) -> None:
    registry, alice = make(most_per_user=2), unique("alice")
    for _ in range(2):
        await registry.add(Somebody(alice))
    with pytest.raises(TooManyConnections):
        await registry.add(Somebody(alice))
    assert len(await stored(valkey, alice)) == 2


async def test_a_closed_connection_is_gone_with_its_claim(make: Made, valkey: Valkey) -> None:
    registry, one = make(), Somebody(unique("alice"))
    await registry.add(one)
    assert await valkey.command("EXISTS", valkey.key(owner_key(one.connection_id)))
    registry.remove(one)

    async def gone() -> bool:
        return not await valkey.command("EXISTS", user_key(one.user_id))

    await eventually(gone, "the connection is gone", 1)
    with pytest.raises(NotFound):
        await registry.find(one.connection_id)
    assert not await registry.is_connected(one.user_id)


async def test_without_renewal_a_connection_goes_with_the_lease(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.2), Somebody(unique("alice"))
    await registry.add(one)

    async def gone() -> bool:
        return not await stored(valkey, one.user_id)

    await eventually(gone, "the lease ends")


async def test_what_the_store_lost_is_written_again_with_the_next_renewal(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.5), Somebody(unique("alice"))
    registry.start()
    await registry.add(one)
    await valkey.command("DEL", user_key(one.user_id))

    async def back() -> bool:
        return one.connection_id in await stored(valkey, one.user_id)

    await eventually(back, "it stands again")


async def test_a_heartbeat_is_written_with_the_next_renewal(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.5), Somebody(unique("alice"))
    registry.start()
    await registry.add(one)
    one.last_heartbeat = "2026-11-20T09:00:00.000Z"
    registry.heard(one)

    async def later() -> bool:
        return (await stored(valkey, one.user_id))[one.connection_id]["last_heartbeat"] == one.last_heartbeat

    await eventually(later, "the heartbeat is written")


async def test_channels_are_listed_while_somebody_listens(make: Made, valkey: Valkey) -> None:
    registry = make()
    registry.count_in(["guide", "pillar:content"])
    registry.count_in(["guide"])
    await registry.listed(["guide", "pillar:content"])
    assert registry.subscribers == {"guide": 2, "pillar:content": 1}
    registry.count_out(["guide", "pillar:content"])

    async def left() -> bool:
        return set(await valkey.command("SMEMBERS", registry.subscriptions_key)) == {b"guide"}

    await eventually(left, "the other channel is not listed any more")


async def test_what_a_dead_instance_left_behind_stays_until_it_is_settled(
    make: Made, valkey: Valkey, tasks: Tasks
) -> None:
    member = unique("member")
    registry = Registry(
        valkey, tasks, instance_id="gone", member=member, lease_seconds=5, owner_seconds=60, most_per_user=20
    )
    one = Somebody(unique("alice"))
    await registry.add(one)
    leftovers = Leftovers(valkey)
    assert await leftovers.of(member) == {one.connection_id: one.user_id}
    await leftovers.end_claim(one.connection_id)
    assert await leftovers.of(member) == {one.connection_id: one.user_id}
    await leftovers.settle(member, one.connection_id)
    assert await leftovers.of(member) == {}
    with pytest.raises(NotFound):
        await registry.find(one.connection_id)


async def test_a_connection_that_closes_while_it_is_written_leaves_nothing(make: Made, valkey: Valkey) -> None:
    registry, alice = make(most_per_user=1000), unique("alice")
    some = [Somebody(alice) for _ in range(200)]
    for one in some:
        await registry.add(one)
    updates = [asyncio.create_task(registry.update(one)) for one in some]
    for number, one in enumerate(some):
        if number % 3 == 0:
            await asyncio.sleep(0)
        registry.remove(one)
    await asyncio.gather(*updates)

    async def gone() -> bool:
        return not await valkey.command("EXISTS", user_key(alice))

    await eventually(gone, "the connections are gone")
    owners = [valkey.key(owner_key(one.connection_id)) for one in some]
    assert not any(await asyncio.gather(*(valkey.command("EXISTS", owner) for owner in owners)))


async def test_what_closes_while_the_store_is_away_is_taken_out_on_its_return(
    valkey_server: ValkeyServer, tasks: Tasks
) -> None:
    valkey = await Valkey.connect(valkey_server.url, prefix=unique("test"), timeout=0.2)
    registry = Registry(
        valkey, tasks, instance_id="here", member=unique("member"), lease_seconds=0.5, owner_seconds=60,
        most_per_user=5,
    )  # fmt: skip
    registry.start()
    one = Somebody(unique("alice"))
    await registry.add(one)
    valkey_server.kill()
    try:
        registry.remove(one)
        with pytest.raises(Unavailable):
            await valkey.command("PING")
    finally:
        valkey_server.start()

    async def gone() -> bool:
        try:
            return not await valkey.command("EXISTS", valkey.key(owner_key(one.connection_id)))
        except Unavailable:
            return False

    await eventually(gone, "the claim is gone", 10)
    await tasks.close()
    await valkey.close()


async def test_renewing_goes_on_when_the_last_connection_has_gone(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.3), Somebody(unique("alice"))
    registry.start()
    await registry.add(one)
    registry.claim_again()
    registry.remove(one)
    other = Somebody(unique("bob"))
    await registry.add(other)
    registry.claim_again()
    await valkey.command("DEL", user_key(other.user_id))

    async def back() -> bool:
        return other.connection_id in await stored(valkey, other.user_id)

    await eventually(back, "it is renewed")
