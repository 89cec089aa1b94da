"""MessagePack that lies, nests, repeats and cannot be said in JSON: each gets one answer, and harms nobody else."""

from __future__ import annotations

import asyncio
import json
import math
import random
import struct
from typing import Any

import msgspec
import pytest

from tests.contract.agents import agent_on
from tests.contract.packed import PackedClient, binary, decode, encode, packed, unpacked, upgraded_packed
from tests.contract.raw import BINARY, PING, PONG, Raw, frame, text
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE
from tests.support.wire_client import WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
SEED = 20261120
Frame = dict[str, Any]
Packed = PackedClient


def head(id_: str = "1", **fields: Any) -> bytes:
    """The entries of a map, without the byte that says how many."""
    return b"".join(encode(name) + encode(value) for name, value in {"id": id_, **fields}.items())


def publishing(channel: str, payload: bytes, id_: str = "1") -> bytes:
    """A publish frame with this as its payload's encoding."""
    return b"\x84" + head(id_, type="publish", channel=channel) + encode("payload") + payload


async def lives(raw: Raw, name: str = "after") -> None:
    await raw.send(binary({"type": "ping", "id": name}))
    assert await unpacked(raw) == {"type": "pong", "id": name}


NO_OBJECT = [
    b"", b"\xc0", b"\x90", b"\x01", b"\xc1", b"\xa4ping", b"\xc4\x02{}", b'{"type":"ping"}', b"\x80\x80",
    b"\x81", b"\x81\xa4type", b"\x81\xa4type\xa4pin", encode({"type": "ping"}) + b"\x00",
    encode({"type": "ping"}) * 2, b"\xdf\xff\xff\xff\xff", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff" + b"x" * 100, b"\xde\xff\xff" + encode("type") + encode("ping"),
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xd6\xff\x00\x00\x00\x01", b"\xc7\x00\x05", b"\x91" * 1000, b"\x91" * 1_000_000, b"\x81\xa1a" * 1_000_000,
    b"\x81\xa4type\xa4p\xffng", b"\x81\xc4\x04type\xa4ping", b"\x81\x01\xa4ping", b"\x81\x90\x90", b"\x81\xc0\xc0",
    b"\xdd\x00\xff\xff\xff" + b"\xc0" * 1000,
]  # fmt: skip


@in_town
@pytest.mark.parametrize("data", NO_OBJECT, ids=lambda data: f"{data[:12].hex()}-{len(data)}")
async def test_what_is_no_object_of_the_protocol_is_refused_and_the_connection_stays(
    town: Instance, data: bytes
) -> None:
    async with upgraded_packed(town.url, await town.session(unique("mallory"))) as raw:
        await raw.send(frame(BINARY, data))
        refusal = await unpacked(raw)
        assert (refusal["type"], refusal["code"]) == ("error", "invalid_message")
        assert refusal["message"].startswith("Invalid message format")
        assert refusal["retryable"] is False
        await lives(raw)


@in_town
@pytest.mark.parametrize("repeated", ["type", "id", "channel"])
async def test_a_field_that_comes_twice_gets_one_answer(town: Instance, channel: str, repeated: str) -> None:
    values = {"type": ("ping", "publish"), "id": ("1", "2"), "channel": (channel, "nowhere")}[repeated]
    fields = {"type": "publish", "channel": channel, "payload": {}, "id": "1"}
    entries = [(name, value) for name, value in fields.items() if name != repeated]
    entries += [(repeated, value) for value in values]
    data = bytes([0x80 | len(entries)]) + b"".join(encode(name) + encode(value) for name, value in entries)
    async with upgraded_packed(town.url, await town.session(unique("mallory"))) as raw:
        await raw.send(frame(BINARY, data))
        answer = await unpacked(raw)
        assert answer["type"] in {"error", "pong", "ack"}
        assert answer.get("code") != "internal"
        await lives(raw)


