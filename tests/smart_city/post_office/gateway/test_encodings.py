"""Clients of both encodings on one platform: each in its own, all with the same content."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from smart_city.post_office.gateway import msgpack
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE
from tests.support.wire_client import PACKED, Frame, WireClient

ALL = {"*": ["subscribe", "send", "history", "publish"]}
SCOPES = ("post_office.consume", "post_office.history", "post_office.publish")
IN_JSON = {"data": {"$bytes": "AP8="}, "deep": [{"a": {"$bytes": ""}}]}
IN_MSGPACK: dict[str, Any] = {"data": b"\x00\xff", "deep": [{"a": b""}]}


def packed(city: Instance, token: str) -> Any:
    return city.connected(token, subprotocols=[PACKED])


async def test_the_clients_first_choice_among_the_subprotocols_is_taken(city: Instance) -> None:
    token = await city.session(unique("alice"))
    for offered, chosen in (
        (["smart-city.v1", PACKED], "smart-city.v1"),
        ([PACKED, "smart-city.v1"], PACKED),
        (["token.x", "smart-city.v9", PACKED], PACKED),
        (["smart-city.v9"], None),
    ):
        async with city.connected(token, subprotocols=offered) as client:
            assert client.socket.subprotocol == chosen
            assert "msgpack" in client.welcome["features"]


async def test_a_token_may_come_beside_the_subprotocol(city: Instance) -> None:
    token = await city.session(unique("alice"))
    async with city.connected("", subprotocols=[PACKED, f"token.{token}"]) as alice:
        assert alice.is_packed
        assert await alice.ask(type="ping") == {"type": "pong", "id": "f1"}


async def test_a_publication_reaches_each_in_its_encoding(city: Instance) -> None:
    token = await city.session(unique("alice"), channels=ALL)
    async with city.connected(token) as plain, packed(city, token) as alice:
        await plain.subscribe("guide")
        await alice.subscribe("guide")
        ack = await alice.ask(type="publish", channel="guide", payload=IN_MSGPACK)
        assert ack["status"] == "published"
        seen, shown = await plain.of("message"), await alice.of("message")
        assert seen["payload"] == IN_JSON
        assert shown["payload"] == IN_MSGPACK
        assert seen | {"payload": 0} == shown | {"payload": 0}
        assert (shown["offset"], shown["epoch"]) == (ack["offset"], ack["epoch"])
        await plain.ask(type="publish", channel="guide", payload=IN_JSON)
        assert (await plain.of("message"))["payload"] == IN_JSON
        assert (await alice.of("message"))["payload"] == IN_MSGPACK


async def test_what_was_missed_is_replayed_in_msgpack(city: Instance) -> None:
    token = await city.session(unique("alice"), channels=ALL)
    async with city.connected(token) as plain, packed(city, token) as alice:
        start = (await plain.subscribe("guide"))["guide"]
        for number in range(300):
            await plain.send(type="publish", channel="guide", payload=IN_JSON | {"n": number})
        await plain.messages(300)
        ack = await alice.subscribe("guide", **start)
        assert ack["guide"] == start | {"recovered": True, "missed": 300}
        await plain.send(type="publish", channel="guide", payload={"n": 300})
        got = await alice.messages(301)
        assert [message["payload"]["n"] for message in got] == list(range(301))
        assert got[0]["payload"] == IN_MSGPACK | {"n": 0}


async def test_a_question_and_its_answer_in_parts_between_two_clients_of_msgpack(city: Instance) -> None:
    async with (
        packed(city, await city.session(unique("alice"))) as alice,
        packed(city, await city.service("guide", *SCOPES)) as agent,
    ):
        await agent.ask(type="consume", channel="guide", max=1)
        asked = await alice.ask(channel="guide", payload=IN_MSGPACK | {"message": "hello", "conversation_id": "c"})
        delivery = await agent.of("delivery")
        assert delivery["message"]["payload"] == IN_MSGPACK | {"message": "hello", "conversation_id": "c"}
        reply = {"type": "reply", "delivery_id": delivery["delivery_id"]}
        await agent.ask(**reply, stream="start")
        await agent.ask(**reply, stream="delta", payload={"message": "hel"})
        await agent.ask(**reply, stream="end", payload={"message": "hello", "picture": b"\x89PNG"})
        parts = [await alice.of("chat_response") for _ in range(3)]
        assert [part["stream"] for part in parts] == ["start", "delta", "end"]
        assert parts[1]["payload"] == {"message": "hel"}
        assert parts[2]["payload"] == {"message": "hello", "picture": b"\x89PNG"}
        assert parts[2]["in_reply_to"] == asked["message_id"]


async def test_the_same_body_under_a_key_is_the_same_in_both_encodings(city: Instance) -> None:
    token = await city.session(unique("alice"), channels=ALL)
    async with city.connected(token) as plain, packed(city, token) as alice:
        for kind in ({"type": "publish"}, {"type": "message"}):
            say = {**kind, "channel": "guide", "key": unique("k")}
            first = await plain.ask(**say, payload=IN_JSON)
            again = await alice.ask(**say, payload=dict(reversed(IN_MSGPACK.items())))
            assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])
            assert (await alice.ask(**say, payload={"data": "AP8="}))["code"] == "conflict"


@pytest.mark.parametrize("frame", [{"payload": {1: 2}}, {"payload": {"a": float("nan")}}, {"payload": {}, "x": 1}])
async def test_a_refusal_comes_in_msgpack_and_the_connection_stays(city: Instance, frame: Frame) -> None:
    async with packed(city, await city.session(unique("alice"))) as alice:
        error = await alice.ask(**frame)
        assert (error["type"], error["code"]) == ("error", "invalid_message")
        await alice.nothing_but_pong()


async def test_what_is_too_large_in_json_is_refused_and_a_larger_frame_closes(platform: Platform) -> None:
    city = await platform.start(max_message_bytes=10_000)
    async with packed(city, await city.session(unique("alice"))) as alice:
        assert (await alice.ask(payload={"data": b"x" * 9_000}))["code"] == "too_large"
        assert (await alice.ask(payload={"data": b"x" * 7_000}))["status"] == "queued"
        await alice.send(payload={"data": b"x" * 10_000})
        assert await alice.close_code() == 1009


async def test_text_where_msgpack_was_agreed_on_closes_with_1003(city: Instance) -> None:
    async with packed(city, await city.session(unique("alice"))) as alice:
        await alice.socket.send('{"type": "ping"}')
        assert await alice.close_code() == 1003


async def test_binary_messages_may_come_in_fragments(city: Instance) -> None:
    async with packed(city, await city.session(unique("alice"))) as alice:
        data = msgspec.msgpack.encode({"type": "ping", "id": "ü"})
        await alice.socket.send([data[:1], data[1:9], data[9:]])
        assert await alice.of("pong") == {"type": "pong", "id": "ü"}


async def test_heartbeats_warnings_and_ends_of_subscriptions_come_in_msgpack(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=1)
    name = unique("alice")
    token = await city.session(name, channels=ALL, ttl_seconds=3)
    async with packed(city, token) as alice:
        await alice.subscribe("guide")
        async with asyncio.timeout(PATIENCE):
            while (await _raw(alice))["type"] != "heartbeat":
                pass
        assert (await alice.of("system"))["event"] == "session_expiring"
        lesser = await city.session(name, channels={})
        await alice.send(type="refresh", session_token=lesser)
        assert (await alice.of("unsubscribed"))["channel"] == "guide"


async def _raw(client: WireClient) -> Frame:
    frame: Frame = msgspec.msgpack.decode(await client.socket.recv(decode=False))
    return frame


async def test_a_publication_is_translated_once_for_all_and_not_at_all_for_nobody(
    city: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    translated: list[bytes] = []
    original = msgpack.packed

    def counted(text: bytes) -> bytes:
        translated.append(text)
        return original(text)

    monkeypatch.setattr(msgpack, "packed", counted)
    token = await city.session(unique("alice"), channels=ALL)
    async with city.connected(token) as plain, packed(city, token) as one, packed(city, token) as two:
        await plain.subscribe("guide")
        await plain.ask(type="publish", channel="guide", payload={"n": 1})
        await plain.of("message")
        assert not [text for text in translated if b'"message_id"' in text]
        await one.subscribe("guide")
        await two.subscribe("guide")
        await plain.ask(type="publish", channel="guide", payload={"n": 2})
        for client in (one, two):
            assert (await client.of("message"))["payload"] == {"n": 2}
        assert len([text for text in translated if b'"message_id"' in text]) == 1
