"""Resume windows: who never comes back has ended, and what was not heard is in the user's log, once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.fleet import windows
from smart_city.post_office.fleet.moving import Moving
from smart_city.post_office.fleet.names import WINDOWS
from smart_city.post_office.fleet.ownership import Claim, Ownership
from smart_city.post_office.fleet.windows import Windows
from smart_city.post_office.log import ChannelLog, Entry, Gone
from smart_city.vocabulary import Position
from tests.support.logs import ROOMY
from tests.support.platform import unique
from tests.support.valkey import keys_in
from tests.support.waiting import eventually, until

WINDOW = 0.4


@dataclass
class Fleet:
    """Two instances and the logs."""

    valkey: Valkey
    log: ChannelLog
    here: Ownership
    there: Ownership
    tasks: Tasks

    def windows(self, ownership: Ownership, quiet_seconds: float = 0.1) -> Windows:
        return Windows(ownership, Moving(self.log), self.tasks, claim_seconds=0.3, quiet_seconds=quiet_seconds)

    async def connected(self, *, heard: int = 0) -> Claim:
        """A connection of the first instance."""
        claim = Claim(unique("c"), unique("alice"), 1, heard)
        await asyncio.gather(self.here.own([claim]), self.here.watch([claim.connection_id]))
        return claim

    async def answered(self, claim: Claim, what: str, **fields: object) -> str:
        """Logs an answer for the connection; its message id."""
        log = f"connection:{claim.connection_id}"
        message_id = new_message_id()
        frame = {"type": "chat_response", "message_id": message_id, "log": log, "payload": {"message": what}, **fields}
        entry = Entry(json.dumps(frame).encode(), message_id)
        await self.log.append_now(log, entry, owner=claim.connection_id)
        return message_id

    async def owed(self, claim: Claim) -> list[tuple[str, str]]:
        """Message ids and logs of what the user's log has got."""
        page = await self.log.read(f"user:{claim.user_id}", Position(0))
        frames = [json.loads(entry) for entry in page.entries]
        return [(frame["message_id"], frame["log"]) for frame in frames]

    async def watched(self) -> int:
        return int(await self.valkey.command("ZCARD", self.valkey.key(WINDOWS)))


@pytest.fixture
def fleet(valkey: Valkey, tasks: Tasks) -> Fleet:
    here, there = (
        Ownership(valkey, member=unique("member"), window_seconds=WINDOW, unclaimed_seconds=0.4) for _ in range(2)
    )
    return Fleet(valkey, ChannelLog(valkey, tasks, ROOMY, lambda _: None), here, there, tasks)


async def test_what_was_not_heard_is_in_the_users_log_once_however_many_look(fleet: Fleet) -> None:
    claim = await fleet.connected()
    heard = await fleet.answered(claim, "heard")
    unheard = await fleet.answered(claim, "unheard")
    await fleet.here.leave([claim._replace(heard=1)], may_return=True)
    while_away = await fleet.answered(claim, "while away")
    for ownership in (fleet.here, fleet.there, fleet.there):
        fleet.windows(ownership).start()

    async def moved() -> bool:
        return not await fleet.watched()

    await eventually(moved, "nobody has to look any more")
    user = f"user:{claim.user_id}"
    assert await fleet.owed(claim) == [(unheard, user), (while_away, user)]
    assert heard not in str(await fleet.owed(claim))
    with pytest.raises(Gone):
        await fleet.answered(claim, "too late")
    assert await fleet.there.take_over([(claim.connection_id, claim.user_id)]) == [None]