UNSPEAKABLE = {
    "not a number": encode({"n": math.nan}),
    "infinite": encode({"n": math.inf}),
    "minus infinite": b"\x81\xa1n\xca\xff\x80\x00\x00",
    "text that is no UTF-8": b"\x81\xa1n\xa2\xc3\x28",
    "half a surrogate": b"\x81\xa1n\xa3\xed\xa0\x80",
    "overlong": b"\x81\xa1n\xa2\xc0\x80",
    "a name that is no UTF-8": b"\x81\xa1\xff\x01",
    "a name that is a number": b"\x81\x01\x02",
    "a name that is bytes": b"\x81\xc4\x01n\x02",
    "a name that is a list": b"\x81\x91\x01\x02",
    "a name that is nothing": b"\x81\xc0\x02",
    "a name that is a float": b"\x81" + struct.pack("!Bd", 0xCB, 0.5) + b"\x02",
    "a time": b"\x81\xa1n" + b"\xd6\xff\x00\x00\x00\x01",
    "a time far away": b"\x81\xa1n" + b"\xc7\x0c\xff" + b"\xff" * 12,
    "an extension": b"\x81\xa1n" + b"\xd4\x05\x00",
    "an empty extension": b"\x81\xa1n" + b"\xc7\x00\x05",
    "unsigned 64 bit": encode({"n": 2**64 - 1}),
    "the same name twice": b"\x82\xa1n\x01\xa1n\x02",
    "a name that is reserved": encode({"$bytes": b"\x00"}),
    "a reserved name of text": encode({"$bytes": "no base64!"}),
    "a reserved name beside another": encode({"$bytes": "AA==", "n": 1}),
    "a reserved name within": encode({"n": {"$bytes": "AA=="}}),
    "an unused code": b"\x81\xa1n\xc1",
    "a hundred levels": b"\x81\xa1n" * 99 + b"\x80",
    "a thousand levels": b"\x81\xa1n" * 999 + b"\x80",
    "a million levels": b"\x81\xa1n" * 300_000 + b"\x80",
    "lists without end": b"\x81\xa1n" + b"\x91" * 500_000 + b"\x90",
    "a list that lies": b"\x81\xa1n\xdd\xff\xff\xff\xff",
    "an object that lies": b"\xdf\xff\xff\xff\xff",
    "text that lies": b"\x81\xa1n\xdb\xff\xff\xff\xffx",
    "bytes that lie": b"\x81\xa1n\xc6\x7f\xff\xff\xffx",
    "empty name": encode({"": 1}),
    "a long name": encode({"n" * 100_000: 1}),
}


@pytest.mark.parametrize("what", UNSPEAKABLE)
@in_town
async def test_a_payload_is_refused_or_reaches_everybody_whole(town: Instance, channel: str, what: str) -> None:
    """What one encoding can say and the other cannot must not break those who speak the other."""
    rights = {channel: ["subscribe", "publish", "history", "send"]}
    token = await town.session(unique("mallory"), channels=rights)
    victim = await town.session(unique("alice"), channels=rights)
    async with (
        upgraded_packed(town.url, token) as raw, packed(town, victim) as one, town.connected(victim) as two,
        agent_on(town, channel) as agent,
    ):  # fmt: skip
        await one.subscribe(channel)
        await two.subscribe(channel)
        await raw.send(frame(BINARY, publishing(channel, UNSPEAKABLE[what])))
        answer = await unpacked(raw)
        assert answer.get("code", "invalid_message") in {"invalid_message", "too_large"}, answer
        asking = b"\x83" + head("2", channel=channel) + encode("payload") + UNSPEAKABLE[what]
        await raw.send(frame(BINARY, asking))
        queued = await unpacked(raw)
        assert queued["type"] == answer["type"], "asked as published"
        after = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": "after"}})
        await said_alike(answer, after, one, two)
        if queued["type"] == "ack":
            delivery = await agent.of("delivery")
            assert delivery["message"]["message_id"] == queued["message_id"]
            await agent.ask(type="done", delivery_ids=[delivery["delivery_id"]])
        await agent.nothing_but_pong()
        page = await town.done("post_office.get_channel_history", {"channel": channel})
        assert page["publications"][-1]["message_id"] == after["message_id"]


async def said_alike(answer: Frame, after: Frame, one: WireClient, two: WireClient) -> None:
    """Both heard what was accepted, and then what came after, without a break.

    Integers of more than 64 bits are doubles in MessagePack, as they are to a browser.
    """
    expected = ([answer["message_id"]] if answer["type"] == "ack" else []) + [after["message_id"]]
    got = [await client.messages(len(expected)) for client in (one, two)]
    for client in (one, two):
        await client.nothing_but_pong()
    assert [[frame["message_id"] for frame in frames] for frames in got] == [expected, expected]
    for first, second in zip(*got, strict=True):
        assert json.loads(json.dumps(second, allow_nan=False)) == second
        if b"$bytes" not in encode(first) and not holds_bytes(first):
            assert as_doubles(first) == as_doubles(second)
            assert json.loads(json.dumps(first, allow_nan=False)) == first, "what it hands out it would take"


