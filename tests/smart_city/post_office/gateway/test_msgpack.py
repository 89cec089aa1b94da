"""MessagePack and the JSON that everything else knows: nothing is lost between them, and no rule is looser in one."""

from __future__ import annotations

import base64
import json
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foundations.errors import CityError
from smart_city.post_office.envelopes import canonical
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.messages import BadFrame, texts_of, wire, wire_binary
from smart_city.post_office.gateway.msgpack import Packing, decode, packed
from smart_city.post_office.gateway.payloads import read

MOST = 1 << 20
pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


def carried(payload: dict[str, Any]) -> Any:
    """The JSON payload that a message in MessagePack becomes."""
    frame = decode(pack({"payload": payload}), most_bytes=MOST)
    assert isinstance(frame, messages.Message)
    return json.loads(bytes(frame.payload))


def shown(payload: Any) -> Any:
    """What a reader of MessagePack gets of a payload in JSON."""
    return unpack(packed(json.dumps({"type": "message", "payload": payload}).encode()))["payload"]


def refused(data: bytes) -> BadFrame:
    with pytest.raises(BadFrame) as caught:
        decode(data, most_bytes=MOST)
    return caught.value


def in_base64(data: bytes) -> dict[str, str]:
    return {"$bytes": base64.b64encode(data).decode()}


# From a client


def test_a_frame_means_what_it_means_in_json() -> None:
    frame = {
        "type": "subscribe", "id": "s1", "channels": {"guide": None, "pillar:content": {"offset": 41, "epoch": "e"}},
    }  # fmt: skip
    assert decode(pack(frame), most_bytes=MOST) == messages.decode(json.dumps(frame).encode())


def test_bytes_become_base64_at_any_depth() -> None:
    payload = {"a": b"\x00\xff", "b": [1, {"c": [b"", "text"]}], "message": "hello"}
    assert carried(payload) == {
        "a": in_base64(b"\x00\xff"), "b": [1, {"c": [in_base64(b""), "text"]}], "message": "hello",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"payload": b"x"}, "bytes"),
        ({"payload": {}, "id": b"x"}, "bytes"),
        ({"payload": {}, "channel": b"guide"}, "bytes"),
        ({"type": "subscribe", "channels": [b"guide"]}, "bytes"),
        ({"payload": {"a": math.nan}}, "NaN"),
        ({"payload": {"a": [math.inf]}}, "Infinity"),
        ({"payload": {"a": -math.inf, "b": b""}}, "Infinity"),
        ({"payload": {1: 2}}, "keys"),
        ({"payload": {"a": {b"b": 2}}}, "keys"),
        ({"payload": {"a": {True: 2}}}, "keys"),
        ({"payload": {"a": {None: 2}}}, "keys"),
        ({b"payload": {}}, "keys"),
        ({"payload": {"a": msgspec.msgpack.Ext(5, b"x")}}, "extension type 5"),
        ({"payload": {"at": datetime.now(UTC)}}, "timestamps"),
    ],
)
def test_what_json_cannot_say_is_refused_with_a_sentence(frame: dict[Any, Any], said: str) -> None:
    bad = refused(pack(frame))
    assert bad.error.code == "invalid_message"
    assert bad.error.message.startswith("Invalid message format")
    assert said in bad.error.message


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\xc1", b"\xc0", b"\x01", b"\x93\x01\x02\x03", b"\xa5hello", pack({"payload": {}})[:-1], pack({}) * 2,
        b"\x81\xa7payload\x81\xa1a\xa2\xff\xfe", b"\x81\xa2\xff\xfe\x01", b"\x81\xa1a\xa3\xed\xa0\x80",
        b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff",
        b"\x81\xa7payload" + b"\x91" * 100_000 + b"\xc0", b"\x91" * 100_000,
    ],
)  # fmt: skip
def test_what_is_not_one_map_is_an_invalid_message(data: bytes) -> None:
    assert refused(data).error.code == "invalid_message"


@pytest.mark.parametrize("depth", [99, 150, 400, 900])
@pytest.mark.parametrize("leaf", [1, b"bytes"])
def test_a_payload_is_bounded_in_depth_as_in_json(depth: int, leaf: object) -> None:
    data = b"\x81\xa7payload\x81\xa1a" + b"\x91" * (depth - 1) + pack(leaf)
    try:
        frame = decode(data, most_bytes=MOST)
        assert isinstance(frame, messages.Message)
        read(frame.payload)
    except BadFrame as bad:
        assert (bad.error.code, depth > 100) == ("invalid_message", True)
    except CityError as error:
        assert (error.code, depth > 100) == ("invalid_message", True)
    else:
        assert depth < 100


def test_what_would_be_too_large_in_json_is_too_large() -> None:
    data = pack({"payload": {"data": b"x" * 900}, "id": "f1"})
    assert isinstance(decode(data, most_bytes=1300), messages.Message)
    with pytest.raises(BadFrame) as caught:
        decode(data, most_bytes=1200)
    assert (caught.value.error.code, caught.value.frame_id) == ("too_large", "f1")


def test_a_refused_frame_keeps_its_id_where_it_can_be_read() -> None:
    assert refused(pack({"payload": {"a": math.nan}, "id": "f9"})).frame_id == "f9"
    assert refused(pack({"payload": {}, "surplus": 1, "id": "f9"})).frame_id == "f9"
    assert refused(pack({"payload": b"", "id": 9})).frame_id == ""
    assert refused(pack({"payload": b"", "id": "i" * 129})).frame_id == ""


