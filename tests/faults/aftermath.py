"""How the platform stands after a trial, as operators and its store see it."""

from __future__ import annotations

import asyncio
import time
from typing import cast

from city_client import Position
from tests.faults.instances import Instances
from tests.faults.invariants import Allowed, nothing_is_stuck, registry_converges
from tests.faults.load import CHANNELS, Load
from tests.faults.record import Aftermath, Logged, Record
from tests.faults.stores import Store

CONVERGE_SECONDS = 20.0
PAGE = 500
OWN = ("user:", "connection:")


async def logs(instances: Instances) -> dict[str, list[Logged]]:
    """Every channel's log from its oldest entry on, as its history shows it."""
    return {channel: await _log(instances, channel) for channel in CHANNELS}


async def _log(instances: Instances, channel: str) -> list[Logged]:
    page = await instances.call("post_office.get_channel_history", channel=channel, limit=1)
    since, found = Position(page["oldest"] - 1, ""), list[Logged]()
    while True:
        page = await instances.call(
            "post_office.get_channel_history", channel=channel, since=str(since.offset), limit=PAGE
        )
        if not page["publications"]:
            return found
        for each in page["publications"]:
            since = Position(each["offset"], each["epoch"])
            key = str(each["payload"].get("key", ""))
            found.append(Logged(position=since, message_id=each["message_id"], key=key))


async def aftermath(instances: Instances, load: Load, store: Store, waiting: list[str]) -> Aftermath:
    """Looks until everything has converged; what it looked like at the end if it has not."""
    deadline = time.monotonic() + CONVERGE_SECONDS
    while True:
        after = await _look(instances, load, store, waiting)
        record = Record(aftermath=after)
        left = [*registry_converges(record, Allowed()), *nothing_is_stuck(record, Allowed())]
        if left == [*waiting, *after.defects] or time.monotonic() > deadline:
            return after
        await asyncio.sleep(0.25)


async def _look(instances: Instances, load: Load, store: Store, waiting: list[str]) -> Aftermath:
    connected = _connected(load)
    readers = load.readers.values()
    return Aftermath(
        connected=connected,
        registered={user: await _names(store, "HKEYS", f"connections:{user}") for user in connected},
        instances=frozenset(instances.names[name] for name in instances.living),
        listening={
            name: frozenset(
                channel
                for channel in await _names(store, "SMEMBERS", f"subscriptions:{name}")
                if not channel.startswith(OWN)
            )
            for name in instances.names.values()
        },
        listened=frozenset[str]().union(*(reader.channels for reader in readers)),
        health={name: await instances.health(name) for name in instances.living},
        inboxes={channel: await _inbox(store, f"inbox:{{{channel}}}") for channel in CHANNELS},
        waiting=tuple(waiting),
        defects=tuple(dict.fromkeys(instances.defects())),
    )


def _connected(load: Load) -> dict[str, frozenset[str]]:
    """The connections that live, as their own clients know them; of an event stream nobody knows the id."""
    found: dict[str, set[str]] = {}
    for each in load.talkers:
        found.setdefault(each.user_id, set()).update({each.connection_id} - {""})
    for other in (*load.readers.values(), *load.agents.values()):
        user_id = getattr(other, "user_id", "")
        if user_id and not hasattr(other, "connection_id"):
            found.setdefault(user_id, set()).update({other.link} - {""})  # type: ignore[union-attr]
    return {user: frozenset(ids) for user, ids in found.items()}


async def _inbox(store: Store, inbox: str) -> dict[str, int]:
    """How much is left of what has to become nothing."""
    depth = cast(bytes | None, await store.command("HGET", f"{inbox}:meta", "depth"))
    assert depth is not None, f"{inbox} has no figures: are its keys named otherwise now?"
    sizes = {"ready": "LLEN", "delayed": "ZCARD", "leases": "ZCARD", "holders": "SCARD", "waiting": "ZCARD"}
    found = {name: int(cast(int, await store.command(size, f"{inbox}:{name}"))) for name, size in sizes.items()}
    return {"messages": int(depth), **found}


async def _names(store: Store, *words: str) -> frozenset[str]:
    return frozenset(name.decode() for name in cast(list[bytes], await store.command(*words)))