def as_doubles(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: as_doubles(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_doubles(inner) for inner in value]
    return float(value) if type(value) is int and not -(2**63) <= value < 2**64 else value


def holds_bytes(value: Any) -> bool:
    if isinstance(value, dict):
        return any(holds_bytes(inner) for inner in value.values())
    return isinstance(value, bytes) or (isinstance(value, list) and any(map(holds_bytes, value)))


SAID_IN_JSON = {
    "half a surrogate": '{"n": "\\ud800"}',
    "halves the wrong way round": '{"n": "\\udc00\\ud800"}',
    "a name of half a surrogate": '{"\\udfff": 1}',
    "a number beyond 64 bit": '{"n": 123456789012345678901234567890}',
    "a number below 64 bit": '{"n": -9223372036854775809}',
    "unsigned 64 bit": '{"n": 18446744073709551615}',
    "beyond unsigned 64 bit": '{"n": 18446744073709551616}',
    "a number beyond floats": '{"n": 1e400}',
    "minus nothing": '{"n": -0.0}',
    "the same name twice": '{"n": 1, "n": 2}',
    "not a number": '{"n": NaN}',
    "a reserved name": '{"$bytes": "AA=="}',
    "a reserved name of a number": '{"n": {"$bytes": 7}}',
    "a reserved name of no base64": '{"n": {"$bytes": "***"}}',
    "base64 without padding": '{"n": {"$bytes": "AA"}}',
    "a hundred levels": '{"n": ' * 99 + "{}" + "}" * 99,
    "spaces": '{ "n" :\t[ 1 ,\n 2 ] }',
    "escapes": '{"n": "\\u0000\\u2028\\/\\ud83d\\ude00"}',
    "many digits": '{"n": 0.1000000000000000055511151231257827021181583404541015625}',
    "a digit's five thousand": '{"n": ' + "1" * 5000 + "}",
    "a tiny number": '{"n": 1e-400}',
}


@pytest.mark.parametrize("what", SAID_IN_JSON)
@pytest.mark.parametrize("way", ["socket", "http"])
@in_town
async def test_what_json_can_say_reaches_packed_subscribers_or_is_refused(
    town: Instance, channel: str, what: str, way: str
) -> None:
    rights = {channel: ["subscribe", "publish", "history", "send"]}
    payload = SAID_IN_JSON[what]
    alice = await town.session(unique("alice"), channels=rights)
    async with packed(town, alice) as one, town.connected(alice) as two, packed(town, OPERATOR_TOKEN) as agent:
        await one.subscribe(channel)
        await two.subscribe(channel)
        await agent.ask(type="consume", channel=channel)
        if way == "socket":
            data = f'{{"type": "publish", "id": "f0", "channel": "{channel}", "payload": {payload}}}'
            await two.socket.send(data)
            answer = await two.until(lambda frame: frame.get("id") == "f0" or frame["type"] == "error")
            await two.socket.send(f'{{"id": "f-1", "channel": "{channel}", "payload": {payload}}}')
            queued = await two.until(lambda frame: frame.get("id") == "f-1" or frame["type"] == "error")
        else:
            body = f'{{"channel": "{channel}", "message": {payload}}}'
            told = await town.http.post(
                "/soa/post-office/publish_to_agent_channel", content=body.encode(), headers=town.operator
            )
            assert told.status_code < 500, told.text
            answer = {"type": "ack" if told.status_code == 200 else "error", **told.json()}
            queued = {"type": "error"}
        assert answer.get("code", "invalid_message") in {"invalid_message", "invalid_argument", "too_large"}, answer
        after = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": "after"}})
        await said_alike(answer, after, one, two)
        if queued["type"] == "ack":
            delivery = await agent.of("delivery")
            assert delivery["message"]["message_id"] == queued["message_id"]
        await agent.nothing_but_pong()


async def test_what_does_not_fit_once_it_is_json_is_no_break(platform: Platform) -> None:
    """Base64 is a third longer than the bytes: a message within the limit may be above it for others."""
    city = await platform.start(max_message_bytes=300_000)
    token = await city.session(unique("alice"), channels={"guide": ["subscribe", "publish", "history"]})
    async with packed(city, token) as one, city.connected(token) as two:
        await one.subscribe("guide")
        await two.subscribe("guide")
        answer = await one.ask(type="publish", channel="guide", payload={"raw": b"\x00" * 290_000})
        assert answer.get("code", "too_large") == "too_large"
        after = await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}})
        await said_alike(answer, after, one, two)


async def test_a_message_above_the_limit_closes_with_1009(platform: Platform) -> None:
    city = await platform.start(max_message_bytes=100_000)
    async with upgraded_packed(city.url, await city.session(unique("mallory"))) as raw:
        await raw.send(frame(BINARY, b"\xc6\x00\x02\x00\x00" + b"\x00" * 0x20000))
        assert await raw.close_code() == 1009


