"""Reading channels: over lost connections, refusals, gaps and slow readers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from city_client import CityClient, Ended, Gap, Position, Publication, Refused, Unconfirmed
from city_client.events import Broken, Event, FellBehind, Subscribed, Unsubscribed
from city_client.subscription import Subscription
from tests.platform.city_client.conftest import Arrive
from tests.platform.city_client.peer import Peer, Visit
from tests.support.waiting import PATIENCE, until

HERE = {"offset": 0, "epoch": "e"}


async def listening(client: CityClient, visit: Visit, **standings: Any) -> Subscription:
    """Subscribes, with the answers given."""
    names = [name.replace("__", ":") for name in standings]
    subscribing = asyncio.create_task(client.subscribe(names))
    await visit.subscribed(**standings)
    return await subscribing


async def read(subscription: Subscription, count: int) -> list[Publication]:
    async with asyncio.timeout(PATIENCE):
        return [await anext(subscription) for _ in range(count)]


async def test_publications_come_in_order_with_all_they_carry(arrive: Arrive) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    await visit.publish(1)
    await visit.publish(2, "f", in_reply_to="q1", intent="query")
    first, second = await read(reader, 2)
    assert (first.channel, first.offset, first.epoch, first.payload) == ("guide", 1, "e", {"n": 1})
    assert (first.sender.kind, first.sender.id, first.gap) == ("service", "news", None)
    assert (second.position, second.in_reply_to, second.intent) == (Position(2, "f"), "q1", "query")
    assert b'"offset": 2' in second.raw
    assert reader.positions == {"guide": Position(2, "f")}


async def test_listening_leaves_the_channel_when_the_loop_is_left(arrive: Arrive) -> None:
    client, visit = await arrive()

    async def first() -> Publication:
        async with aclosing(client.listen("guide", since=Position(4, "e"))) as publications:
            async for publication in publications:
                return publication
        raise AssertionError

    reading = asyncio.create_task(first())
    asked = await visit.subscribed(guide={"offset": 4, "epoch": "e", "recovered": True, "missed": 1})
    assert asked == {"guide": {"offset": 4, "epoch": "e"}}
    await visit.publish(5)
    assert (await reading).offset == 5
    assert (await visit.heard("unsubscribe"))["channels"] == ["guide"]


async def test_after_a_lost_connection_every_channel_is_asked_for_at_its_position(
    arrive: Arrive, peer: Peer, events: list[Event]
) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE, pillar__content={"offset": 9, "epoch": "p"})
    await visit.publish(1)
    await read(reader, 1)
    visit.cut()
    visit = await peer.visit(resumed=True, channels={})
    asked = await visit.subscribed(
        guide={"offset": 1, "epoch": "e", "recovered": True, "missed": 2},
        pillar__content={"offset": 9, "epoch": "p", "recovered": True, "missed": 0},
        connection__c1={"offset": 0, "epoch": "c", "recovered": True},
        user__alice={"offset": 0, "epoch": "u", "recovered": True},
    )
    assert asked["guide"] == {"offset": 1, "epoch": "e"}
    assert asked["pillar:content"] == {"offset": 9, "epoch": "p"}
    await visit.publish(2)
    await visit.publish(3)
    assert [(each.offset, each.gap) for each in await read(reader, 2)] == [(2, None), (3, None)]
    recovered = [event for event in events if isinstance(event, Subscribed) and event.channel == "guide"]
    assert [(event.recovered, event.missed) for event in recovered] == [(None, 0), (True, 2)]


async def test_on_a_fresh_connection_the_own_log_is_read_on_where_it_was_left(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive(connection_id="c1")
    reader = await listening(client, visit, user__alice={"offset": 3, "epoch": "u"})
    await visit.publish(4, "u", "user:alice")
    await read(reader, 1)
    visit.cut()
    visit = await peer.visit(
        connection_id="c2",
        channels={"connection:c2": {"offset": 0, "epoch": "d"}, "user:alice": {"offset": 6, "epoch": "u"}},
    )
    asked = await visit.subscribed(user__alice={"offset": 4, "epoch": "u", "recovered": True, "missed": 2})
    assert asked == {"user:alice": {"offset": 4, "epoch": "u"}}


async def test_a_failed_recovery_is_told_and_carried_by_the_next_publication(
    arrive: Arrive, peer: Peer, events: list[Event]
) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    visit.cut()
    visit = await peer.visit()
    await visit.subscribed(guide={"offset": 50, "epoch": "z", "recovered": False, "reason": "unknown_epoch"})
    await visit.publish(51, "z")
    [publication] = await read(reader, 1)
    assert publication.gap == Gap("unknown_epoch", Position(0, "e"), Position(50, "z"))
    assert [e.recovered for e in events if isinstance(e, Subscribed)] == [None, False]


async def test_a_reset_is_told_and_carried_too(arrive: Arrive, events: list[Event]) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    await visit.say("reset", channel="guide", offset=30, epoch="e", reason="trimmed")
    await visit.publish(31)
    [publication] = await read(reader, 1)
    assert publication.gap == Gap("trimmed", Position(0, "e"), Position(30, "e"))
    assert [event.gap.reason for event in events if isinstance(event, Broken)] == ["trimmed"]


async def test_what_comes_twice_is_read_once(arrive: Arrive) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    for offset in (1, 1, 2, 1, 2, 3):
        await visit.publish(offset)
    assert [publication.offset for publication in await read(reader, 3)] == [1, 2, 3]


async def test_what_comes_before_the_acknowledgement_is_not_taken_for_what_follows_it(arrive: Arrive) -> None:
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe("guide", since=Position(3, "e")))
    frame = await visit.heard("subscribe")
    await visit.publish(9)
    standing = {"offset": 3, "epoch": "e", "recovered": True, "missed": 6}
    await visit.say("ack", id=frame["id"], channels={"guide": standing})
    await visit.publish(4)
    assert [each.offset for each in await read(await subscribing, 1)] == [4]


async def test_a_refused_channel_is_raised_with_its_code_and_leaves_nothing_behind(arrive: Arrive) -> None:
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe(["guide", "secret"]))
    await visit.subscribed(guide=HERE, secret={"error": {"code": "forbidden", "message": "no grant"}})
    with pytest.raises(Refused) as refused:
        await subscribing
    assert refused.value.code == "forbidden"
    assert (await visit.heard("unsubscribe"))["channels"] == ["guide"]
    await listening(client, visit, guide=HERE)


async def test_a_whole_frame_that_is_refused_refuses_its_channels(arrive: Arrive) -> None:
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe("Bad Name"))
    frame = await visit.heard("subscribe")
    await visit.say("error", id=frame["id"], code="invalid_message", message="no such name", retryable=False)
    with pytest.raises(Refused) as refused:
        await subscribing
    assert refused.value.code == "invalid_message"


@pytest.mark.parametrize("whole", [True, False])
async def test_what_is_unavailable_is_asked_for_again(arrive: Arrive, whole: bool) -> None:
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe("guide"))
    problem = {"code": "unavailable", "message": "Valkey is away"}
    if whole:
        frame = await visit.heard("subscribe")
        await visit.say("error", id=frame["id"], retryable=True, **problem)
    else:
        await visit.subscribed(guide={"error": problem})
    await visit.subscribed(guide=HERE)
    await subscribing


async def test_a_subscribe_without_an_answer_is_unconfirmed_in_time(arrive: Arrive) -> None:
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe("guide", seconds=0.1))
    await visit.heard("subscribe")
    with pytest.raises(Unconfirmed):
        await subscribing


async def test_a_subscription_that_the_platform_ends_is_raised_after_what_was_read(
    arrive: Arrive, events: list[Event]
) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    await visit.publish(1)
    await visit.say("unsubscribed", channel="guide", code="forbidden", message="the grant is gone")
    assert [publication.offset for publication in await read(reader, 1)] == [1]
    with pytest.raises(Refused) as refused:
        await read(reader, 1)
    assert refused.value.code == "forbidden"
    assert [event.code for event in events if isinstance(event, Unsubscribed)] == ["forbidden"]


async def test_readers_stop_when_the_client_is_closed(arrive: Arrive) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    await visit.publish(1)
    await until(lambda: reader.unread == 1, "the publication arrived")
    await client.close()
    assert [publication.offset async for publication in reader] == [1]


async def test_readers_are_told_when_the_platform_ends_the_session(arrive: Arrive) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    await visit.close(4501, "revoked")
    for late in (read(reader, 1), client.subscribe("pillar:content")):
        with pytest.raises(Ended) as ended:
            await late
        assert ended.value.code == 4501


async def test_a_channel_has_one_reader_at_a_time(arrive: Arrive) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    with pytest.raises(ValueError, match="guide"):
        await client.subscribe(["pillar:content", "guide"])
    await reader.close()
    await visit.heard("unsubscribe")
    await listening(client, visit, guide=HERE)


async def test_since_goes_with_one_channel(arrive: Arrive) -> None:
    client, _ = await arrive()
    for wrong in (["guide", "pillar:content"], []):
        with pytest.raises(ValueError, match="since"):
            await client.subscribe(wrong, since=Position(1))


async def test_a_slow_reader_goes_on_from_the_log_and_holds_up_nothing_else(
    arrive: Arrive, events: list[Event]
) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    for offset in range(1, 1101):
        await visit.publish(offset)
    sending = asyncio.create_task(client.send("guide", {}))
    await visit.acknowledge("message", channel="guide", status="queued", message_id="m1")
    await sending
    assert (await visit.heard("unsubscribe"))["channels"] == ["guide"]
    assert [event.channel for event in events if isinstance(event, FellBehind)] == ["guide"]
    assert reader.unread == 1024
    assert [each.offset for each in await read(reader, 512)] == list(range(1, 513))
    asked = await visit.subscribed(guide={"offset": 1024, "epoch": "e", "recovered": True, "missed": 76})
    assert asked == {"guide": {"offset": 1024, "epoch": "e"}}
    for offset in range(1025, 1101):
        await visit.publish(offset)
    assert [each.offset for each in await read(reader, 588)] == list(range(513, 1101))


async def test_a_buffer_is_bounded_in_bytes_too(arrive: Arrive) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    for offset in range(1, 21):
        await visit.publish(offset, payload={"text": "x" * 2**20})
    await visit.heard("unsubscribe")
    assert reader.unread == 16


async def test_a_reader_that_keeps_up_is_never_left(arrive: Arrive, events: list[Event]) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, guide=HERE)
    reading = asyncio.create_task(read(reader, 5000))
    for offset in range(1, 5001):
        await visit.publish(offset)
    assert [each.offset for each in await reading] == list(range(1, 5001))
    assert not [event for event in events if isinstance(event, FellBehind)]


async def test_the_own_log_stays_subscribed_when_its_reader_leaves(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    reader = await listening(client, visit, user__alice={"offset": 0, "epoch": "u"})
    await visit.publish(1, "u", "user:alice")
    await read(reader, 1)
    await reader.close()
    visit.cut()
    visit = await peer.visit(resumed=True, channels={})
    asked = await visit.subscribed(
        user__alice={"offset": 1, "epoch": "u", "recovered": True},
        connection__c1={"offset": 0, "epoch": "c", "recovered": True},
    )
    assert asked["user:alice"] == {"offset": 1, "epoch": "u"}


async def test_a_socket_on_which_subscribes_stay_unanswered_is_given_up(
    arrive: Arrive, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("city_client.subscriptions.ANSWER_SECONDS", 0.2)
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe("guide"))
    await visit.heard("subscribe")
    visit = await peer.visit()
    await visit.subscribed(guide=HERE)
    await subscribing


async def test_many_channels_are_asked_for_in_several_frames(arrive: Arrive) -> None:
    client, visit = await arrive()
    names = {f"pillar:p{number}" for number in range(450)}
    subscribing = asyncio.create_task(client.subscribe(names))
    asked: list[str] = []
    while len(asked) < 450:
        frame = await visit.heard("subscribe")
        await visit.say("ack", id=frame["id"], channels=dict.fromkeys(frame["channels"], HERE))
        assert len(frame["channels"]) <= 200
        asked += frame["channels"]
    assert sorted(asked) == sorted(names)
    await (await subscribing).close()
    left: list[str] = []
    while len(left) < 450:
        left += (await visit.heard("unsubscribe"))["channels"]
    assert sorted(left) == sorted(names)
