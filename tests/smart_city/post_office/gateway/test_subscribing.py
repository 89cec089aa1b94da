"""One connection's subscriptions: what its acks say, what moves and ends, and that breaking off leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from foundations.errors import CityError, Forbidden, Unavailable
from foundations.valkey.client import Valkey
from smart_city.post_office.gateway.subscribing import Subscribing
from smart_city.post_office.log.bus import bus_channel
from smart_city.vocabulary import Position
from tests.support.hubs import Instance, Listener, instances
from tests.support.registries import a_registry
from tests.support.waiting import eventually, until

NONE: Mapping[str, CityError] = {}


class Client:
    """A connection, as far as its subscriptions and the registry know it."""

    def __init__(self, instance: Instance, *, most: int) -> None:
        self.connection_id = f"c{id(instance):x}"
        self.user_id = f"ann-{instance.valkey.incarnation}"
        self.connected_at = self.last_heartbeat = "2026-11-20T08:00:00.000Z"
        self.fence, self.heard_offset = 1, 0
        self.instance = instance
        self.listener = Listener()
        self.registry = a_registry(
            instance.valkey, instance.tasks, name=instance.valkey.incarnation, lease_seconds=60, most_per_user=5
        )
        self.subscriptions = Subscribing(instance.joining, self.registry, self.listener, most=most)

    @property
    def channels(self) -> Sequence[str]:
        return self.subscriptions.channels

    async def subscribe(
        self, *channels: str, frame_id: str = "", refused: Mapping[str, CityError] = NONE, **wanted: Position | None
    ) -> dict[str, Any]:
        """Subscribes; what the ack says of each channel."""
        await self.subscriptions.subscribe(dict.fromkeys(channels) | wanted, self, frame_id, refused)
        return self.acks[-1]["channels"]  # type: ignore[no-any-return]

    @property
    def acks(self) -> list[dict[str, Any]]:
        return [frame for frame in self.listener.frames if frame.get("type") == "ack"]

    async def listed(self) -> set[bytes]:
        found: set[bytes] = await self.instance.valkey.command(
            "SMEMBERS", f"subscriptions:{self.instance.valkey.incarnation}"
        )
        return set(found)

    async def is_clean(self) -> bool:
        """Whether nothing is held for this connection any more, here and in the store."""
        heard = sum([await self.instance.listeners_at(channel) for channel in ("guide", "pillar:content", "user:ann")])
        return not (heard or self.registry.subscribers.counts or self.channels or await self.listed())


@asynccontextmanager
async def a_client(valkey: Valkey, *, most: int = 500) -> AsyncIterator[Client]:
    async with instances(valkey) as (instance,):
        client = Client(instance, most=most)
        await client.registry.add(client)
        try:
            yield client
        finally:
            await client.registry.release()


@pytest.fixture
async def client(valkey: Valkey) -> AsyncIterator[Client]:
    async with a_client(valkey) as client:
        yield client


# What the ack says


async def test_without_a_position_the_ack_names_the_newest(client: Client) -> None:
    newest = await client.instance.publish("guide", 2)
    told = await client.subscribe("guide", frame_id="7")
    assert told == {"guide": {"offset": newest.offset, "epoch": newest.epoch}}
    assert client.acks == [{"type": "ack", "id": "7", "channels": told}]
    await client.instance.publish("guide")
    assert client.listener.offsets == [3]


async def test_with_a_position_it_says_how_many_follow_or_why_none_do(client: Client) -> None:
    start = await client.instance.publish("guide")
    newest = await client.instance.publish("guide", 3)
    told = await client.subscribe(guide=start)
    assert told["guide"] == {"offset": 1, "epoch": start.epoch, "recovered": True, "missed": 3}
    assert "id" not in client.acks[0]
    told = await client.subscribe(guide=Position(9, newest.epoch))
    assert told["guide"] == {"offset": 4, "epoch": newest.epoch, "recovered": False, "reason": "future"}


async def test_every_channel_is_answered_the_refused_ones_with_their_error(client: Client) -> None:
    told = await client.subscribe("guide", "user:ann", refused={"pillar:x": Forbidden("not for you")})
    assert told["pillar:x"] == {"error": {"code": "forbidden", "message": "not for you"}}
    assert set(told) == {"guide", "user:ann", "pillar:x"}
    assert ("guide" in client.subscriptions, "pillar:x" in client.subscriptions) == (True, False)


async def test_no_more_than_so_many_are_taken_and_moving_one_needs_no_room(valkey: Valkey) -> None:
    async with a_client(valkey, most=2) as client:
        told = await client.subscribe("guide", "pillar:insights", "pillar:content")
        assert [channel for channel, position in told.items() if "error" in position] == ["pillar:content"]
        assert told["pillar:content"]["error"]["code"] == "overloaded"
        told = await client.subscribe("guide", "pillar:content")
        assert ("error" in told["guide"], "error" in told["pillar:content"]) == (False, True)
        client.subscriptions.unsubscribe(["pillar:insights"])
        assert "error" not in (await client.subscribe("pillar:content"))["pillar:content"]


def fail_for(client: Client, channel: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """One channel cannot be heard any more."""
    listen = client.instance.bus.listen

    def listen_but_for_one(name: str, *handlers: Any) -> Any:
        if name == bus_channel(channel):
            raise error
        return listen(name, *handlers)

    monkeypatch.setattr(client.instance.bus, "listen", listen_but_for_one)


async def test_a_channel_that_cannot_be_had_does_not_keep_the_others_away(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for(client, "guide", Unavailable("the bus is away there"), monkeypatch)
    told = await client.subscribe("guide", "pillar:content")
    assert told["guide"]["error"]["code"] == "unavailable"
    assert (client.channels, await client.listed()) == (["pillar:content"], {b"pillar:content"})


async def test_what_stands_in_the_key_already_is_not_written_again(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.subscribe("guide")
    command = client.instance.valkey.command
    written: list[Any] = []

    async def noted(*words: Any) -> Any:
        written.extend(words[2:] if words[0] == "SADD" else ())
        return await command(*words)

    monkeypatch.setattr(client.instance.valkey, "command", noted)
    client.registry.subscribers.count_in(["guide"])
    await client.registry.subscribers.listed(["guide"])
    await client.subscribe("pillar:content")
    assert written == ["pillar:content"]
    client.registry.subscribers.count_out(["guide"])
    client.subscriptions.unsubscribe(["guide"])
    await client.subscribe("guide")
    assert written == ["pillar:content", "guide"]
    assert await client.listed() == {b"guide", b"pillar:content"}


# Moving and ending


async def test_subscribing_again_moves_the_subscription(client: Client) -> None:
    start = await client.instance.publish("guide", 4)
    await client.subscribe("guide")
    await client.instance.publish("guide")
    await client.subscribe(guide=Position(2, start.epoch))
    await until(lambda: client.listener.offsets[-1] == 5 and len(client.listener.offsets) == 4, "all came again")
    await client.instance.publish("guide")
    assert client.listener.offsets == [5, 3, 4, 5, 6]
    assert client.registry.subscribers.counts == {"guide": 1}


async def test_what_is_listened_to_stands_in_the_store_before_the_ack_but_private_logs_never(client: Client) -> None:
    await client.subscribe("guide", "user:ann")
    assert (client.channels, client.registry.subscribers.counts) == (["guide"], {"guide": 1})
    assert await client.listed() == {b"guide"}
    stored = await client.registry.find(client.connection_id)
    assert stored["channels"] == ["guide"]


async def test_unsubscribing_names_what_there_was_and_nothing_more_comes(client: Client) -> None:
    await client.subscribe("guide", "user:ann")
    assert client.subscriptions.unsubscribe(["guide", "pillar:content", "guide"]) == ["guide"]
    await client.instance.publish("guide")
    assert (client.listener.offsets, client.channels) == ([], [])
    assert client.subscriptions.unsubscribe(["user:ann"]) == ["user:ann"]
    await eventually(client.is_clean, "nothing is held")


async def test_the_end_of_a_connection_ends_all_of_it(client: Client) -> None:
    await client.subscribe("guide", "user:ann", "pillar:content")
    client.subscriptions.end()
    await client.instance.publish("guide")
    assert client.listener.offsets == []
    await eventually(client.is_clean, "nothing is held")


# Broken off


async def test_a_registry_that_does_not_answer_refuses_all_and_leaves_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(channels: Sequence[str]) -> None:
        raise Unavailable("Valkey does not answer")

    monkeypatch.setattr(client.registry.subscribers, "listed", refuse)
    told = await client.subscribe("guide", "pillar:content")
    assert {position["error"]["code"] for position in told.values()} == {"unavailable"}
    await eventually(client.is_clean, "nothing is held")


@pytest.mark.parametrize("turns", range(0, 24, 2))
async def test_a_subscribe_broken_off_at_any_moment_leaves_all_or_nothing(client: Client, turns: int) -> None:
    """What was prepared was held for ever when the deadline of the frame came in between."""
    wanted: dict[str, Position | None] = {"guide": None, "user:ann": None, "pillar:content": Position(0)}
    subscribing = asyncio.create_task(client.subscriptions.subscribe(wanted, client, "", {}))
    for _ in range(turns):
        await asyncio.sleep(0)
    subscribing.cancel()
    await asyncio.gather(subscribing, return_exceptions=True)
    if client.acks:
        client.subscriptions.end()
    await eventually(client.is_clean, "nothing is held")


@pytest.mark.parametrize("moment", ["prepare_each", "update"])
async def test_a_connection_that_ends_while_it_subscribes_leaves_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    owner: Any = client.instance.joining if moment == "prepare_each" else client.registry
    real = getattr(owner, moment)

    async def end_meanwhile(*asked: Any) -> Any:
        result = await real(*asked)
        client.subscriptions.end()
        return result

    monkeypatch.setattr(owner, moment, end_meanwhile)
    await client.subscriptions.subscribe({"guide": None, "user:ann": None}, client, "", {})
    assert client.acks == []
    await eventually(client.is_clean, "nothing is held")


async def test_a_defect_in_one_channel_leaves_nothing_of_the_others(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_for(client, "guide", RuntimeError("a defect"), monkeypatch)
    with pytest.raises(RuntimeError):
        await client.subscribe("user:ann", "guide", "pillar:content")
    await eventually(client.is_clean, "nothing is held")
