"""Section 4 in MessagePack: the same objects in binary frames, bytes in payloads, and both encodings on one channel."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from tests.contract.agents import agent_on, asker_of, is_answer
from tests.contract.packed import PROTOCOL, PackedClient, binary, decode, encode, packed, upgraded_packed
from tests.contract.raw import BINARY, CONTINUATION, PING, PONG, TEXT, frame, upgraded
from tests.contract.shapes import has_only, is_publication, position
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE
from tests.support.wire_client import WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]

EVERYTHING = {
    "text": "naïve 😀 \u2028 \x00", "whole": 2**53 - 1, "negative": -(2**31), "half": 0.5, "yes": True, "no": False,
    "nothing": None, "list": [1, [2, [3, {}]], ""], "object": {"": {"a b": []}}, "large": 2**63 - 1, "small": -(2**63),
}  # fmt: skip


def as_json(data: bytes) -> Frame:
    """How bytes reach those who speak JSON."""
    return {"$bytes": base64.b64encode(data).decode()}


@in_town
class TestComingIn:
    async def test_the_welcome_is_the_same_object(self, town: Instance) -> None:
        token = await town.session(unique("alice"))
        async with packed(town, token) as alice, town.connected(token) as plain:
            assert alice.socket.subprotocol == PROTOCOL
            assert set(alice.welcome) == set(plain.welcome)
            for name in ("type", "event", "message", "protocol", "user_id", "instance_id", "resumed"):
                assert alice.welcome[name] == plain.welcome[name]

    @pytest.mark.parametrize("beside", [[], ["smart-city.v1"], ["unheard.of"]], ids=str)
    async def test_a_token_may_come_as_a_subprotocol_beside_it(self, town: Instance, beside: list[str]) -> None:
        token = await town.session(unique("alice"))
        offered = [Subprotocol(name) for name in (*beside, PROTOCOL, f"token.{token}")]
        async with connect(town.ws_url, subprotocols=offered) as socket:
            assert socket.subprotocol in {PROTOCOL, "smart-city.v1"}
            first = await asyncio.wait_for(socket.recv(), PATIENCE)
            is_packed = socket.subprotocol == PROTOCOL
            assert isinstance(first, bytes) is is_packed
            welcome = decode(first) if isinstance(first, bytes) else json.loads(first)
            assert welcome["message"] == "Connected to WebSocket Gateway"
            if not beside:
                assert is_packed, "nothing else that it knows was offered"

    async def test_a_refusal_closes_with_its_code(self, town: Instance) -> None:
        async with connect(town.ws_url, subprotocols=[PROTOCOL, Subprotocol("token.ses_nobody")]) as socket:
            assert await WireClient(socket).close_code() == 4501

    @pytest.mark.parametrize("data", [encode({"type": "ping"}), b"", b"{}", b"\x80"])
    async def test_without_it_a_binary_frame_closes_with_1003(self, town: Instance, data: bytes) -> None:
        token = await town.session(unique("alice"))
        for protocol in ("", "smart-city.v1"):
            async with upgraded(town.url, token, Sec_WebSocket_Protocol=protocol) as raw:
                await raw.send(frame(BINARY, data))
                assert await raw.close_code() == 1003


@in_town
class TestFrames:
    async def test_every_frame_is_answered_under_its_id(self, town: Instance, channel: str) -> None:
        user = unique("alice")
        token = await town.session(user, channels={channel: ["subscribe", "send", "publish"]})
        async with packed(town, token) as alice:
            assert await alice.ask(type="ping", id="1") == {"type": "pong", "id": "1"}
            outcome = await alice.subscribe(channel)
            has_only(outcome[channel], {"offset", "epoch"})
            ack = await alice.ask(type="publish", channel=channel, payload={"n": 1})
            assert (ack["status"], ack["offset"]) == ("published", outcome[channel]["offset"] + 1)
            (got,) = await alice.messages(1, channel)
            is_publication(got)
            assert position(got) == position(ack)
            queued = await alice.ask(channel=channel, payload={"message": "hello"}, key="k")
            assert queued["status"] == "queued"
            again = await alice.ask(channel=channel, payload={"message": "hello"}, key="k")
            assert (again["duplicate"], again["message_id"]) == (True, queued["message_id"])
            assert await alice.ask(type="unsubscribe", channels=[channel], id="2") == {"type": "ack", "id": "2"}
            new = await town.session(user)
            assert await alice.ask(type="refresh", session_token=new, id="3") == {"type": "ack", "id": "3"}

    @pytest.mark.parametrize(
        ("value", "code"),
        [({"type": "nonsense", "id": "1"}, "unknown_type"), ({"type": "ping", "id": "1", "x": 1}, "invalid_message"),
         ({"type": "publish", "channel": "nowhere", "payload": {}, "id": "1"}, "unknown_channel"),
         ({"type": "publish", "channel": "guide", "payload": {}, "id": "1"}, "forbidden"),
         ({"channel": "guide", "payload": "text", "id": "1"}, "invalid_message"),
         ({"channel": "guide", "payload": b"bytes", "id": "1"}, "invalid_message")],
        ids=str,
    )  # fmt: skip
    async def test_a_refusal_has_the_code_of_json(self, town: Instance, value: Frame, code: str) -> None:
        async with packed(town, await town.session(unique("alice"))) as alice:
            refusal = await alice.ask(**value)
            has_only(refusal, {"type", "code", "message", "retryable", "id"}, {"retry_after"})
            assert (refusal["type"], refusal["code"]) == ("error", code)
            await alice.nothing_but_pong()

    @pytest.mark.parametrize("data", [b'{"type": "ping"}', b"", b"{", encode({"type": "ping", "id": "1"})])
    async def test_a_text_frame_closes_with_1003(self, town: Instance, channel: str, data: bytes) -> None:
        token = await town.session(unique("alice"), channels={channel: ["subscribe", "publish"]})
        said = {"type": "publish", "channel": channel, "payload": {"n": 1}, "id": "1"}
        async with upgraded_packed(town.url, token) as raw:
            await raw.send(binary(said) + frame(TEXT, data) + binary({**said, "id": "2"}))
            assert await raw.close_code() == (1007 if data[:1] == b"\x82" else 1003)
        page = await town.done("post_office.get_channel_history", {"channel": channel})
        assert len(page["publications"]) == 1, "what was said before is done, and what came after is not"

    async def test_a_message_may_come_in_fragments(self, town: Instance) -> None:
        data = encode({"type": "ping", "id": "in pieces"})
        async with upgraded_packed(town.url, await town.session(unique("alice"))) as raw:
            pieces = [frame(CONTINUATION, data[n : n + 1], fin=False) for n in range(1, len(data) - 1)]
            between = frame(PING, b"meanwhile")
            await raw.send(frame(BINARY, data[:1], fin=False) + between + b"".join(pieces))
            await raw.send(frame(CONTINUATION, data[-1:]))
            answers = dict([await raw.frame(), await raw.frame()])
            assert answers[PONG] == b"meanwhile"
            assert decode(answers[BINARY]) == {"type": "pong", "id": "in pieces"}


@in_town
class TestPayloads:
    @pytest.mark.parametrize("sender", ["packed", "plain", "http"])
    async def test_what_one_encoding_sends_the_other_gets(self, town: Instance, channel: str, sender: str) -> None:
        rights = {channel: ["subscribe", "publish", "history"]}
        token = await town.session(unique("alice"), channels=rights)
        async with packed(town, token) as one, town.connected(token) as two:
            await one.subscribe(channel)
            await two.subscribe(channel)
            if sender == "http":
                arguments = {"channel": channel, "message": EVERYTHING}
                await town.done("post_office.publish_to_agent_channel", arguments)
            else:
                client = one if sender == "packed" else two
                ack = await client.ask(type="publish", channel=channel, payload=EVERYTHING)
                assert ack["status"] == "published", ack
            (first,) = await one.messages(1, channel)
            (second,) = await two.messages(1, channel)
            assert first == second
            assert first["payload"] == EVERYTHING
        async with packed(town, token) as late:
            await late.subscribe(channel, offset=first["offset"] - 1, epoch=first["epoch"])
            (third,) = await late.messages(1, channel)
            assert third == first, "from the log as it was live"

    @pytest.mark.parametrize("data", [b"", b"\x00", bytes(range(256)), b"\xff" * 70_000], ids=len)
    async def test_bytes_reach_json_as_base64(self, town: Instance, channel: str, data: bytes) -> None:
        rights = {channel: ["subscribe", "publish", "history"]}
        token = await town.session(unique("alice"), channels=rights)
        sent = {"data": data, "nested": [{"deep": [data]}, data], "beside": "text"}
        told = {"data": as_json(data), "nested": [{"deep": [as_json(data)]}, as_json(data)], "beside": "text"}
        async with packed(town, token) as one, town.connected(token) as two:
            await one.subscribe(channel)
            await two.subscribe(channel)
            assert (await one.ask(type="publish", channel=channel, payload=sent))["status"] == "published"
            assert (await one.messages(1, channel))[0]["payload"] == sent
            assert (await two.messages(1, channel))[0]["payload"] == told
        page = await town.done("post_office.get_channel_history", {"channel": channel})
        assert [entry["payload"] for entry in page["publications"]] == [told]
        since = {"offset": page["publications"][0]["offset"] - 1, "epoch": page["publications"][0]["epoch"]}
        async with packed(town, token) as late, town.connected(token) as plain:
            await late.subscribe(channel, **since)
            await plain.subscribe(channel, **since)
            assert (await late.messages(1, channel))[0]["payload"] == sent, "bytes stay bytes in the log"
            assert (await plain.messages(1, channel))[0]["payload"] == told

    async def test_bytes_go_to_agents_and_back(self, town: Instance, channel: str) -> None:
        asker_token, agent_token = (
            await town.session(unique("alice")),
            await town.service(unique("a"), "post_office.consume"),
        )
        async with packed(town, asker_token) as alice, packed(town, agent_token) as agent:
            await agent.ask(type="consume", channel=channel)
            question = await alice.ask(channel=channel, payload={"message": "see", "picture": b"\x89PNG"})
            delivery = await agent.of("delivery")
            assert delivery["message"]["payload"] == {"message": "see", "picture": b"\x89PNG"}
            await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"thumb": b"\x01"})
            answer = await alice.of("chat_response")
            is_answer(answer)
            assert (answer["in_reply_to"], answer["payload"]) == (question["message_id"], {"thumb": b"\x01"})

    async def test_bytes_go_to_a_json_agent_and_its_answer_comes_packed(self, town: Instance, channel: str) -> None:
        async with agent_on(town, channel) as agent, packed(town, await town.session(unique("alice"))) as alice:
            await alice.ask(channel=channel, payload={"message": "see", "picture": b"\x89PNG"})
            delivery = await agent.of("delivery")
            assert delivery["message"]["payload"] == {"message": "see", "picture": as_json(b"\x89PNG")}
            name = {"type": "reply", "delivery_id": delivery["delivery_id"]}
            await agent.send(**name, stream="start", payload={})
            await agent.send(**name, stream="delta", payload={"message": "I "})
            await agent.send(**name, stream="delta", payload={"message": "see"})
            await agent.ask(**name, stream="end", payload={})
            parts: list[Frame] = []
            while not parts or parts[-1]["stream"] != "end":
                parts.append(await alice.of("chat_response"))
                is_answer(parts[-1], parts=True)
            assert "".join(part["payload"]["message"] for part in parts if part["stream"] == "delta") == "I see"
            assert parts[-1]["payload"]["message"] == "I see"

    async def test_a_packed_agent_answers_a_json_asker(self, town: Instance, channel: str) -> None:
        token = await town.service(unique("agent"), "post_office.consume")
        async with asker_of(town) as alice, packed(town, token) as agent:
            await agent.ask(type="consume", channel=channel)
            await alice.ask(channel=channel, payload={"message": "hello", "conversation_id": "c"})
            delivery = await agent.of("delivery")
            assert delivery["message"]["conversation_id"] == "c"
            reply = {"message": "hi", "picture": b"\x00\xff"}
            await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload=reply)
            answer = await alice.of("chat_response")
            assert answer["payload"] == {"message": "hi", "picture": as_json(b"\x00\xff")}

    async def test_a_tool_alone_is_given_bytes_as_base64(self, town: Instance, channel: str) -> None:
        consumer = await town.done(
            "post_office.subscribe_to_channel", {"channel": channel, "realm": "operator", "mode": "inbox"}
        )
        async with packed(town, await town.session(unique("alice"))) as alice:
            await alice.ask(channel=channel, payload={"picture": b"\x00"})
        asked = {"consumer": consumer["consumer"], "max": 1, "wait_ms": 2000}
        (delivery,) = (await town.done("post_office.receive_messages", asked))["deliveries"]
        assert delivery["message"]["payload"] == {"picture": as_json(b"\x00")}

    async def test_a_key_is_known_in_both_encodings(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"), channels={channel: ["publish", "subscribe"]})
        same = {"type": "publish", "channel": channel, "payload": {"n": 1, "text": "é"}, "key": "k"}
        async with packed(town, token) as one, town.connected(token) as two:
            first = await one.ask(**same)
            again = await two.ask(**same)
            assert (again.get("duplicate"), again.get("message_id")) == (True, first["message_id"]), again
            other = await one.ask(**{**same, "payload": {"n": 2}})
            assert other["code"] == "conflict"

    async def test_many_clients_of_both_encodings_see_one_order(self, town: Instance, channel: str) -> None:
        count = 60
        tokens = [await town.session(unique("u"), channels={channel: ["publish", "subscribe"]}) for _ in range(4)]
        async with (
            packed(town, tokens[0]) as a, town.connected(tokens[1]) as b,
            packed(town, tokens[2]) as c, town.connected(tokens[3]) as d,
        ):  # fmt: skip
            clients: list[WireClient] = [a, b, c, d]
            for client in clients:
                await client.subscribe(channel)

            async def talk(client: WireClient, name: int) -> None:
                for n in range(count):
                    raw = {"raw": b"\x00\x01"} if isinstance(client, PackedClient) else {}
                    await client.send(type="publish", channel=channel, payload={"who": name, "n": n, **raw})

            async with asyncio.TaskGroup() as group:
                for name, client in enumerate(clients):
                    group.create_task(talk(client, name))
            seen = [[m["message_id"] for m in await client.messages(4 * count, channel)] for client in clients]
        assert len(set(seen[0])) == 4 * count
        assert all(order == seen[0] for order in seen)


@in_town
async def test_a_service_speaks_it_as_well(town: Instance, channel: str) -> None:
    async with packed(town, OPERATOR_TOKEN) as operator:
        assert operator.welcome["user_id"].startswith("~")
        await operator.subscribe(channel)
        await operator.ask(type="publish", channel=channel, payload={"raw": b"\x00"})
        assert (await operator.messages(1, channel))[0]["payload"] == {"raw": b"\x00"}


async def test_heartbeats_are_packed_too(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=0.2)
    async with packed(city, await city.session(unique("alice"))) as alice:
        async with asyncio.timeout(PATIENCE):
            data = await alice.socket.recv()
        assert isinstance(data, bytes)
        assert decode(data) == {"type": "heartbeat"}
