"""Who listens to what at an instance: counted, and written where operators see it, under a name that is held."""

from __future__ import annotations

import asyncio

from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.fleet.subscribers import Subscribers
from tests.support.platform import unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually


def made(valkey: Valkey, tasks: Tasks, name: str, *, has_name: bool = True) -> Subscribers:
    return Subscribers(valkey, tasks, instance_id=name, lease_seconds=5, holds_name=lambda: has_name)


async def test_channels_are_listed_while_somebody_listens(valkey: Valkey, tasks: Tasks) -> None:
    subscribers = made(valkey, tasks, unique("instance"))
    subscribers.count_in(["guide", "pillar:content"])
    subscribers.count_in(["guide"])
    await subscribers.listed(["guide", "pillar:content"])
    assert subscribers.counts == {"guide": 2, "pillar:content": 1}
    subscribers.count_out(["guide", "pillar:content"])

    async def left() -> bool:
        return set(await valkey.command("SMEMBERS", subscribers.key)) == {b"guide"}

    await eventually(left, "the other channel is not listed any more")


async def test_what_many_begin_to_hear_in_one_turn_is_listed_together(tasks: Tasks) -> None:
    with ValkeyServer(appendfsync="no") as server:
        valkey = await Valkey.connect(server.url)
        subscribers = made(valkey, tasks, "one")
        channels = [f"pillar:p{number}" for number in range(100)]
        subscribers.count_in(channels)
        await asyncio.gather(*(subscribers.listed([channel]) for channel in channels))
        assert {name.decode() for name in await valkey.command("SMEMBERS", subscribers.key)} == set(channels)
        assert (await valkey.command("INFO", "commandstats"))["cmdstat_sadd"]["calls"] == 1
        await valkey.close()


async def test_what_was_left_before_it_was_listed_is_not(valkey: Valkey, tasks: Tasks) -> None:
    subscribers = made(valkey, tasks, unique("instance"))
    subscribers.count_in(["guide", "pillar:content"])
    under_way = asyncio.create_task(subscribers.listed(["guide"]))
    for _ in range(3):
        await asyncio.sleep(0)
    behind = asyncio.create_task(subscribers.listed(["pillar:content"]))
    await asyncio.sleep(0)
    subscribers.count_out(["pillar:content"])
    await asyncio.gather(under_way, behind)
    assert set(await valkey.command("SMEMBERS", subscribers.key)) == {b"guide"}


async def test_who_lost_its_name_leaves_the_key_to_its_new_holder(valkey: Valkey, tasks: Tasks) -> None:
    name = unique("instance")
    holder, former = made(valkey, tasks, name), made(valkey, tasks, name, has_name=False)
    holder.count_in(["guide"])
    await holder.renew()
    former.count_in(["guide", "pillar:content"])
    await former.renew()
    former.count_out(["guide"])
    await asyncio.sleep(0)
    await former.release()
    assert set(await valkey.command("SMEMBERS", holder.key)) == {b"guide"}
    await holder.release()
    assert not await valkey.command("SMEMBERS", holder.key)