@in_town
async def test_lies_about_lengths_cost_no_memory_and_no_time(town: Instance) -> None:
    lies = [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff"]
    nested = [b"\xdd\x7f\xff\xff\xff" * 90, b"\x81\xa7payload" + b"\xdf\x7f\xff\xff\xff\xa1a" * 90]
    data = b"".join(frame(BINARY, lie) for lie in lies + nested)
    async with upgraded_packed(town.url, await town.session(unique("mallory"))) as raw:
        await raw.send(data * 50)
        async with asyncio.timeout(PATIENCE):
            for _ in range(50 * len(lies + nested)):
                assert (await unpacked(raw))["code"] in {"invalid_message", "rate_limited"}
            await lives(raw)


VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 64, 2**31, 2**63, 2**64 - 1, -(2**63), 0.5, math.nan, "", "guide", "chat", "user:alice", b"",
    b"guide", b"\xff", "pillar:*", "start", "\x00", "x" * 300, [], {}, [[]], ["guide"], [b"x"], {"guide": None},
    {"guide": {"offset": 0, "epoch": b"x"}}, {b"guide": None}, {1: 2}, {"message": b"x"}, {"conversation_id": b"c"},
    msgspec.msgpack.Ext(5, b"x"), {"guide": {"offset": 1.5}}, {"guide": {"offset": -1, "epoch": ""}},
)  # fmt: skip
TYPES = ("message", "subscribe", "unsubscribe", "publish", "refresh", "ping", "consume", "done", "failed", "working",
         "reply", "forward", "stop", "typing", "read", "nonsense", b"ping", 7)  # fmt: skip
FIELDS = ("channel", "channels", "intent", "payload", "key", "session_token", "max", "delivery_id", "delivery_ids",
          "reason", "retry", "stream", "message_id", "typing", "offset", "\x00")  # fmt: skip


async def test_any_object_gets_one_answer_under_its_id(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=100_000, user_messages_burst=1_000_000)
    token = await city.session(unique("alice"), channels={"*": ["subscribe", "send", "history", "publish"]})
    chance = random.Random(SEED)  # noqa: S311
    frames: list[dict[Any, Any]] = []
    for number in range(1200):
        fields = chance.sample(FIELDS, chance.randint(0, 4))
        kind = {"type": chance.choice(TYPES)} if chance.random() < 0.9 else {}
        frames.append(kind | {name: chance.choice(VALUES) for name in fields} | {"id": str(number)})
    async with upgraded_packed(city.url, token) as raw:
        sending = asyncio.create_task(raw.send(b"".join(binary(value) for value in frames), 30))
        answered: list[Frame] = []
        while len(answered) < len(frames):
            answer = await unpacked(raw, 20)
            if answer["type"] in {"message", "chat_response", "unsubscribed"}:
                continue
            assert answer["type"] in {"ack", "error", "pong"}, answer
            assert answer.get("code") != "internal", (frames[len(answered)], answer)
            answered.append(answer)
        await sending
        await raw.send(binary({"type": "ping", "id": "over"}))
        while (answer := await unpacked(raw))["type"] != "pong":
            assert "id" not in answer, answer
    named = [answer["id"] for answer in answered if "id" in answer]
    assert len(named) == len(set(named)), "none is answered twice"


async def test_any_bytes_end_at_most_that_one(city: Instance) -> None:
    chance = random.Random(SEED)  # noqa: S311
    token = await city.session(unique("mallory"), channels={"guide": ["publish", "subscribe", "send"]})
    whole = encode({"type": "publish", "channel": "guide", "payload": {"a": [1, b"x", "y", None, 0.5]}, "id": "1"})
    async with packed(city, await city.session(unique("bystander"))) as bystander:
        await bystander.subscribe("guide")
        async with upgraded_packed(city.url, token) as raw:
            for _ in range(250):
                data = bytearray(whole)
                for _ in range(chance.randint(1, 5)):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                await raw.send(frame(BINARY, bytes(data)))
            await raw.send(frame(PING, b"last") + text({"type": "ping", "id": "last"}))
            answers = 0
            while True:
                opcode, received = await raw.frame(10)
                if opcode == PONG:
                    break
                answer = decode(received) if opcode == BINARY else json.loads(received)
                answers += answer["type"] in {"ack", "error"}
                assert answer.get("code") != "internal", answer
        assert await bystander.ask(type="ping", id="still") == {"type": "pong", "id": "still"}
