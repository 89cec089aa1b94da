"""What becomes of what is held and is not just logged: what is known, or in conflict, and what agents say."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.contract.agents import agent_on, asked, asker_of
from tests.contract.outages import RETURN_SECONDS, Outage, held
from tests.support.event_reader import EventReader
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

GRANTS = {"guide": ["subscribe", "send", "publish", "history"]}


@pytest.fixture
async def brisk(fragile_places: Platform) -> AsyncIterator[Instance]:
    """An instance that holds soon."""
    yield await fragile_places.start(valkey_timeout_seconds=0.3, held_after_seconds=0.3)


async def last_word(client: WireClient, first: Frame) -> Frame:
    return await client.until(lambda frame: frame.get("id") == first["id"], RETURN_SECONDS)


async def test_what_proves_known_or_in_conflict_is_withdrawn(brisk: Instance, outage: Outage) -> None:
    token = await brisk.session(unique("alice"), channels=GRANTS)
    reading = EventReader.connected(brisk.url, "guide", token)
    async with brisk.connected(token) as alice, reading as events:
        await alice.subscribe("guide")
        said: dict[str, Any] = {"type": "publish", "channel": "guide", "key": "k"}
        first = await alice.ask(**said, payload={"n": 1})
        await alice.messages(1)
        assert (await events.next()).data["message_id"] == first["message_id"]
        outage.begin()
        again, other = await held(alice, **said, payload={"n": 1}), await held(alice, **said, payload={"n": 2})
        ahead = [frame["message_id"] for frame in await alice.messages(2)]
        assert ahead == [again["message_id"], other["message_id"]]
        for expected in ahead:
            shown = await events.next()
            assert (shown.name, shown.id, shown.data["message_id"]) == ("provisional", "", expected)
        outage.end()
        word = await last_word(alice, again)
        assert (word["status"], word["duplicate"], word["message_id"]) == ("published", True, first["message_id"])
        assert (await last_word(alice, other))["code"] == "conflict"
        void = [await alice.of("withdrawn"), await alice.of("withdrawn")]
        assert [frame["message_id"] for frame in void] == ahead
        assert [frame.get("duplicate_of") for frame in void] == [first["message_id"], None]
        await alice.nothing_but_pong()
        assert [(await events.next()).name for _ in ahead] == ["withdrawn", "withdrawn"]


async def test_every_kind_of_message_is_taken_with_202_and_arrives(brisk: Instance, outage: Outage) -> None:
    user = unique("alice")
    async with asker_of(brisk, user) as alice:
        outage.begin()
        calls: dict[str, Frame] = {
            "publish_batch": {"items": [{"channel": "guide", "message": {"n": n}} for n in range(2)]},
            "send_to_user": {"user_id": user, "message": {"to": "user"}},
            "send_to_connection": {"connection_id": alice.id, "message": {"to": "connection"}},
            "send_to_agent": {"channel": "guide", "message": {"message": "?"}, "reply_to": f"user:{user}"},
        }
        answers: dict[str, Frame] = {}
        for operation, arguments in calls.items():
            response = await brisk.call(f"post_office.{operation}", arguments)
            assert response.status_code == 202, response.text
            answers[operation] = response.json()
            assert answers[operation]["status"] == "held"
        assert [item["status"] for item in answers["publish_batch"]["results"]] == ["held", "held"]
        assert not {"offset", "epoch", "connected"} & {*answers["send_to_user"], *answers["send_to_connection"]}
        ahead = await alice.messages(2)
        assert [frame["payload"]["to"] for frame in ahead] == ["user", "connection"]
        outage.end()
        logged = [await alice.until(lambda frame: "offset" in frame, RETURN_SECONDS) for _ in ahead]
        assert [frame["offset"] for frame in logged] == [1, 1]
        assert {frame["message_id"] for frame in logged} == {frame["message_id"] for frame in ahead}
        async with agent_on(brisk, "guide") as agent:
            delivery = await agent.of("delivery", RETURN_SECONDS)
            assert delivery["message"]["message_id"] == answers["send_to_agent"]["message_id"]


async def test_what_an_agent_says_is_held_and_carried_out_once(brisk: Instance, outage: Outage) -> None:
    async with asker_of(brisk) as alice, agent_on(brisk, "guide") as agent:
        questions = [await asked(alice, "guide", conversation) for conversation in "ab"]
        deliveries = [await agent.of("delivery") for _ in questions]
        outage.begin()
        said = [
            await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"n": n})
            for n, delivery in enumerate(deliveries)
        ]
        assert [(ack["type"], ack["status"]) for ack in said] == [("ack", "held")] * 2
        await alice.nothing_but_pong()
        outage.end()
        for ack in said:
            assert await last_word(agent, ack) == {"type": "ack", "id": ack["id"]}
        answers = [await alice.of("chat_response", RETURN_SECONDS) for _ in questions]
        assert {answer["in_reply_to"] for answer in answers} == set(questions)
        await agent.nothing_but_pong()
        await alice.nothing_but_pong()


async def test_an_agent_that_leaves_has_said_what_it_said(brisk: Instance, outage: Outage) -> None:
    """Its answer is carried out before what it left is given to another."""
    async with asker_of(brisk) as alice:
        async with agent_on(brisk, "guide") as agent:
            for conversation in "ab":
                await asked(alice, "guide", conversation)
            answered, left = await agent.of("delivery"), await agent.of("delivery")
            outage.begin()
            ack = await agent.ask(type="reply", delivery_id=answered["delivery_id"], payload={"said": True})
            assert ack["status"] == "held"
        outage.end()
        answer = await alice.of("chat_response", RETURN_SECONDS)
        assert (answer["in_reply_to"], answer["payload"]) == (answered["message"]["message_id"], {"said": True})

        async def is_healthy() -> bool:
            return bool((await brisk.http.get("/api/health")).json()["status"] == "healthy")

        await eventually(is_healthy, "healthy again", RETURN_SECONDS)
        async with agent_on(brisk, "guide") as other:
            again = await other.of("delivery", RETURN_SECONDS)
            assert again["message"]["message_id"] == left["message"]["message_id"]
            await other.nothing_but_pong()


async def test_a_handshake_waits_a_little_for_the_return(brisk: Instance, outage: Outage) -> None:
    token = await brisk.session(unique("alice"))
    async with brisk.connected(token):
        outage.begin()
        coming = asyncio.create_task(connect(f"{brisk.ws_url}?session_token={token}").__aenter__())

        async def is_away() -> bool:
            return bool((await brisk.http.get("/api/health")).json()["status"] == "degraded")

        await eventually(is_away, "it is noticed", RETURN_SECONDS)
        outage.end()
        async with await coming as socket:
            assert json.loads(await socket.recv())["event"] == "welcome"


async def test_a_handshake_that_has_waited_is_told_when_to_come_back(fragile_places: Platform, outage: Outage) -> None:
    city = await fragile_places.start(valkey_timeout_seconds=0.2, handshake_patience_seconds=0.2)
    token = await city.session(unique("alice"))
    outage.begin()
    with pytest.raises(ConnectionClosed) as closed:
        async with city.connected(token):
            pass
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013
    assert re.match(r"retry_after=[0-9.]+ ", closed.value.rcvd.reason)
    outage.end()


async def test_tools_of_agents_answer_202(brisk: Instance, outage: Outage) -> None:
    async with asker_of(brisk) as alice, agent_on(brisk, "guide") as agent:
        question = await asked(alice, "guide")
        delivery = await agent.of("delivery")
        outage.begin()
        arguments = {"delivery_id": delivery["delivery_id"], "payload": {"message": "by hand"}}
        response = await brisk.call("post_office.reply", arguments)
        assert (response.status_code, response.json()["status"]) == (202, "held")
        outage.end()
        answer = await alice.of("chat_response", RETURN_SECONDS)
        assert (answer["in_reply_to"], answer["payload"]) == (question, {"message": "by hand"})
