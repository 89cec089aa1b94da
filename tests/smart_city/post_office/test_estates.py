"""What a dead instance left in the directory: taken out by another, and nothing else with it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.fleet import ownership
from smart_city.post_office.fleet.directory import Directory
from smart_city.post_office.fleet.estates import Estates
from smart_city.post_office.fleet.ownership import Claim, Ownership
from smart_city.post_office.fleet.registry import Registry
from tests.support.platform import unique
from tests.support.registries import a_registry
from tests.support.somebody import Somebody


class Town:
    """Two instances, the first of which dies, and the heir of its estate."""

    def __init__(self, valkey: Valkey, tasks: Tasks) -> None:
        self.valkey, self.tasks = valkey, tasks
        self.dead = unique("member")
        self.here = a_registry(valkey, tasks, member=self.dead, most_per_user=2000)
        self.there = a_registry(valkey, tasks, most_per_user=2000)
        self.back: set[str] = set()
        heir = Ownership(valkey, member=unique("member"), window_seconds=60, unclaimed_seconds=20)
        directory = Directory(valkey, instance_id="heir", kept_seconds=60, most_per_user=20)
        self.estates = Estates(directory, heir, self.back.__contains__)
        self.user = unique("alice")

    async def connect(self, registry: Registry) -> Somebody:
        one = Somebody(self.user)
        await registry.add(one)
        return one

    async def shown(self) -> set[str]:
        return {found["connection_id"] for found in await self.there.connections_of(self.user)}


@pytest.fixture
def town(valkey: Valkey, tasks: Tasks) -> Town:
    return Town(valkey, tasks)


async def test_the_connections_of_a_dead_instance_are_taken_out_and_others_stay(town: Town) -> None:
    await town.connect(town.here)
    stays = await town.connect(town.there)
    await town.estates.clear([town.dead])
    assert await town.shown() == {stays.connection_id}
    await town.estates.clear([town.dead])
    assert await town.shown() == {stays.connection_id}


async def test_thousands_are_found_some_hundreds_at_a_time(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "LOOKED_AT", 10)
    for _ in range(300):  # more than a zset keeps in one piece
        await town.connect(town.here)
    await town.estates.clear([town.dead])
    assert await town.shown() == set()


async def test_what_somebody_else_took_over_stays(town: Town) -> None:
    one = await town.connect(town.here)
    taken = await town.there.take_over(one.connection_id, one.user_id)
    assert taken is not None
    await town.there.add(replace(one, fence=taken.fence))
    await town.estates.clear([town.dead])
    assert await town.shown() == {one.connection_id}


async def test_what_was_taken_out_can_be_resumed(town: Town) -> None:
    one = await town.connect(town.here)
    await town.estates.clear([town.dead])
    assert await town.there.take_over(one.connection_id, one.user_id) is not None


async def test_one_that_came_back_keeps_its_connections(town: Town) -> None:
    one = await town.connect(town.here)
    town.back.add(town.dead)
    await town.estates.clear([town.dead])
    assert await town.shown() == {one.connection_id}


async def test_one_that_came_back_late_writes_again_what_was_taken_out(town: Town) -> None:
    one = await town.connect(town.here)
    town.here.claim_again()
    await town.estates.clear([town.dead])
    assert await town.shown() == set()
    await town.here.renew()
    assert await town.shown() == {one.connection_id}


async def test_several_that_died_are_looked_for_together_but_for_one_that_came_back(town: Town) -> None:
    also_dead, back = unique("member"), unique("member")
    for registry in (town.here, *(a_registry(town.valkey, town.tasks, member=name) for name in (also_dead, back))):
        stays = await town.connect(registry)
    town.back.add(back)
    await town.estates.clear([town.dead, also_dead, back])
    assert await town.shown() == {stays.connection_id}


async def test_what_a_dead_instance_had_left_and_not_taken_out_any_more_is_taken_out(town: Town) -> None:
    one = await town.connect(town.here)
    owner = Ownership(town.valkey, member=town.dead, window_seconds=60, unclaimed_seconds=20)
    await owner.leave([Claim(one.connection_id, one.user_id, one.fence, 0)], may_return=True)
    await town.estates.clear([town.dead])
    assert await town.shown() == set()
