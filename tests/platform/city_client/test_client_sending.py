"""Messages that are sent until they are acknowledged."""

from __future__ import annotations

import asyncio

import pytest

from city_client import Refused
from city_client.connection import MAX_UNDER_WAY
from city_client.events import Event, Held
from tests.platform.city_client.conftest import Arrive
from tests.platform.city_client.peer import Peer
from tests.support.waiting import until


async def test_a_message_is_acknowledged_with_its_place(arrive: Arrive) -> None:
    client, visit = await arrive()
    publishing = asyncio.create_task(client.publish("guide", {"n": 1}, intent="query"))
    frame = await visit.acknowledge(
        "publish", channel="guide", status="published", message_id="m1", offset=7, epoch="e"
    )
    assert (frame["channel"], frame["intent"], frame["payload"]) == ("guide", "query", {"n": 1})
    assert await publishing == ("published", "m1", "guide", 7, "e", False)


async def test_a_message_is_repeated_under_the_same_key_on_the_next_connection(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    sending = asyncio.create_task(client.send("guide", {"message": "hi"}))
    first = await visit.heard("message")
    visit.cut()
    visit = await peer.visit(connection_id="c2")
    second = await visit.acknowledge("message", channel="guide", status="queued", message_id="m", duplicate=True)
    assert len(first["key"]) >= 16
    assert {**first, "id": ""} == {**second, "id": ""}
    assert (await sending).duplicate


async def test_messages_keep_their_order_over_a_lost_connection(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    sending = [asyncio.create_task(client.send("guide", {"n": n})) for n in range(20)]
    for n in range(20):
        assert (await visit.heard("message"))["payload"] == {"n": n}
    visit.cut()
    visit = await peer.visit()
    for n in range(20):
        frame = await visit.acknowledge("message", channel="guide", status="queued", message_id=f"m{n}")
        assert frame["payload"] == {"n": n}
    assert [ack.message_id for ack in await asyncio.gather(*sending)] == [f"m{n}" for n in range(20)]


async def test_what_cannot_be_done_right_now_is_tried_again(arrive: Arrive) -> None:
    client, visit = await arrive()
    sending = asyncio.create_task(client.send("guide", {}))
    first = await visit.heard("message")
    await visit.say("error", id=first["id"], code="rate_limited", message="slower", retryable=True, retry_after=0.3)
    asked = asyncio.get_running_loop().time()
    second = await visit.acknowledge("message", channel="guide", status="queued", message_id="m1")
    assert asyncio.get_running_loop().time() - asked >= 0.3
    assert second["key"] == first["key"]
    await sending


async def test_a_refusal_is_raised_with_its_code(arrive: Arrive) -> None:
    client, visit = await arrive()
    sending = asyncio.create_task(client.send("nowhere", {}))
    frame = await visit.heard("message")
    await visit.say("error", id=frame["id"], code="unknown_channel", message="no such", retryable=False)
    with pytest.raises(Refused) as refused:
        await sending
    assert (refused.value.code, refused.value.message) == ("unknown_channel", "no such")


async def test_a_held_message_is_acknowledged_only_when_it_is_safe(arrive: Arrive) -> None:
    client, visit = await arrive()
    publishing = asyncio.create_task(client.publish("guide", {}))
    frame = await visit.heard("publish")
    await visit.say("ack", id=frame["id"], channel="guide", status="held", message_id="m1")
    await visit.say("ack", id=frame["id"], channel="guide", status="published", message_id="m1", offset=3, epoch="f")
    assert (await publishing).status == "published"


async def test_no_more_messages_are_under_way_than_the_bound(arrive: Arrive) -> None:
    client, visit = await arrive()
    sending = [asyncio.create_task(client.send("guide", {})) for _ in range(MAX_UNDER_WAY + 1)]
    frames = [await visit.heard("message") for _ in range(MAX_UNDER_WAY)]
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await visit.socket.recv()
    for frame in frames:
        await visit.say("ack", id=frame["id"], channel="guide", status="queued", message_id="m")
    await visit.acknowledge("message", channel="guide", status="queued", message_id="m")
    assert len(await asyncio.gather(*sending)) == MAX_UNDER_WAY + 1


async def test_a_payload_that_is_no_json_is_the_callers_error(arrive: Arrive) -> None:
    client, _ = await arrive()
    with pytest.raises(TypeError):
        await client.send("guide", {"message": object()})


async def test_what_is_held_is_told_and_waits_for_its_last_word(arrive: Arrive, events: list[Event]) -> None:
    client, visit = await arrive()
    publishing = asyncio.create_task(client.publish("guide", {"n": 1}))
    frame = await visit.acknowledge("publish", channel="guide", status="held", message_id="m1")
    await until(lambda: Held("guide", "m1") in events, "it is told")
    assert not publishing.done()
    await visit.say("ack", id=frame["id"], channel="guide", status="published", message_id="m1", offset=7, epoch="e")
    assert (await publishing).status == "published"


async def test_what_is_provisional_is_handed_out_once_in_its_place(arrive: Arrive) -> None:
    client, visit = await arrive()
    opening = asyncio.create_task(client.subscribe("guide"))
    await visit.subscribed(guide={"offset": 6, "epoch": "e"})
    reader = await opening
    publication = {"channel": "guide", "message_id": "m1", "payload": {"n": 1}}
    await visit.say("message", **publication, provisional=True)
    await visit.say("withdrawn", channel="guide", message_id="m0")
    await visit.say("message", **publication, offset=7, epoch="e")
    assert (await anext(reader)).position == (7, "e")
    assert reader.unread == 0
