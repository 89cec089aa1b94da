"""Bad input by the thousand, the same in every run: each gets one clear answer, and none is a defect of ours."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from tests.contract.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, dialled, frame, text, upgraded
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique

SEED = 20261120
Frame = dict[str, Any]

TYPES = (
    "message", "subscribe", "unsubscribe", "publish", "refresh", "ping", "consume", "done", "failed", "working",
    "reply", "forward", "stop", "typing", "read", "nonsense", "",
)  # fmt: skip
FIELDS = (
    "channel", "channels", "intent", "payload", "key", "session_token", "max", "delivery_id", "delivery_ids", "reason",
    "retry", "stream", "message_id", "typing", "offset", "type", "\x00", "channel ", "Channel", "$ref", "__proto__",
)  # fmt: skip
DELIVERY = "guide/01938f3a-7c11-7000-8000-000000000000/1"
VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 64, 2**31, 2**63, 2**64, -(2**63), 10**40, 0.5, -0.0, 1e308, "", " ", "guide", "chat",
    "pillar:content", "pillar:*", "user:alice", "connection:c1", "start", "delta", "end", "error", DELIVERY,
    "guide/x/1", "../..", "\x00", "\u2028", "😀", "x" * 300, "{guide}", "*", "ses_x", "tkt_x", "svc_x", "0", "1.e",
    [], {}, [[]], [None], ["guide"], [DELIVERY], [7], ["x"] * 50, {"guide": None}, {"guide": {}}, {"guide": []},
    {"guide": {"offset": 0, "epoch": "x"}}, {"guide": {"offset": 0}}, {"user:alice": {"offset": -1, "epoch": ""}},
    {"message": "x"}, {"message": None}, {"conversation_id": "c"}, {"conversation_id": []}, {"": ""}, {"a": {"b": [1]}},
)  # fmt: skip


def random_frame(chance: random.Random) -> Frame:
    """A type, mostly a known one, and some fields, mostly of other types."""
    named = {"type": chance.choice(TYPES)} if chance.random() < 0.9 else {}
    fields = chance.sample(FIELDS, chance.randint(0, 5))
    return named | {name: chance.choice(VALUES) for name in fields}


@pytest.mark.parametrize("who", ["session", "agent", "operator"])
async def test_any_frame_gets_one_answer_under_its_id(platform: Platform, who: str) -> None:
    fast = {"messages_per_second": 100_000, "messages_burst": 1_000_000}
    city = await platform.start(**{f"user_{name}": value for name, value in fast.items()})
    token = {
        "session": await city.session(unique("alice"), channels={"*": ["subscribe", "send", "history", "publish"]}),
        "agent": await city.service(unique("agent"), "post_office.consume", "post_office.history"),
        "operator": OPERATOR_TOKEN,
    }[who]
    chance = random.Random(SEED + len(who))  # noqa: S311
    frames = [random_frame(chance) | {"id": str(number)} for number in range(1500)]
    async with upgraded(city.url, token) as raw:
        sending = asyncio.create_task(raw.send(b"".join(text(frame) for frame in frames), 30))
        await sending
        answers: dict[str, Frame] = {}
        while len(answers) < len(frames):
            answer = await raw.json(20)
            if answer["type"] in {"message", "chat_response", "delivery", "unsubscribed"}:
                continue
            assert answer["type"] in {"ack", "error", "pong"}, answer
            frame = frames[int(answer["id"])]
            assert answer["id"] not in answers, (frame, answer)
            assert answer.get("code") != "internal", (frame, answer)
            answers[answer["id"]] = answer
        await raw.send(text({"type": "ping", "id": "over"}))
        while (answer := await raw.json())["type"] != "pong":
            assert "id" not in answer
    known = {frame["id"] for frame in frames if frame.get("type") == "ping" and len(frame) == 2}
    assert all(answers[name]["type"] == "pong" for name in known)


async def test_any_bytes_on_a_websocket_end_at_most_that_one(city: Instance) -> None:
    chance = random.Random(SEED)  # noqa: S311
    token = await city.session(unique("alice"))
    opcodes = (TEXT, TEXT, TEXT, BINARY, CONTINUATION, PING, PONG, CLOSE, 3, 11)
    async with city.connected(await city.session(unique("bystander"))) as bystander:
        for _ in range(60):
            async with upgraded(city.url, token) as raw:
                pieces = [
                    frame(
                        chance.choice(opcodes), chance.randbytes(chance.choice((0, 1, 2, 20, 125, 126, 3000))),
                        fin=chance.random() < 0.8, reserved=chance.choice((0,) * 9 + (4,)),
                        masked=chance.random() < 0.95,
                    )
                    for _ in range(chance.randint(1, 8))
                ]  # fmt: skip
                data = b"".join(pieces)
                if chance.random() < 0.3:
                    data = data[: chance.randint(0, len(data))]
                await raw.send(data)
                raw.writer.write_eof()
                await raw.ended(8)
        await bystander.nothing_but_pong()


async def test_any_arguments_of_any_operation_get_a_clear_answer(platform: Platform) -> None:
    city = await platform.start(calls_per_second=100_000, calls_burst=1_000_000)
    document = (await city.http.get("/openapi.json", headers=city.operator)).json()
    operations = {path: item["post"] for path, item in document["paths"].items() if path.startswith("/soa/")}
    chance = random.Random(SEED)  # noqa: S311
    for path, operation in operations.items():
        body = operation["requestBody"]["content"]["application/json"]
        names = list(body["schema"].get("properties", {}))
        for _ in range(25):
            arguments: Frame = dict(body["example"])
            if "wait_ms" in names:
                arguments["wait_ms"] = 0
            for name in chance.sample([*names, chance.choice(FIELDS)], chance.randint(1, min(3, len(names) + 1))):
                arguments[name] = 0 if name == "wait_ms" else chance.choice(VALUES)
            response = await city.http.post(path, content=json.dumps(arguments), headers=city.operator)
            assert response.status_code < 500, (path, arguments, response.text)
            if response.status_code != 200:
                assert response.headers["content-type"] == "application/problem+json", (path, arguments)
                assert response.json()["code"] not in {"internal", "unavailable"}, (path, arguments, response.text)


async def test_any_bytes_for_http_get_an_answer_or_an_end(city: Instance) -> None:
    chance = random.Random(SEED)  # noqa: S311
    whole = (
        b"POST /soa/post-office/list_channels HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Authorization: Bearer " + OPERATOR_TOKEN.encode() + b"\r\n\r\n{}"
    )
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data))
            fate = chance.random()
            if fate < 0.4:
                data[at] = chance.randrange(256)
            elif fate < 0.7:
                del data[at : at + chance.randint(1, 8)]
            else:
                data[at:at] = chance.choice((b"\r\n", b"\n", b"\x00", b": ", b" ", bytes([chance.randrange(256)])))
        async with dialled(city.url) as raw:
            await raw.send(bytes(data))
            raw.writer.write_eof()
            answer = await raw.ended(8)
            assert not answer or answer.startswith(b"HTTP/1.1 "), (data, answer[:100])
            assert not answer or int(answer[9:12]) < 500, (data, answer[:300])
    assert (await city.http.get("/health/ready")).status_code == 200
