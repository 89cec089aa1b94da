"""Promise 3 on whichever instance, in JSON, MessagePack and as events: all that was missed, or the reason why not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

import pytest
import pytest_asyncio
import redis

from tests.contract.packed import packed
from tests.contract.shapes import text_of
from tests.contract.streams import following, is_published
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
PUBLISH = "post_office.publish_to_agent_channel"
CHANNEL, TRIMMED = "guide", "pillar:content"
HISTORY_COUNT = 40


class Outcome(NamedTuple):
    """What became of a position: recovered with what followed, or the reason."""

    recovered: bool
    reason: str
    numbers: list[int]


Recover = Callable[[Instance, str, str], Awaitable[Outcome]]


async def by_a_socket(client: WireClient, channel: str, since: str) -> Outcome:
    offset, _, epoch = since.partition(".")
    outcome = (await client.subscribe(channel, offset=int(offset), epoch=epoch))[channel]
    frames = await client.messages(outcome.get("missed") or 0, channel)
    await client.nothing_but_pong()
    return Outcome(outcome["recovered"], outcome.get("reason", ""), [frame["payload"]["n"] for frame in frames])


async def in_json(city: Instance, channel: str, since: str) -> Outcome:
    async with city.connected(OPERATOR_TOKEN) as client:
        return await by_a_socket(client, channel, since)


async def in_messagepack(city: Instance, channel: str, since: str) -> Outcome:
    async with packed(city, OPERATOR_TOKEN) as client:
        return await by_a_socket(client, channel, since)


async def as_events(city: Instance, channel: str, since: str) -> Outcome:
    async with following(city, channel, OPERATOR_TOKEN, since) as stream:
        ack = stream.ack
        events = [is_published(event, channel) for event in await stream.many(ack.get("missed") or 0)]
        return Outcome(ack["recovered"], ack.get("reason", ""), [event["payload"]["n"] for event in events])


WAYS: dict[str, Recover] = {"JSON": in_json, "MessagePack": in_messagepack, "events": as_events}


class History(NamedTuple):
    """Two instances on a store that once lost its end, and positions in what it has been."""

    cities: tuple[Instance, Instance]
    positions: dict[str, tuple[str, str, Outcome]]
    """Of each name its channel, the position, and what must become of it."""


async def say(city: Instance, channel: str, *numbers: int) -> list[Frame]:
    return [await city.done(PUBLISH, {"channel": channel, "message": {"n": n}}) for n in numbers]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def history() -> AsyncIterator[History]:
    """0 to 9 were saved, 10 to 12 written and lost in its first life, 20 to 24 written in its second."""
    with ValkeyServer(appendonly="no", save="") as store:
        async with AsyncExitStack() as stack:
            platform = Platform(store, stack)
            here, there = [await platform.start(history_count=HISTORY_COUNT) for _ in range(2)]
            kept = await say(here, CHANNEL, *range(10))
            with redis.Redis(unix_socket_path=str(store.socket)) as admin:
                admin.save()
            lost = await say(there, CHANNEL, 10, 11, 12)
            store.restart()

            async def is_back() -> Frame:
                body = {"channel": CHANNEL, "message": {"n": 20}, "key": "again"}
                response = await here.call(PUBLISH, body)
                answer: Frame = response.json()
                return answer if response.status_code == 200 else {}

            first = await eventually(is_back, "the store is back", 20)
            late = [first, *await say(there, CHANNEL, 21, 22, 23, 24)]
            old = await say(here, TRIMMED, *range(HISTORY_COUNT * 5))
            yield History((here, there), positions(kept, lost, late, old))


def positions(
    kept: list[Frame], lost: list[Frame], late: list[Frame], old: list[Frame]
) -> dict[str, tuple[str, str, Outcome]]:
    newest = late[-1]
    return {
        "newest": (CHANNEL, text_of(newest), Outcome(True, "", [])),
        "this epoch": (CHANNEL, text_of(late[1]), Outcome(True, "", [22, 23, 24])),
        "an earlier epoch": (CHANNEL, text_of(kept[6]), Outcome(True, "", [7, 8, 9, 20, 21, 22, 23, 24])),
        "the end of an earlier epoch": (CHANNEL, text_of(kept[-1]), Outcome(True, "", [20, 21, 22, 23, 24])),
        "what was lost": (CHANNEL, text_of(lost[1]), Outcome(False, "diverged", [])),
        "unknown": (CHANNEL, f"{newest['offset']}.nobody", Outcome(False, "unknown_epoch", [])),
        "future": (CHANNEL, f"{newest['offset'] + 5}.{newest['epoch']}", Outcome(False, "future", [])),
        "trimmed": (TRIMMED, text_of(old[3]), Outcome(False, "trimmed", [])),
    }  # fmt: skip


NAMES = (
    "newest",
    "this epoch",
    "an earlier epoch",
    "the end of an earlier epoch",
    "what was lost",
    "unknown",
    "future",
    "trimmed",
)


@pytest.mark.parametrize(("way", "name"), list(itertools.product(WAYS, NAMES)))
async def test_a_position_has_one_outcome_on_every_instance(history: History, way: str, name: str) -> None:
    channel, since, expected = history.positions[name]
    found = await asyncio.gather(*(WAYS[way](city, channel, since) for city in history.cities))
    assert found == [expected] * len(history.cities)
