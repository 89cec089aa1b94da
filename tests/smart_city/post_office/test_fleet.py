"""The living instances: they know each other, notice who is gone, and answer when they are asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest

from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from smart_city.post_office.fleet import Figures, Fleet
from tests.support.platform import unique
from tests.support.waiting import eventually, until

Made = Callable[..., Awaitable[Fleet]]


@pytest.fixture
async def join(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Made]:
    """Makes members that have joined."""
    async with AsyncExitStack() as stack:

        async def joined(
            lease_seconds: float = 0.5, own: Tasks | None = None, store: Valkey = valkey, **figures: int
        ) -> Fleet:
            owner = tasks if own is None else own
            subscriptions = Subscriptions(valkey, owner)
            await subscriptions.start()
            stack.push_async_callback(subscriptions.close)
            name = unique("instance")
            fleet = Fleet(
                store, subscriptions, owner, member=name, lease_seconds=lease_seconds,
                figures=lambda: Figures(instance_id=name, channels={"guide": figures.get("guide", 0)}),
            )  # fmt: skip
            await fleet.start()
            return fleet

        yield joined


@pytest.fixture
async def hasty(valkey: Valkey, request: pytest.FixtureRequest) -> AsyncIterator[Valkey]:
    """A client of the same keys that waits for an answer no longer than an instance does."""
    server = request.getfixturevalue("valkey_cluster" if request.config.getoption("--cluster") else "valkey_server")
    connected = await Valkey.connect(server.url, prefix=valkey.key(""), timeout=0.5)
    yield connected
    await connected.close()


async def test_members_know_each_other_and_what_each_counts(join: Made) -> None:
    one, two = await join(guide=2), await join(guide=3)
    await until(lambda: len(one.living) == 2, "the first knows the second")
    assert one.subscribers("guide") == two.subscribers("guide") == 5
    assert one.subscribers("pillar:content") == 0


def named(member: str, about: Mapping[str, Any]) -> list[str]:
    return [about["greeting"], member]


async def test_all_living_members_answer_a_question(join: Made) -> None:
    one, two = await join(), await join()
    for fleet in (one, two):
        fleet.responders["name"] = partial(named, fleet.member)
    await until(lambda: len(one.living) == 2, "the first knows the second")
    answers = await one.ask("name", {"greeting": "hello"})
    assert sorted(answers) == sorted([["hello", one.member], ["hello", two.member]])


async def test_who_does_not_answer_is_left_out(join: Made) -> None:
    one, two = await join(), await join()
    one.responders["name"] = lambda _: one.member
    await until(lambda: len(one.living) == 2, "the first knows the second")
    assert await one.ask("name", {}) == [one.member]
    assert two.responders == {}


async def test_a_member_that_dies_is_noticed_by_exactly_one_of_the_others(join: Made) -> None:
    noticed: list[str] = []
    mortal = Tasks("mortal")
    dying = await join(own=mortal)
    for _ in range(3):
        (await join()).lapsed.append(noticed.append)
    await mortal.close()
    await until(lambda: noticed == [dying.member], "its death is noticed", 10)
    survivor = await join()
    await until(lambda: len(survivor.living) == 4, "it is no member any more")
    assert noticed == [dying.member]


async def test_who_leaves_is_not_mourned(join: Made) -> None:
    noticed: list[str] = []
    mortal = Tasks("mortal")
    one, leaving = await join(), await join(own=mortal)
    one.lapsed.append(noticed.append)
    await until(lambda: len(one.living) == 2, "they know each other")
    await mortal.close()
    await leaving.leave()
    await until(lambda: len(one.living) == 1, "it is gone")
    assert noticed == []


async def test_after_the_store_was_away_nobody_is_given_up_before_a_whole_lease(
    join: Made, valkey: Valkey, hasty: Valkey
) -> None:
    noticed: list[str] = []
    one, two = await join(lease_seconds=1, store=hasty), await join(lease_seconds=1, store=hasty)
    for fleet in (one, two):
        fleet.lapsed.append(noticed.append)
    await until(lambda: len(one.living) == len(two.living) == 2, "they know each other")
    await valkey.command("CLIENT", "PAUSE", 2500)
    await until(lambda: one.is_away and two.is_away, "the store is away")
    await until(lambda: not one.is_away and not two.is_away, "it is back", 10)
    await until(lambda: len(one.living) == len(two.living) == 2, "they know each other again")
    assert noticed == []


async def test_an_estate_that_its_claimer_leaves_is_claimed_again_until_it_is_settled(join: Made) -> None:
    noticed: list[str] = []
    mortal = Tasks("mortal")
    dying = await join(lease_seconds=0.2, own=mortal)
    survivor = await join(lease_seconds=0.2)
    survivor.lapsed.append(noticed.append)
    await mortal.close()
    await until(lambda: len(noticed) >= 2, "it is claimed, and claimed again", 10)
    await survivor.settle(dying.member)
    claims = len(noticed)
    for _ in range(3):
        await survivor.ask("nothing", {})
    assert set(noticed) == {dying.member}
    assert len(noticed) == claims


async def test_the_estate_of_one_that_lives_is_not_taken_over(join: Made, valkey: Valkey) -> None:
    noticed: list[str] = []
    one, two = await join(), await join()
    for fleet in (one, two):
        fleet.lapsed.append(noticed.append)
    await until(lambda: len(one.living) == 2, "they know each other")
    await valkey.command("ZADD", valkey.key("{instances}:estates"), 1, two.member)

    async def gone() -> bool:
        return not await valkey.command("EXISTS", valkey.key("{instances}:estates"))

    await eventually(gone, "it has no estate")
    assert noticed == []


async def test_who_was_away_for_a_lease_is_told(join: Made, valkey: Valkey, hasty: Valkey) -> None:
    returned: list[bool] = []
    fleet = await join(lease_seconds=0.5, store=hasty)
    fleet.returned.append(lambda: returned.append(True))
    await valkey.command("CLIENT", "PAUSE", 1500)
    await until(lambda: bool(returned), "it has come back", 10)


async def test_who_is_no_member_any_more_is_told_though_it_was_never_away(join: Made, valkey: Valkey) -> None:
    """The store was emptied, or the others gave up one that stood still while an answer was on its way."""
    returned: list[bool] = []
    fleet = await join(lease_seconds=20)
    fleet.returned.append(lambda: returned.append(True))
    await fleet.ask("nothing", {})
    assert returned == []
    await valkey.command("ZREM", valkey.key("{instances}:leases"), fleet.member)
    await until(lambda: bool(returned), "it has come back", 10)
