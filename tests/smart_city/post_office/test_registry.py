"""Connections as the store shows them: written whole, renewed with the instance, gone with it."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest

from foundations.errors import NotFound, Overtaken, TooManyConnections, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.fleet.names import owner_key, user_key
from smart_city.post_office.fleet.registry import Registry
from tests.support.platform import unique
from tests.support.registries import a_registry
from tests.support.somebody import Somebody
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, eventually, until

Made = Callable[..., Registry]


@pytest.fixture
def make(valkey: Valkey, tasks: Tasks) -> Made:
    return partial(made, valkey, tasks)


def made(valkey: Valkey, tasks: Tasks, *, lease_seconds: float = 5, most_per_user: int = 20) -> Registry:
    """The registry of one more instance."""
    return a_registry(
        valkey, tasks, lease_seconds=lease_seconds, cycle_seconds=2 * lease_seconds,
        most_per_user=most_per_user,
    )  # fmt: skip


async def stored(valkey: Valkey, user_id: str) -> dict[str, dict[str, object]]:
    found = await valkey.command("HGETALL", user_key(user_id))
    return {name.decode(): json.loads(data) for name, data in found.items()}


async def owner_of(valkey: Valkey, one: Somebody) -> str:
    found = await valkey.command("HGET", valkey.key(owner_key(one.connection_id)), "user_id")
    return found.decode() if found else ""


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
    assert await owner_of(valkey, one) == one.user_id
    registry.remove(one)

    async def gone() -> bool:
        return not await valkey.command("EXISTS", user_key(one.user_id))

    await eventually(gone, "the connection is gone")
    with pytest.raises(NotFound):
        await registry.find(one.connection_id)
    assert not await registry.is_connected(one.user_id)


async def test_a_connection_ends_with_the_lease_of_its_instance(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.2), Somebody(unique("alice"))
    await registry.add(one)

    async def gone() -> bool:
        return not await stored(valkey, one.user_id)

    await eventually(gone, "it has ended")


async def test_what_the_store_lost_is_written_again_with_the_next_renewal(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.5), Somebody(unique("alice"))
    registry.start()
    await registry.add(one)
    await valkey.command("DEL", user_key(one.user_id))

    async def back() -> bool:
        return one.connection_id in await stored(valkey, one.user_id)

    await eventually(back, "it stands again")


async def test_who_has_no_turn_stands_for_another_lease_or_is_written_again(make: Made, valkey: Valkey) -> None:
    registry, some = make(lease_seconds=30), [Somebody(unique("alice")) for _ in range(3)]
    for one in some:
        await registry.add(one)
        await valkey.command("HPEXPIRE", user_key(one.user_id), 9000, "FIELDS", 1, one.connection_id)
    lost, *_ = some
    await valkey.command("DEL", user_key(lost.user_id))
    await registry.renew()
    for one in some:
        (left,) = await valkey.command("HPTTL", user_key(one.user_id), "FIELDS", 1, one.connection_id)
        assert left > 9000


async def test_a_heartbeat_is_written_at_the_turn_of_its_connection(make: Made, valkey: Valkey) -> None:
    registry, one = make(lease_seconds=0.5), Somebody(unique("alice"))
    registry.start()
    await registry.add(one)
    one.last_heartbeat = "2026-11-20T09:00:00.000Z"

    async def later() -> bool:
        found = (await stored(valkey, one.user_id)).get(one.connection_id, {})
        return found.get("last_heartbeat") == one.last_heartbeat

    await eventually(later, "the heartbeat is written")


def renewals_of(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0, fails: bool = False
) -> list[float]:
    """When each renewal of a registry begins, when all take so long and come to this end."""
    began: list[float] = []

    async def renew() -> None:
        began.append(asyncio.get_running_loop().time())
        await asyncio.sleep(seconds)
        if fails:
            raise Unavailable("the store is away")

    monkeypatch.setattr(registry, "renew", renew)
    registry.start()
    return began


def gaps(moments: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(moments)]


async def test_renewals_that_take_long_begin_no_later(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    began = renewals_of(make(lease_seconds=0.5), monkeypatch, seconds=0.25)
    await until(lambda: min(gaps(began), default=1) < 0.5, "one begins in time")  # 0.55 if what one takes came on top


async def test_a_store_that_is_away_is_asked_soon_again_and_then_ever_later(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    began = renewals_of(make(lease_seconds=0.5), monkeypatch, fails=True)
    await until(lambda: len(began) == 5, "some renewals")
    between = gaps(began)
    assert between[0] < between[-1]
    assert all(pause >= at_least for pause, at_least in zip(between, (0.04, 0.09, 0.19, 0.29), strict=True))


async def test_channels_are_renewed_beside_connections_that_the_store_does_not_answer_for(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One time-out after the other took longer than a lease."""
    registry, channels = make(), asyncio.Event()
    await registry.add(Somebody(unique("alice")))
    registry.claim_again()

    async def renew() -> None:
        channels.set()

    async def hang(_: object) -> list[int]:
        async with asyncio.timeout(PATIENCE):
            await channels.wait()
        raise Unavailable("the store did not answer")

    monkeypatch.setattr(registry.subscribers, "renew", renew)
    monkeypatch.setattr(registry._ownership, "own", hang)
    with pytest.raises(Unavailable):
        await registry.renew()


