"""The client in both encodings: what a server of either gets, bytes in payloads, and an earlier server's JSON."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from city_client import CityClient, Question
from city_client.encodings import JSON, MSGPACK, Encoding, offered
from tests.platform.city_client.peer import Peer
from tests.support.platform import Instance, unique

ALL = {"*": ["subscribe", "send", "history", "publish"]}
PAYLOAD: dict[str, Any] = {"data": b"\x00\xff", "deep": [{"a": b""}], "n": 1, "text": "é"}
BOTH = pytest.mark.parametrize("encoding", ["json", "msgpack"])


def in_json(frame: dict[str, Any]) -> Any:
    return msgspec.json.decode(JSON.write(frame))


def test_bytes_are_written_as_the_protocol_has_them() -> None:
    assert in_json({"payload": PAYLOAD})["payload"] == {
        "data": {"$bytes": "AP8="}, "deep": [{"a": {"$bytes": ""}}], "n": 1, "text": "é",
    }  # fmt: skip
    assert msgspec.msgpack.decode(MSGPACK.write({"payload": PAYLOAD})) == {"payload": PAYLOAD}
    for kind in (bytearray, memoryview):
        assert in_json({"a": (kind(b"x"),)}) == {"a": [{"$bytes": "eA=="}]}
        assert msgspec.msgpack.decode(MSGPACK.write({"a": (kind(b"x"),)})) == {"a": [b"x"]}


def test_what_is_neither_json_nor_msgpack_is_written_alike_in_both() -> None:
    value = {"at": datetime(2026, 11, 20, tzinfo=UTC), "id": uuid.UUID(int=7), 5: {1}}
    assert msgspec.msgpack.decode(MSGPACK.write({"payload": value})) == in_json({"payload": value})


@pytest.mark.parametrize("encoding", [JSON, MSGPACK])
def test_what_has_no_form_is_a_type_error(encoding: Encoding) -> None:
    with pytest.raises(TypeError):
        encoding.write({"payload": {"a": object()}})


@pytest.mark.parametrize(
    "value", [{"$bytes": "eA"}, {"$bytes": "eB=="}, {"$bytes": 1}, {"$bytes": "eA==", "b": 1}, ["$bytes"]]
)
def test_what_only_looks_like_bytes_is_read_as_it_is(value: object) -> None:
    data = msgspec.json.encode({"type": "message", "payload": {"a": value}})
    assert JSON.read(data).payload == {"a": value}


@pytest.mark.parametrize(("encoding", "data"), [(JSON, b"[]"), (MSGPACK, b"\x90"), (JSON, b"{"), (MSGPACK, b"\xc1")])
def test_what_is_no_frame_is_a_value_error(encoding: Encoding, data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        encoding.read(data)


def test_an_encoding_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="msgpack"):
        CityClient("http://127.0.0.1:1", encoding="xml")  # type: ignore[arg-type]
    assert offered("msgpack") == [MSGPACK, JSON]


async def test_a_server_that_knows_json_alone_is_spoken_to_in_json(peer: Peer) -> None:
    client = CityClient(peer.url, token="t", encoding="msgpack", connect_seconds=None)
    async with client:
        visit = await peer.visit()
        assert "smart-city.v1.msgpack" in visit.headers["Sec-WebSocket-Protocol"]
        await client._connection.link()
        assert client.connection_id == "c1"


@BOTH
async def test_bytes_come_back_as_bytes(city: Instance, encoding: Any) -> None:
    token = await city.session(unique("alice"), channels=ALL)
    async with CityClient(city.url, token=token, encoding=encoding) as client:
        reader = await client.subscribe("guide")
        await client.publish("guide", PAYLOAD)
        async with reader:
            assert (await anext(aiter(reader))).payload == PAYLOAD


@BOTH
async def test_an_agent_and_its_asker_exchange_bytes(city: Instance, encoding: Any) -> None:
    asker, agent = await city.session(unique("alice")), await city.service("guide", "post_office.consume")
    seen: list[Any] = []

    async def handle(question: Question) -> None:
        seen.append(question.payload)
        await question.delivery.reply({"message": "here", "picture": b"\x89PNG"})

    async with (
        CityClient(city.url, token=agent, encoding=encoding) as consumer,
        CityClient(city.url, token=asker, encoding=encoding) as client,
    ):
        consumer.consume("guide", handle)
        reply = await client.ask("guide", {"message": "hello", "data": b"\x00"})
    assert seen == [{"message": "hello", "data": b"\x00"}]
    assert reply.payload == {"message": "here", "picture": b"\x89PNG"}
