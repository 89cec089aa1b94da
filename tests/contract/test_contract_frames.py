"""Section 4, client to server: what is taken, what is refused with which code, and that the connection stays."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.shapes import UUID7, has_only, is_publication, position
from tests.support.platform import Instance, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")

Frame = dict[str, Any]


def refused(answer: Frame, code: str) -> Frame:
    """An error frame as section 4 gives it."""
    assert answer["type"] == "error", answer
    has_only(answer, {"type", "code", "message", "retryable"}, {"retry_after", "id", "delivery_id"})
    assert answer["code"] == code, answer
    assert isinstance(answer["message"], str) and answer["message"]
    assert isinstance(answer["retryable"], bool)
    return answer


async def alone(town: Instance, **arguments: Any) -> str:
    return await town.session(unique("alice"), **arguments)


@pytest.mark.parametrize(
    "words",
    ["", " ", "hello", "{", "{}}", "[]", "[1, 2]", '"text"', "7", "null", "true", "{'type': 'ping'}", "NaN",
     '{"type": "ping"', '{"type": "ping"} {"type": "ping"}', '{"type": "ping",}', '\ufeff{"type": "ping"}',
     '{"payload": {"n": NaN}}', '{"payload": {"n": Infinity}}', '{"payload": {"n": 01}}', '{"payload": {"n": .5}}',
     '{"payload": {"m": "\t"}}', '{"payload": {"m": "\\x"}}', "[" * 200_000, '{"payload":' * 100_000, "\x00"],
    ids=lambda words: repr(words[:20]),
)  # fmt: skip
async def test_what_is_no_json_object_is_an_invalid_message(town: Instance, words: str) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.socket.send(words)
        answer = refused(await alice.next(), "invalid_message")
        assert "id" not in answer
        assert answer["message"].startswith("Invalid message format")
        assert answer["retryable"] is False
        await alice.nothing_but_pong()


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"type": "nonsense"}, "unknown_type"),
        ({"type": ""}, "unknown_type"),
        ({"type": "welcome"}, "unknown_type"),
        ({"type": "PING"}, "unknown_type"),
        ({"type": "delivery"}, "unknown_type"),
        ({"type": 7}, "invalid_message"),
        ({"type": ["ping"]}, "invalid_message"),
        ({"type": {"ping": 1}}, "invalid_message"),
        ({"type": "ping", "extra": 1}, "invalid_message"),
        ({"type": "ping", "payload": {}}, "invalid_message"),
        ({"type": "ping", "channel": "guide"}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "offset": 1}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "conversation_id": "c"}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "sender": {"kind": "user", "id": "bob"}}, "invalid_message"),
        ({"channel": "guide"}, "invalid_message"),
        ({}, "invalid_message"),
        ({"channel": "guide", "payload": "text"}, "invalid_message"),
        ({"channel": "guide", "payload": []}, "invalid_message"),
        ({"channel": "guide", "payload": 7}, "invalid_message"),
        ({"channel": "guide", "payload": None}, "invalid_message"),
        ({"channel": 7, "payload": {}}, "invalid_message"),
        ({"channel": ["guide"], "payload": {}}, "invalid_message"),
        ({"channel": "nowhere", "payload": {}}, "unknown_channel"),
        ({"channel": "pillar:nobody", "payload": {}}, "unknown_channel"),
        ({"channel": "", "payload": {}}, "unknown_channel"),
        ({"channel": "Guide", "payload": {}}, "unknown_channel"),
        ({"channel": "guide ", "payload": {}}, "unknown_channel"),
        ({"channel": "guide\n", "payload": {}}, "unknown_channel"),
        ({"channel": "guide:", "payload": {}}, "unknown_channel"),
        ({"channel": "pillar:" + "x" * 129, "payload": {}}, "unknown_channel"),
        ({"channel": "guide", "payload": {}, "intent": "shout"}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "intent": ""}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "intent": 7}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "key": "k" * 65}, "invalid_message"),
        ({"channel": "guide", "payload": {}, "key": 7}, "invalid_message"),
        ({"channel": "guide", "payload": {"conversation_id": 7}}, "invalid_message"),
        ({"channel": "guide", "payload": {"conversation_id": {}}}, "invalid_message"),
        ({"channel": "guide", "payload": {"conversation_id": "c" * 129}}, "invalid_message"),
        ({"type": "subscribe"}, "invalid_message"),
        ({"type": "subscribe", "channels": "guide"}, "invalid_message"),
        ({"type": "subscribe", "channels": ["guide"]}, "invalid_message"),
        ({"type": "subscribe", "channels": None}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": 5}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": "5.abc"}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": []}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"offset": -1, "epoch": "e"}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"offset": "1", "epoch": "e"}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"offset": 1.5, "epoch": "e"}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"offset": True, "epoch": "e"}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"offset": 1, "epoch": 7}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"offset": 1, "epoch": "e", "x": 1}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": {"epoch": "e"}}}, "invalid_message"),
        ({"type": "subscribe", "channels": {"guide": None}, "since": 4}, "invalid_message"),
        ({"type": "unsubscribe"}, "invalid_message"),
        ({"type": "unsubscribe", "channels": "guide"}, "invalid_message"),
        ({"type": "unsubscribe", "channels": {"guide": None}}, "invalid_message"),
        ({"type": "unsubscribe", "channels": [7]}, "invalid_message"),
        ({"type": "publish", "channel": "guide", "payload": {}}, "forbidden"),
        ({"type": "publish", "payload": {}}, "invalid_message"),
        ({"type": "publish", "channel": "guide"}, "invalid_message"),
        ({"type": "refresh"}, "invalid_message"),
        ({"type": "refresh", "session_token": 7}, "invalid_message"),
        ({"type": "consume", "channel": "guide", "max": 1}, "forbidden"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else value,
)
async def test_a_frame_that_breaks_the_protocol_is_refused_under_its_id(
    town: Instance, frame: Frame, code: str
) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.send(**(frame | {"id": "its id"}))
        answer = refused(await alice.next(), code)
        assert answer.get("id") == "its id", answer
        assert answer["retryable"] is False
        await alice.nothing_but_pong()
        await alice.send(**frame)
        assert "id" not in refused(await alice.next(), code)
        await alice.nothing_but_pong()


@pytest.mark.parametrize("name", [7, None, [], {}, True, 1.5])
async def test_an_id_that_is_no_string_is_refused(town: Instance, name: Any) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.send(type="ping", id=name)
        answer = await alice.next()
        if name is None and answer["type"] == "pong":
            return  # null may stand for none
        refused(answer, "invalid_message")
        await alice.nothing_but_pong()


@pytest.mark.parametrize("name", ["1", "", "ü\u2028😀", '"\\', "\x00", "x" * 64, "null"])
async def test_any_short_string_is_an_id(town: Instance, name: str) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.send(type="ping", id=name)
        assert await alice.next() == {"type": "pong", "id": name}


@pytest.mark.parametrize("place", ["id", "key", "channel", "intent", "type"])
async def test_a_lone_surrogate_in_a_name_is_no_defect_of_ours(town: Instance, place: str) -> None:
    frame = {"type": "message", "channel": "guide", "payload": {}, place: "\ud800"}
    async with town.connected(await alone(town)) as alice:
        await alice.send(**frame)
        answer = await alice.until(lambda frame: frame["type"] in {"ack", "error", "pong"})
        assert answer.get("code") != "internal", answer
        await alice.nothing_but_pong()


async def test_a_field_named_twice_harms_nothing(town: Instance) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.socket.send('{"type": "ping", "type": "nonsense", "id": "a", "id": "b"}')
        assert (await alice.next())["type"] in {"error", "pong"}
        await alice.nothing_but_pong()


async def test_ping_is_answered_by_pong_with_or_without_an_id(town: Instance) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.send(type="ping")
        assert await alice.next() == {"type": "pong"}
        assert await alice.ask(type="ping", id="p") == {"type": "pong", "id": "p"}


@pytest.mark.parametrize("intent", ["chat", "query", "command", None])
async def test_a_message_to_an_agent_channel_is_queued_and_nobody_else_sees_it(
    town: Instance, channel: str, intent: str | None
) -> None:
    async with town.connected(await alone(town)) as alice, town.connected(await alone(town)) as bob:
        await alice.subscribe(channel)
        await bob.subscribe(channel)
        frame: Frame = {"channel": channel, "payload": {"message": "hello"}} | ({"intent": intent} if intent else {})
        ack = await alice.ask(**frame)
        has_only(ack, {"type", "id", "channel", "status", "message_id"})
        assert (ack["type"], ack["status"], ack["channel"]) == ("ack", "queued", channel)
        assert UUID7.fullmatch(ack["message_id"])
        typed = await alice.ask(type="message", **frame)
        assert typed["status"] == "queued"
        assert typed["message_id"] > ack["message_id"]
        await alice.nothing_but_pong()
        await bob.nothing_but_pong()


async def test_a_message_without_an_id_is_not_acknowledged(town: Instance, channel: str) -> None:
    async with town.connected(await alone(town)) as alice:
        await alice.send(channel=channel, payload={"message": "hello"})
        await alice.nothing_but_pong()
    status = await town.done("post_office.get_queue_status", {"channel": channel})
    assert status["channels"][channel]["depth"] == 1


async def test_the_channel_is_the_guide_when_none_is_named(town: Instance) -> None:
    async with town.connected(await alone(town)) as alice:
        assert (await alice.ask(payload={"message": "hello"}))["channel"] == "guide"
        assert (await alice.ask(payload={}))["status"] == "queued"


@pytest.mark.parametrize(
    "payload",
    [{"conversation_id": "c" * 128}, {"conversation_id": ""}, {"metadata": {}}, {"message": 7}, {"message": None},
     {"anything": [{"else": 1}]}, {"key": "x" * 100, "intent": 7, "type": "nonsense"}],
    ids=repr,
)  # fmt: skip
async def test_the_server_reads_nothing_of_a_payload_but_its_conversation(
    town: Instance, channel: str, payload: Frame
) -> None:
    async with town.connected(await alone(town)) as alice:
        assert (await alice.ask(channel=channel, payload=payload))["status"] == "queued"


async def test_publish_with_the_right_reaches_every_subscriber_and_the_sender(town: Instance, channel: str) -> None:
    user = unique("alice")
    token = await town.session(user, channels={channel: ["subscribe", "publish"]})
    async with (
        town.connected(token) as writer, town.connected(token) as other, town.connected(await alone(town)) as bob
    ):  # fmt: skip
        for client in (writer, other, bob):
            await client.subscribe(channel)
        ack = await writer.ask(type="publish", channel=channel, payload={"n": 1}, intent="command")
        has_only(ack, {"type", "id", "channel", "status", "message_id", "offset", "epoch"})
        assert (ack["status"], ack["channel"]) == ("published", channel)
        seen = [(await client.messages(1, channel))[0] for client in (writer, other, bob)]
    for publication in seen:
        is_publication(publication)
        assert publication["payload"] == {"n": 1}
        assert publication["intent"] == "command"
        assert publication["message_id"] == ack["message_id"]
        assert position(publication) == position(ack)
        assert (publication["sender"]["kind"], publication["sender"]["id"]) == ("user", user)
    assert seen[0] == seen[1] == seen[2]


async def test_a_service_publishes_on_its_socket_under_its_realm(town: Instance, channel: str) -> None:
    realm = unique("reports")
    token = await town.service(realm, "post_office.publish", "post_office.history")
    async with town.connected(token) as service:
        assert service.welcome["user_id"] == f"~{realm}"
        await service.subscribe(channel)
        await service.ask(type="publish", channel=channel, payload={})
        (got,) = await service.messages(1, channel)
    assert (got["sender"]["kind"], got["sender"]["id"]) == ("service", realm)


@pytest.mark.parametrize(
    ("scopes", "frame"),
    [
        ((), {"type": "publish", "channel": "guide", "payload": {}}),
        (("post_office.consume", "post_office.history"), {"type": "publish", "channel": "guide", "payload": {}}),
        (("post_office.publish", "post_office.history"), {"type": "consume", "channel": "guide"}),
        (("post_office.admin", "post_office.observe"), {"type": "consume", "channel": "guide"}),
        (("post_office.publish", "post_office.consume"), {"type": "subscribe", "channels": {"guide": None}}),
    ],
    ids=str,
)
async def test_a_services_socket_may_what_its_scopes_say(town: Instance, scopes: tuple[str, ...], frame: Frame) -> None:
    token = await town.service(unique("reports"), *scopes)
    async with town.connected(token) as service:
        answer = await service.ask(**frame)
        if frame["type"] == "subscribe":
            assert answer["channels"]["guide"]["error"]["code"] == "forbidden"
        else:
            refused(answer, "forbidden")
        await service.nothing_but_pong()


@pytest.mark.parametrize(
    "frame",
    [
        {"type": "reply", "delivery_id": "guide/01938f3a-7c11-7000-8000-000000000000/1", "payload": {}},
        {"type": "done", "delivery_ids": ["guide/01938f3a-7c11-7000-8000-000000000000/1"]},
        {"type": "failed", "delivery_id": "guide/01938f3a-7c11-7000-8000-000000000000/1", "reason": "x", "retry": True},
        {"type": "working", "delivery_id": "guide/01938f3a-7c11-7000-8000-000000000000/1"},
        {"type": "forward", "delivery_id": "guide/01938f3a-7c11-7000-8000-000000000000/1", "channel": "guide"},
    ],
    ids=lambda frame: str(frame["type"]),
)
async def test_a_session_is_no_agent(town: Instance, frame: Frame) -> None:
    async with town.connected(await alone(town)) as alice:
        refused(await alice.ask(**frame), "forbidden")


async def test_a_message_goes_to_agents_only(town: Instance) -> None:
    """The own logs are not asked, and those of others neither."""
    user = unique("alice")
    async with town.connected(await town.session(user)) as alice:
        for channel in (f"user:{user}", f"connection:{alice.id}", "user:bob", "connection:c1"):
            answer = await alice.ask(channel=channel, payload={"message": "hello"})
            assert answer["type"] == "error"
            assert answer["code"] in {"forbidden", "unknown_channel", "invalid_message"}
        await alice.nothing_but_pong()


async def test_grants_say_what_may_be_sent(town: Instance, channel: str) -> None:
    token = await alone(town, channels={channel: ["subscribe"]})
    async with town.connected(token) as alice:
        await alice.subscribe(channel)
        refused(await alice.ask(channel=channel, payload={}), "forbidden")
        refused(await alice.ask(channel="guide", payload={}), "forbidden")
        refused(await alice.ask(type="publish", channel=channel, payload={}), "forbidden")


async def test_frames_are_answered_in_the_order_sent(town: Instance, channel: str) -> None:
    token = await alone(town, channels={channel: ["send", "subscribe", "publish"]})
    async with town.connected(token) as alice:
        sent: list[Frame] = []
        for n in range(40):
            sent += [
                {"type": "publish", "channel": channel, "payload": {"n": n}, "id": f"p{n}"},
                {"type": "ping", "id": f"q{n}"},
                {"channel": channel, "payload": {}, "id": f"m{n}"},
                {"type": "nonsense", "id": f"x{n}"},
            ]
        for frame in sent:
            await alice.send(**frame)
        answers = [await alice.next() for _ in sent]
    assert {answer["id"] for answer in answers} == {frame["id"] for frame in sent}
    for letter in "pqmx":
        own = [answer["id"] for answer in answers if answer["id"].startswith(letter)]
        assert own == [f"{letter}{n}" for n in range(40)]
    offsets = [answer["offset"] for answer in answers if "offset" in answer]
    assert offsets == sorted(offsets)


def message_of(size: int, channel: str) -> str:
    """A message of exactly so many bytes."""
    frame = json.dumps({"channel": channel, "payload": {"m": ""}, "id": "big"})
    return frame.replace('"m": ""', f'"m": "{"x" * (size - len(frame))}"')


async def test_a_frame_of_exactly_the_limit_is_taken_and_one_byte_more_closes(town: Instance, channel: str) -> None:
    async with town.connected(await alone(town)) as alice:
        limit = int(alice.welcome["max_message_bytes"])
        await alice.socket.send(message_of(limit, channel))
        answer = await alice.next()
        assert (answer["type"], answer["id"]) in {("ack", "big"), ("error", "big")}
        await alice.socket.send(message_of(limit + 1, channel))
        assert await alice.close_code() == 1009
