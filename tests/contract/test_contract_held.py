"""What is sent while Valkey is away: held, shown ahead of its place, and done once on the return."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from tests.contract.agents import agent_on, asker_of, reply
from tests.contract.shapes import UUID7, has_only, problem
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.wire_client import WireClient

Frame = dict[str, Any]
PUBLISH = "post_office.publish_to_agent_channel"
GRANTS = {"guide": ["subscribe", "send", "publish"]}


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def lonely(store: ValkeyServer) -> AsyncIterator[Instance]:
    """An instance whose Valkey may be harmed, and which notices soon."""
    async with AsyncExitStack() as stack:
        yield await Platform(store, stack).start(valkey_timeout_seconds=0.3, held_after_seconds=0.3)


def away(store: ValkeyServer, how: str) -> None:
    store.kill() if how == "killed" else store.hang()


def back(store: ValkeyServer, how: str) -> None:
    store.start() if how == "killed" else store.resume()


def is_provisional(frame: Frame) -> None:
    has_only(
        frame,
        {"type", "channel", "sender", "payload", "message_id", "timestamp", "provisional"},
        {"intent", "traceparent"},
    )
    assert (frame["type"], frame["provisional"]) == ("message", True)


async def final(client: WireClient, frame_id: str) -> Frame:
    """The last word on a frame that was held."""
    return await client.until(lambda frame: frame.get("id") == frame_id, 15)


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_publications_are_held_shown_ahead_and_logged_in_order_on_the_return(
    store: ValkeyServer, lonely: Instance, how: str
) -> None:
    city = lonely
    async with asker_of(city, channels=GRANTS) as alice, asker_of(city) as bob:
        await alice.subscribe("guide")
        begin = (await bob.subscribe("guide"))["guide"]
        away(store, how)
        held = [await alice.ask(type="publish", id=f"p{n}", channel="guide", payload={"n": n}) for n in range(3)]
        for ack in held:
            has_only(ack, {"type", "id", "channel", "status", "message_id"})
            assert ack["status"] == "held"
            assert UUID7.fullmatch(ack["message_id"])
        response = await city.call(PUBLISH, {"channel": "guide", "message": {"n": 3}}, Idempotency_Key="k3")
        assert response.status_code == 202
        has_only(response.json(), {"status", "channel", "message_id"}, {"subscribers"})
        assert response.json()["status"] == "held"
        ids = [*(ack["message_id"] for ack in held), response.json()["message_id"]]
        ahead = await bob.messages(4)
        for frame in ahead:
            is_provisional(frame)
        assert [frame["message_id"] for frame in ahead] == ids
        back(store, how)
        published = [await final(alice, f"p{n}") for n in range(3)]
        assert [ack["status"] for ack in published] == ["published"] * 3
        logged = [await bob.until(lambda frame: "offset" in frame, 15) for _ in range(4)]
        assert [frame["message_id"] for frame in logged] == ids
        assert [frame["offset"] for frame in logged] == [begin["offset"] + n for n in range(1, 5)]
        assert [ack["offset"] for ack in published] == [frame["offset"] for frame in logged[:3]]
        assert not any(frame.get("provisional") for frame in logged)
        again = await city.done(PUBLISH, {"channel": "guide", "message": {"n": 3}}, Idempotency_Key="k3")
        assert (again["duplicate"], again["message_id"], again["offset"]) == (True, ids[3], logged[3]["offset"])
        await bob.nothing_but_pong()


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_questions_are_held_and_reach_the_inbox_once_and_in_order(
    store: ValkeyServer, lonely: Instance, how: str
) -> None:
    city = lonely
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        away(store, how)
        held = [await alice.ask(id=f"q{n}", channel="guide", payload={"message": f"{n}"}) for n in range(3)]
        assert [ack["status"] for ack in held] == ["held"] * 3
        asked = {"channel": "pillar:content", "message": {"message": "?"}, "reply_to": "guide"}
        response = await city.call("post_office.send_to_agent", asked)
        assert (response.status_code, response.json()["status"]) == (202, "held")
        back(store, how)
        for n, before in enumerate(held):
            ack = await final(alice, f"q{n}")
            assert (ack["status"], ack["message_id"]) == ("queued", before["message_id"])
        for n, before in enumerate(held):
            delivery = await agent.of("delivery", 15)
            assert delivery["message"]["message_id"] == before["message_id"]
            await reply(agent, delivery, payload={"message": f"answer {n}"})
            assert (await alice.of("chat_response", 15))["in_reply_to"] == before["message_id"]
        await agent.nothing_but_pong()
        status = await city.done("post_office.get_queue_status", {"channel": "pillar:content"})
        assert status["channels"]["pillar:content"]["depth"] == 1


async def test_what_proves_known_ends_as_a_duplicate_and_what_was_shown_ahead_is_withdrawn(
    store: ValkeyServer, lonely: Instance
) -> None:
    city = lonely
    async with asker_of(city, channels=GRANTS) as alice:
        await alice.subscribe("guide")
        frame = {"type": "publish", "channel": "guide", "key": "k"}
        first = await alice.ask(**frame, payload={"n": 1})
        await alice.messages(1)
        store.kill()
        again = await alice.ask(**frame, id="again", payload={"n": 1})
        other = await alice.ask(**frame, id="other", payload={"n": 2})
        assert (again["status"], other["status"]) == ("held", "held")
        ahead = await alice.messages(2)
        assert [each["message_id"] for each in ahead] == [again["message_id"], other["message_id"]]
        store.start()
        ack = await final(alice, "again")
        assert (ack["status"], ack["duplicate"], ack["message_id"]) == ("published", True, first["message_id"])
        assert (await final(alice, "other"))["code"] == "conflict"
        void = [await alice.of("withdrawn"), await alice.of("withdrawn")]
        assert [each["message_id"] for each in void] == [each["message_id"] for each in ahead]
        assert [each.get("duplicate_of") for each in void] == [first["message_id"], None]
        await alice.nothing_but_pong()


async def test_what_there_is_no_room_for_is_refused_at_once(store: ValkeyServer) -> None:
    async with AsyncExitStack() as stack:
        city = await Platform(store, stack).start(valkey_timeout_seconds=0.3, held_after_seconds=0.3, held_bytes=20_000)
        async with asker_of(city, channels=GRANTS) as alice:
            await alice.subscribe("guide")
            store.kill()
            assert (await alice.ask(type="publish", id="p", channel="guide", payload={}))["status"] == "held"
            refused = await alice.ask(type="publish", channel="guide", payload={"text": "x" * 20_000})
            assert (refused["code"], refused["retryable"]) == ("unavailable", True)
            question = await alice.ask(id="q", channel="guide", payload={"text": "x" * 15_000})
            assert question["status"] == "held", "one that is on its way is held whatever its size"
            response = await city.call(PUBLISH, {"channel": "guide", "message": {"text": "x" * 5_000}})
            assert problem(response, 503, "unavailable")["retryable"] is True
            store.start()
            assert (await final(alice, "p"))["status"] == "published"
            assert (await final(alice, "q"))["status"] == "queued"


async def test_calls_of_every_kind_are_accepted_with_202(store: ValkeyServer, lonely: Instance) -> None:
    city, user = lonely, unique("alice")
    async with asker_of(city, user) as alice:
        store.hang()
        calls: dict[str, Frame] = {
            "publish_batch": {"items": [{"channel": "guide", "message": {"n": n}} for n in range(2)]},
            "send_to_user": {"user_id": user, "message": {"to": "user"}},
            "send_to_connection": {"connection_id": alice.id, "message": {"to": "connection"}},
        }
        held: dict[str, Frame] = {}
        for operation, arguments in calls.items():
            response = await city.call(f"post_office.{operation}", arguments)
            assert response.status_code == 202, response.text
            held[operation] = response.json()
            assert held[operation]["status"] == "held"
        assert [item["status"] for item in held["publish_batch"]["results"]] == ["held", "held"]
        assert not {"offset", "epoch", "connected"} & {*held["send_to_user"], *held["send_to_connection"]}
        ahead = await alice.messages(2)
        assert [frame["payload"]["to"] for frame in ahead] == ["user", "connection"]
        store.resume()
        logged = [await alice.until(lambda frame: "offset" in frame, 15) for _ in ahead]
        assert [frame["offset"] for frame in logged] == [1, 1]
        assert {frame["message_id"] for frame in logged} == {frame["message_id"] for frame in ahead}