async def test_before_the_window_ends_nothing_is_moved_and_a_resumed_connection_keeps_its_log(fleet: Fleet) -> None:
    claim = await fleet.connected()
    await fleet.answered(claim, "unheard")
    await fleet.here.leave([claim], may_return=True)
    [taken] = await fleet.there.take_over([(claim.connection_id, claim.user_id)])
    assert taken is not None
    assert taken == (2, 0, "")
    windows = fleet.windows(fleet.here)
    again = claim._replace(fence=taken.fence)

    async def looked() -> bool:
        await fleet.there.own([again])
        return bool(await windows.look())

    await eventually(looked, "its window is looked at")
    await fleet.answered(claim, "on")
    assert await fleet.owed(claim) == []
    assert await fleet.watched() == 1


async def test_the_connections_of_a_dead_instance_end_by_themselves(fleet: Fleet) -> None:
    claim = await fleet.connected()
    answer = await fleet.answered(claim, "unheard")
    fleet.windows(fleet.there).start()

    async def moved() -> bool:
        return bool(await fleet.owed(claim))

    await eventually(moved, "the answer is in the user's log")
    assert await fleet.owed(claim) == [(answer, f"user:{claim.user_id}")]


async def test_what_an_instance_began_to_move_when_it_died_is_moved_by_another(fleet: Fleet) -> None:
    claim = await fleet.connected()
    answer = await fleet.answered(claim, "unheard")
    await fleet.here.leave([claim], may_return=False)
    assert await fleet.here.due(10, 0.1) == [claim.connection_id]
    [owed] = await fleet.here.lapse([claim.connection_id])
    assert (owed.user_id, owed.heard) == (claim.user_id, 0)
    fleet.windows(fleet.there).start()

    async def moved() -> bool:
        return bool(await fleet.owed(claim))

    await eventually(moved, "the answer is in the user's log")
    assert await fleet.owed(claim) == [(answer, f"user:{claim.user_id}")]


async def test_one_that_ended_with_everything_heard_leaves_nothing_to_look_after(fleet: Fleet) -> None:
    claim = await fleet.connected()
    await fleet.answered(claim, "heard")
    await fleet.here.leave([claim._replace(heard=1)], may_return=False)
    assert await fleet.watched() == 0
    with pytest.raises(Gone):
        await fleet.answered(claim, "too late")


async def test_a_message_to_the_connection_is_readdressed_too(fleet: Fleet) -> None:
    claim = await fleet.connected()
    channel = f"connection:{claim.connection_id}"
    frame = {"type": "message", "message_id": "m1", "channel": channel, "payload": {}}
    await fleet.log.append_now(channel, Entry(json.dumps(frame).encode(), "m1"), owner=claim.connection_id)
    await fleet.here.leave([claim], may_return=False)
    await fleet.windows(fleet.there).look()
    page = await fleet.log.read(f"user:{claim.user_id}", Position(0))
    assert [json.loads(entry) for entry in page.entries] == [frame | {"channel": f"user:{claim.user_id}"}]


async def test_after_the_store_was_away_the_living_can_say_first_that_they_live(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it was, and whenever between two tries it came back."""
    clock, is_away = asyncio.get_running_loop().time, True
    asked: list[float] = []
    due = fleet.there.due

    async def answered_or_not(most: int, seconds: float) -> list[str]:
        if is_away:
            raise Unavailable("the store is away")
        if most:
            asked.append(clock())
        return await due(most, seconds)

    monkeypatch.setattr(windows, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(fleet.there, "due", answered_or_not)
    fleet.windows(fleet.there, quiet_seconds=0.5).start()
    await asyncio.sleep(0.9)  # it has begun, was quiet, and has found the store away
    is_away, returned = False, clock()
    await until(lambda: bool(asked), "windows are looked after")
    assert asked[0] - returned >= 0.5


async def test_every_key_of_a_connection_expires(fleet: Fleet) -> None:
    claim = await fleet.connected()
    await fleet.answered(claim, "unheard")
    await fleet.here.leave([claim], may_return=True)
    keys = await keys_in(fleet.valkey)
    lives = {key: await fleet.valkey.command("PTTL", key) for key in keys}
    assert lives
    assert [key for key, life in lives.items() if life <= 0] == []
