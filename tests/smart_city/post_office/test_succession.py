"""What a dead instance held: its clients' unheard answers move to their users, its deliveries to other agents."""

from __future__ import annotations

import json

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.envelopes import new_message_id, timestamp
from smart_city.post_office.fleet.registry import Leftovers, Registry
from smart_city.post_office.fleet.succession import Succession
from smart_city.post_office.log import ChannelLog, Entry, LogLimits
from smart_city.vocabulary import Position
from tests.support.platform import unique
from tests.support.somebody import Somebody
from tests.support.waiting import eventually, until

LONG_AGO = "2020-01-01T00:00:00.000Z"


class Desk:
    """Hears which member's deliveries are to be reclaimed."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def lapsed(self, instance_id: str) -> None:
        self.heard.append(instance_id)


def answer(log: str, at: str, type_: str = "chat_response") -> Entry:
    message_id = new_message_id()
    frame = {"type": type_, "message_id": message_id, "log": log, "timestamp": at, "payload": {"at": at}}
    return Entry(json.dumps(frame).encode(), message_id)


async def test_answers_that_a_client_may_not_have_heard_move_to_its_user_once(valkey: Valkey, tasks: Tasks) -> None:
    limits = LogLimits.within(count=100, size=1 << 20, age=3600, resume_window=60)
    log = ChannelLog(valkey, tasks, limits, lambda _: None)
    member, one, desk = unique("member"), Somebody(unique("alice")), Desk()
    registry = Registry(
        valkey, tasks, instance_id="gone", member=member, lease_seconds=5, owner_seconds=60, most_per_user=20
    )
    await registry.add(one)
    source, target = f"connection:{one.connection_id}", f"user:{one.user_id}"
    fresh = answer(source, timestamp())
    for entry in (answer(source, LONG_AGO), fresh, answer(source, timestamp(), "message")):
        await log.append_now(source, entry, owner=one.connection_id)
    settled: list[str] = []

    async def settle(dead: str) -> None:
        settled.append(dead)

    for _ in range(2):
        Succession(Leftovers(valkey), log, desk, tasks, settled=settle, unheard_seconds=30).lapsed(member)

    async def moved() -> list[dict[str, object]]:
        page = await log.read(target, Position(0))
        return [json.loads(entry) for entry in page.entries]

    found = await eventually(moved, "the answer is in the user's log")
    assert [(frame["message_id"], frame["log"]) for frame in found] == [(fresh.message_id, target)]
    await until(lambda: settled == [member, member], "the estate is settled")
    assert await Leftovers(valkey).of(member) == {}
    assert desk.heard == [member, member]