async def test_what_a_renewal_could_not_write_is_written_by_the_next(
    make: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, one = make(), Somebody(unique("alice"))
    await registry.add(one)
    one.last_heartbeat = "2026-11-20T09:00:00.000Z"
    registry.write_later(one)

    async def refuse(*_: object) -> list[int]:
        raise Unavailable("the store did not answer")

    with monkeypatch.context() as away:
        away.setattr(registry._directory, "write", refuse)
        with pytest.raises(Unavailable):
            await registry.renew()
    await registry.renew()
    assert (await registry.find(one.connection_id))["last_heartbeat"] == one.last_heartbeat


async def test_nothing_is_kept_of_who_is_to_be_written_when_it_has_left(make: Made) -> None:
    registry, one = make(), Somebody(unique("alice"))
    await registry.add(one)
    registry.remove(one)
    registry.write_later(one)
    assert not registry._stale


async def test_a_resumed_connection_stands_once_at_its_new_instance(make: Made, valkey: Valkey) -> None:
    here, there, one = make(most_per_user=1), make(most_per_user=1), Somebody(unique("alice"))
    overtaken: list[object] = []
    here.overtaken.append(overtaken.append)
    await here.add(one)
    taken = await there.take_over(one.connection_id, one.user_id)
    assert taken is not None
    again = replace(one, fence=taken.fence)
    await there.add(again)
    found = await there.find(one.connection_id)
    here.remove(one)
    here.write_later(one)
    await here.update(one)
    await asyncio.sleep(0)
    assert (taken.fence, await there.find(one.connection_id)) == (2, found)
    assert (await owner_of(valkey, one), overtaken) == (one.user_id, [])


async def test_one_that_was_taken_over_and_not_admitted_is_gone_with_what_its_owner_before_had_written(
    make: Made,
) -> None:
    """That one may be dead, and whoever takes out what it left finds no connection of its."""
    here, there, one = make(), make(), Somebody(unique("alice"))
    await here.add(one)
    taken = await there.take_over(one.connection_id, one.user_id)
    assert taken is not None
    there.remove(replace(one, fence=taken.fence), may_return=True)

    async def gone() -> bool:
        return not await there.is_connected(one.user_id)

    await eventually(gone, "it is gone", 5)


async def test_an_instance_that_was_not_told_finds_with_its_renewal_that_it_was_overtaken(make: Made) -> None:
    here, there, one = make(lease_seconds=0.3), make(lease_seconds=30), Somebody(unique("alice"))
    overtaken: list[object] = []
    here.overtaken.append(overtaken.append)
    here.start()
    await here.add(one)
    taken = await there.take_over(one.connection_id, one.user_id)
    assert taken is not None
    again = replace(one, fence=taken.fence)
    await there.add(again)
    await until(lambda: overtaken == [one], "the old owner knows")
    there.remove(again, may_return=True)

    async def gone() -> bool:
        return not await there.is_connected(one.user_id)

    await eventually(gone, "it is gone where it was resumed")
    here.claim_again()
    await here.update(one)
    assert not await here.is_connected(one.user_id)


async def test_an_owner_whose_successor_has_left_again_does_not_come_back(make: Made) -> None:
    here, there, one = make(lease_seconds=30), make(lease_seconds=30), Somebody(unique("alice"))
    overtaken: list[object] = []
    here.overtaken.append(overtaken.append)
    await here.add(one)
    for may_return in (True, False):
        taken = await there.take_over(one.connection_id, one.user_id)
        assert taken is not None
        again = replace(one, fence=taken.fence)
        await there.add(again)
        there.remove(again, may_return=may_return)

        async def gone() -> bool:
            return not await there.is_connected(one.user_id)

        await eventually(gone, "it has left")
    await here.update(one)
    await until(lambda: overtaken == [one], "the old owner knows")


async def test_of_two_that_resume_at_once_the_later_owns_it(make: Made) -> None:
    here, there, one = make(), make(), Somebody(unique("alice"))
    await here.add(one)
    first, second = await asyncio.gather(*(there.take_over(one.connection_id, one.user_id) for _ in range(2)))
    assert first is not None
    assert second is not None
    with pytest.raises(Overtaken):
        await there.add(replace(one, fence=first.fence))
    await there.add(replace(one, fence=second.fence))


async def test_nobody_else_and_nothing_that_has_ended_is_resumed(make: Made, valkey: Valkey) -> None:
    here, there, one = make(), make(), Somebody(unique("alice"))
    await here.add(one)
    assert await there.take_over(one.connection_id, unique("bob")) is None
    assert await there.take_over("c" + "0" * 20, one.user_id) is None
    here.remove(one)

    async def ended() -> bool:
        return not await owner_of(valkey, one)

    await eventually(ended, "it has ended")
    assert await there.take_over(one.connection_id, one.user_id) is None


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
    assert not any([await owner_of(valkey, one) for one in some])


async def test_what_closes_while_the_store_is_away_is_taken_out_on_its_return(
    valkey_server: ValkeyServer, tasks: Tasks
) -> None:
    valkey = await Valkey.connect(valkey_server.url, prefix=unique("test"), timeout=0.2)
    registry = made(valkey, tasks, lease_seconds=0.5)
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
            return not await owner_of(valkey, one)
        except Unavailable:
            return False

    await eventually(gone, "the claim is gone")
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


async def test_an_overtaken_socket_claims_nothing_though_its_new_instance_died(make: Made, valkey: Valkey) -> None:
    here, there, one = make(), make(), Somebody(unique("alice"))
    overtaken: list[object] = []
    here.overtaken.append(overtaken.append)
    await here.add(one)
    taken = await there.take_over(one.connection_id, one.user_id)
    assert taken is not None
    await there.add(replace(one, fence=taken.fence))
    await valkey.command("HDEL", user_key(one.user_id), one.connection_id)  # with the lease of the new instance
    here.claim_again()
    await here.renew()
    record = await valkey.command("HGET", valkey.key(owner_key(one.connection_id)), "fence")
    assert (overtaken, record) == ([one], b"2")
    assert await here.connections_of(one.user_id) == []


async def test_an_end_that_leaves_connections_behind_says_so(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """The instance then leaves them to others, who look for them when its lease has ended."""
    registry, one = make(), Somebody(unique("alice"))
    await registry.add(one)

    async def refuse(_: object) -> int:
        raise Unavailable("the store did not answer")

    monkeypatch.setattr(registry._directory, "remove", refuse)
    with pytest.raises(Unavailable):
        await registry.release()
    assert await registry.is_connected(one.user_id)