def test_the_same_payload_is_the_same_in_both_encodings() -> None:
    payload = {"z": 1, "a": [2.5, None, True, "é\n"], "m": {"y": 10**15, "b": -3}}
    in_json = messages.decode(json.dumps({"payload": payload}, indent=1).encode())
    in_msgpack = decode(pack({"payload": payload}), most_bytes=MOST)
    assert isinstance(in_json, messages.Message)
    assert isinstance(in_msgpack, messages.Message)
    assert canonical(read(in_json.payload)) == canonical(read(in_msgpack.payload))


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
words = st.sampled_from(
    ["type", "id", "key", "channel", "channels", "payload", "intent", "offset", "epoch", "stream", "guide", "message",
     "publish", "subscribe", "reply", "done", "delivery_id", "delivery_ids", "max", "retry", "chat", "start", ""]
)  # fmt: skip
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)


def outcome(read: Any, data: bytes) -> Any:
    """The frame, or the code and id with which it was refused."""
    try:
        return read(data)
    except BadFrame as bad:
        return bad.error.code, bad.frame_id


@given(st.dictionaries(words, plain, max_size=5))
def test_every_frame_has_the_same_fate_in_both_encodings(frame: dict[str, Any]) -> None:
    in_json = outcome(messages.decode, msgspec.json.encode(frame))
    in_msgpack = outcome(lambda data: decode(data, most_bytes=MOST), pack(frame))
    assert msgspec.json.encode(in_msgpack) == msgspec.json.encode(in_json)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_frame_or_a_refusal(data: bytes) -> None:
    outcome(lambda data: decode(data, most_bytes=MOST), data)


@settings(suppress_health_check=[HealthCheck.too_slow])  # it measures how busy the machine is
@given(st.dictionaries(words, values, max_size=4), st.integers(0, 400), st.integers(0, 255))
def test_and_so_is_a_frame_with_a_wrong_byte(frame: dict[str, Any], at: int, byte: int) -> None:
    data = bytearray(pack(frame))
    data[at % len(data)] = byte
    outcome(lambda data: decode(data, most_bytes=MOST), bytes(data))


# To a client


def test_what_was_stored_in_base64_is_bytes_again() -> None:
    assert shown({"a": in_base64(b"\x00\xff"), "b": [{"c": in_base64(b"")}]}) == {"a": b"\x00\xff", "b": [{"c": b""}]}


def test_the_question_in_a_delivery_has_its_bytes_too() -> None:
    frame = {"type": "delivery", "message": {"payload": {"a": in_base64(b"x")}, "context": in_base64(b"x")}}
    assert unpack(packed(json.dumps(frame).encode()))["message"] == {"payload": {"a": b"x"}, "context": in_base64(b"x")}


def test_bytes_are_found_when_their_key_was_written_with_escapes() -> None:
    assert unpack(packed(b'{"payload": {"a": {"\\u0024byt\\u0065s": "eA=="}}}')) == {"payload": {"a": b"x"}}


@pytest.mark.parametrize(
    "value",
    [
        {"$bytes": "no base64"}, {"$bytes": "eA"}, {"$bytes": "eB=="}, {"$bytes": "eA==\n"}, {"$bytes": "é"},
        {"$bytes": 5}, {"$bytes": None}, {"$bytes": "eA==", "more": 1}, {"$byte": "eA=="}, "$bytes", ["$bytes", "eA=="],
    ],
)  # fmt: skip
def test_what_only_looks_like_bytes_stays_what_it_is(value: object) -> None:
    assert shown({"a": value}) == {"a": value}


def test_a_payload_itself_is_always_a_map() -> None:
    assert shown(in_base64(b"x")) == in_base64(b"x")


def test_an_integer_beyond_64_bits_is_what_it_is_in_javascript() -> None:
    big = {"a": 2**64, "b": [-(2**63) - 1], "c": 2**64 - 1, "d": int("9" * 400), "e": in_base64(b"x")}
    assert shown(big) == {"a": 2.0**64, "b": [-(2.0**63)], "c": 2**64 - 1, "d": math.inf, "e": b"x"}


@given(st.dictionaries(st.text(), values, max_size=4))
def test_whatever_is_sent_in_msgpack_comes_back_in_msgpack(payload: dict[str, Any]) -> None:
    assert shown(carried(payload)) == payload


@given(st.dictionaries(st.text(), values.filter(lambda value: not isinstance(value, bytes)), max_size=4))
def test_whatever_a_reader_of_msgpack_got_of_json_it_can_send_back(payload: dict[str, Any]) -> None:
    stored = carried(payload)
    assert carried(shown(stored)) == stored


# As frames


def test_many_frames_become_as_many_binary_ones() -> None:
    data = Packing()(wire(b'{"type":"heartbeat"}') + wire(b'{"type":"pong"}'))
    assert data == wire_binary(pack({"type": "heartbeat"})) + wire_binary(pack({"type": "pong"}))


def test_what_goes_to_many_is_translated_once() -> None:
    packing = Packing()
    frame = wire(b'{"type":"pong"}')
    assert packing(frame) is packing(frame)
    again = wire(b'{"type":"pong"}')
    assert packing(again) is not packing(frame)


def test_a_frame_that_cannot_be_translated_does_not_keep_others_from_being_sent() -> None:
    data = Packing()(wire(b"no json") + wire(b'{"type":"pong"}'))
    lost, pong = (unpack(text) for text in texts_of(data))
    assert (lost["type"], lost["code"]) == ("error", "internal")
    assert pong == {"type": "pong"}
