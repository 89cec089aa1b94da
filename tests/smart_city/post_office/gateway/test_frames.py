"""Frames on a living connection: what each does, how it is answered, and how it is refused."""

from __future__ import annotations

import asyncio
import gc
import json
import warnings
from typing import Any

import pytest
from websockets.frames import Frame as RawFrame
from websockets.frames import Opcode

from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE, ROOM, until
from tests.support.wire_client import WireClient

ALL = {
    "guide": ["subscribe", "send", "history", "publish"],
    "pillar:*": ["subscribe", "send", "history", "publish"],
}


async def test_a_message_to_an_agent_is_queued_and_nobody_else_sees_it(city: Instance) -> None:
    async with (
        city.connected(await city.session(unique("alice"))) as alice,
        city.connected(await city.session(unique("bob"))) as bob,
    ):
        await bob.subscribe("guide")
        ack = await alice.ask(channel="guide", intent="chat", payload={"message": "hello"})
        assert (ack["type"], ack["status"], ack["channel"]) == ("ack", "queued", "guide")
        assert ack["message_id"]
        assert "offset" not in ack
        await bob.nothing_but_pong()
    status = await city.done("post_office.get_queue_status", {"channel": "guide"})
    assert status["channels"]["guide"]["depth"] == 1


async def test_a_message_without_an_id_is_not_answered(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"))) as alice:
        await alice.send(payload={"message": "hello"})
        await alice.nothing_but_pong()


async def test_a_publication_reaches_every_subscriber_the_senders_own_connection_too(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name, channels=ALL)
    async with city.connected(token) as sender, city.connected(token) as other:
        await sender.subscribe("guide")
        await other.subscribe("guide")
        ack = await sender.ask(type="publish", channel="guide", payload={"n": 1}, intent="query")
        assert ack["status"] == "published"
        for client in (sender, other):
            message = await client.of("message")
            assert message["payload"] == {"n": 1}
            assert message["intent"] == "query"
            assert message["sender"] == {"kind": "user", "id": name}
            assert (message["offset"], message["epoch"]) == (ack["offset"], ack["epoch"])
            assert message["message_id"] == ack["message_id"]
            assert message["traceparent"].startswith("00-")
            assert message["timestamp"].endswith("Z")


async def test_publications_of_one_connection_are_logged_in_the_order_sent(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        await alice.subscribe("guide")
        for number in range(200):
            await alice.send(type="publish", channel="guide", payload={"n": number})
        got = await alice.messages(200)
    assert [message["payload"]["n"] for message in got] == list(range(200))
    assert [message["offset"] for message in got] == list(range(1, 201))


async def test_subscribing_says_where_the_channel_is_and_what_follows_starts_there(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        first = await alice.subscribe("guide")
        assert first["guide"]["offset"] == 0
        assert first["guide"]["epoch"]
        assert "recovered" not in first["guide"]
        for number in range(3):
            await alice.send(type="publish", channel="guide", payload={"n": number})
        assert [message["offset"] for message in await alice.messages(3)] == [1, 2, 3]


async def test_a_position_is_recovered_and_what_was_missed_comes_before_live(city: Instance) -> None:
    token = await city.session(unique("alice"), channels=ALL)
    async with city.connected(token) as alice:
        start = (await alice.subscribe("guide"))["guide"]
        for number in range(5):
            await alice.ask(type="publish", channel="guide", payload={"n": number})
        async with city.connected(token) as late:
            ack = await late.subscribe("guide", offset=start["offset"] + 2, epoch=start["epoch"])
            assert ack["guide"] == {"offset": 2, "epoch": start["epoch"], "recovered": True, "missed": 3}
            await alice.send(type="publish", channel="guide", payload={"n": 5})
            assert [message["payload"]["n"] for message in await late.messages(4)] == [2, 3, 4, 5]


async def test_a_bare_offset_is_taken_in_the_current_epoch(city: Instance) -> None:
    token = await city.session(unique("alice"), channels=ALL)
    async with city.connected(token) as alice:
        await alice.ask(type="publish", channel="guide", payload={})
        ack = await alice.ask(type="subscribe", channels={"guide": {"offset": 0}})
        assert ack["channels"]["guide"]["recovered"] is True
        assert ack["channels"]["guide"]["missed"] == 1
        assert (await alice.of("message"))["offset"] == 1


@pytest.mark.parametrize(
    ("position", "reason"),
    [({"offset": 99, "epoch": "CURRENT"}, "future"), ({"offset": 1, "epoch": "never"}, "unknown_epoch")],
)
async def test_a_position_that_is_not_good_gets_a_reason_and_nothing_old(
    city: Instance, position: dict[str, Any], reason: str
) -> None:
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        newest = await alice.ask(type="publish", channel="guide", payload={})
        wanted = {
            **position,
            "epoch": newest["epoch"] if position["epoch"] == "CURRENT" else position["epoch"],
        }
        ack = (await alice.subscribe("guide", **wanted))["guide"]
        assert ack == {"offset": 1, "epoch": newest["epoch"], "recovered": False, "reason": reason}
        await alice.nothing_but_pong()


async def test_a_trimmed_position_says_so(platform: Platform) -> None:
    city = await platform.start(history_count=5)
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        start = (await alice.subscribe("guide"))["guide"]
        await alice.ask(type="unsubscribe", channels=["guide"])
        items = [{"channel": "guide", "message": {"n": n}} for n in range(50)]
        await city.done("post_office.publish_batch", {"items": items})
        ack = (await alice.subscribe("guide", offset=0, epoch=start["epoch"]))["guide"]
        assert (ack["recovered"], ack["reason"], ack["offset"]) == (False, "trimmed", 50)


async def test_subscribing_again_moves_the_subscription(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        await alice.subscribe("guide")
        await alice.ask(type="publish", channel="guide", payload={"n": 1})
        assert (await alice.of("message"))["offset"] == 1
        ack = await alice.subscribe("guide", offset=0)
        assert ack["guide"]["missed"] == 1
        assert (await alice.of("message"))["offset"] == 1
        await alice.ask(type="publish", channel="guide", payload={"n": 2})
        assert (await alice.of("message"))["offset"] == 2
        await alice.nothing_but_pong()


async def test_after_unsubscribing_nothing_comes(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        await alice.subscribe("guide", "pillar:content")
        assert (await alice.ask(type="unsubscribe", channels=["guide", "pillar:insights"]))["type"] == "ack"
        await alice.ask(type="publish", channel="guide", payload={})
        await alice.nothing_but_pong()


async def test_channels_are_refused_one_by_one(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"), channels={"guide": ["subscribe"]})) as alice:
        ack = await alice.subscribe("guide", "pillar:content", "pillar:nowhere", "user:bob", "Strange Name")
        assert ack["guide"]["offset"] == 0
        assert ack["pillar:content"]["error"]["code"] == "forbidden"
        assert ack["pillar:nowhere"]["error"]["code"] == "unknown_channel"
        assert ack["user:bob"]["error"]["code"] == "forbidden"
        assert ack["Strange Name"]["error"]["code"] == "unknown_channel"


async def test_so_many_subscriptions_and_no_more(platform: Platform) -> None:
    city = await platform.start(max_subscriptions=1)
    async with city.connected(await city.session(unique("alice"))) as alice:
        ack = await alice.subscribe("guide", "pillar:content")
        assert "offset" in ack["guide"]
        assert ack["pillar:content"]["error"]["code"] == "overloaded"


@pytest.mark.parametrize(
    ("frame", "code"),
    [
        ({"channel": "guide", "payload": {}}, "forbidden"),
        ({"type": "publish", "channel": "guide", "payload": {}}, "forbidden"),
        ({"channel": "pillar:nowhere", "payload": {}}, "unknown_channel"),
        ({"channel": "guide", "payload": {}, "intent": "shout"}, "invalid_message"),
        ({"type": "shout"}, "unknown_type"),
        ({"type": "publish", "channel": "user:bob", "payload": {}}, "forbidden"),
        ({"type": "consume", "channel": "guide"}, "forbidden"),
        ({"type": "done", "delivery_ids": ["guide/x/1"]}, "forbidden"),
        ({"type": "refresh", "session_token": "nonsense"}, "unauthenticated"),
    ],
)
async def test_a_refused_frame_is_answered_with_its_id_and_the_connection_stays(
    city: Instance, frame: dict[str, Any], code: str
) -> None:
    token = await city.session(unique("alice"), channels={"pillar:content": ["subscribe"]})
    async with city.connected(token) as alice:
        answer = await alice.ask(**frame)
        assert (answer["type"], answer["code"]) == ("error", code)
        assert answer["message"]
        await alice.nothing_but_pong()


@pytest.mark.parametrize("text", ["nonsense", "[1]", '"x"', ""])
async def test_what_is_no_object_is_an_invalid_message(city: Instance, text: str) -> None:
    async with city.connected(await city.session(unique("alice"))) as alice:
        await alice.socket.send(text)
        error = await alice.of("error")
        assert error["code"] == "invalid_message"
        assert error["message"].startswith("Invalid message format")
        await alice.nothing_but_pong()


async def test_a_repeated_key_gets_the_first_answer_and_another_body_a_conflict(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        for frame in ({"channel": "guide"}, {"type": "publish", "channel": "guide"}):
            first = await alice.ask(**frame, payload={"n": 1}, key="k1")
            again = await alice.ask(**frame, payload={"n": 1}, key="k1")
            other = await alice.ask(**frame, payload={"n": 2}, key="k1")
            assert "duplicate" not in first
            assert again["duplicate"] is True
            assert again["message_id"] == first["message_id"]
            assert other["code"] == "conflict"


async def test_keys_of_two_users_do_not_meet(city: Instance) -> None:
    for name in ("alice", "bob"):
        async with city.connected(await city.session(unique(name), channels=ALL)) as client:
            ack = await client.ask(type="publish", channel="guide", payload={"by": name}, key="same")
            assert "duplicate" not in ack


async def test_four_mebibytes_pass_and_one_byte_more_closes_with_1009(city: Instance) -> None:
    most = city.settings.max_message_bytes
    async with city.connected(await city.session(unique("alice"), channels=ALL)) as alice:
        await alice.subscribe("guide")
        head = '{"type":"publish","channel":"guide","id":"big","payload":{"text":"'
        text = head + "x" * (most - len(head) - 3) + '"}}'
        assert len(text) == most
        await alice.socket.send(text)
        assert (await alice.until(lambda frame: frame.get("id") == "big", 20))["status"] == "published"
        assert len((await alice.of("message", 20))["payload"]["text"]) == most - len(head) - 3
        await alice.socket.send(text + " ")
        assert await alice.close_code() == 1009


async def test_fragments_are_joined(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"))) as alice:
        await alice.socket.send(['{"type":', '"ping", "id"', ': "ü"}'])
        assert await alice.of("pong") == {"type": "pong", "id": "ü"}


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (RawFrame(Opcode.TEXT, b'{"type": "ping\xff"}'), 1007),
        (RawFrame(Opcode.TEXT, b"{}", rsv1=True), 1002),
        (RawFrame(Opcode.CONT, b"{}"), 1002),
        (RawFrame(Opcode.BINARY, b"{}"), 1003),
        (RawFrame(Opcode.PING, b"x" * 126), 1002),
        (RawFrame(Opcode.CLOSE, b"\x03"), 1002),
    ],
)
async def test_what_breaks_the_websocket_protocol_closes_with_its_code(
    city: Instance, raw: RawFrame, code: int
) -> None:
    async with city.connected(await city.session(unique("alice"))) as alice:
        payload = bytes(raw.data)
        first = (0x80 if raw.fin else 0) | (0x40 if raw.rsv1 else 0) | int(raw.opcode)
        size = bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + len(payload).to_bytes(2, "big")
        alice.socket.transport.write(bytes([first]) + size + bytes(4) + payload)
        assert await alice.close_code() == code


async def test_a_ping_is_answered_at_once_and_so_is_one_of_the_protocol(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"))) as alice:
        assert await alice.ask(type="ping", id="p") == {"type": "pong", "id": "p"}
        await alice.send(type="ping")
        assert await alice.of("pong") == {"type": "pong"}
        async with asyncio.timeout(PATIENCE):
            await (await alice.socket.ping())


async def test_a_refresh_takes_a_new_token_and_ends_what_it_does_not_allow(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name, channels=ALL)
    async with city.connected(token) as alice:
        await alice.subscribe("guide", "pillar:content")
        lesser = await city.session(name, channels={"guide": ["subscribe"]})
        assert (await alice.ask(type="refresh", session_token=lesser))["type"] == "ack"
        ended = await alice.of("unsubscribed")
        assert (ended["channel"], ended["code"]) == ("pillar:content", "forbidden")
        assert (await alice.ask(type="publish", channel="guide", payload={}))["code"] == "forbidden"
        stranger = await city.session(unique("bob"))
        assert (await alice.ask(type="refresh", session_token=stranger))["code"] == "forbidden"


async def test_nothing_is_kept_of_who_leaves_while_its_new_token_is_looked_up(
    city: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway, token = city.app.state.gateway, await city.session(unique("alice"))
    identities = gateway._desk.sessions
    identify = identities.identify
    async with city.connected(token) as alice:
        [connection] = gateway.connections.values()

        async def leave_meanwhile(token: str, **how: Any) -> object:
            connection.closed(1001, "")
            return await identify(token, **how)

        monkeypatch.setattr(identities, "identify", leave_meanwhile)
        await alice.send(type="refresh", session_token=token)
        await until(lambda: not gateway.connections and not connection.is_working, "it has left")
    assert not list(gateway._credentials._by_user)


async def test_a_frame_that_had_not_begun_when_the_instance_ended_is_no_defect(city: Instance) -> None:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        async with city.connected(await city.session(unique("alice"))) as alice:
            [connection] = city.app.state.gateway.connections.values()
            connection.handle(b'{"type": "subscribe", "channels": {"guide": null}}')
            [task] = [task for task in asyncio.all_tasks() if task.get_name().endswith(f"frame of {alice.id}")]
            task.cancel()  # before its first step, as at the end of an instance
            await asyncio.wait({task})
            del task
            gc.collect()
    assert not [str(warning.message) for warning in told]


async def test_a_session_about_to_expire_is_announced_and_a_refresh_saves_it(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name, ttl_seconds=4)
    async with city.connected(token) as alice:
        warning = await alice.of("system")
        assert warning["event"] == "session_expiring"
        assert warning["expires_at"].endswith("Z")
        longer = await city.done("traffic_cop.refresh_session", {"session_token": token, "ttl_seconds": 600})
        assert (await alice.ask(type="refresh", session_token=longer["session_token"]))["type"] == "ack"
        async with city.connected(token) as other:
            assert await other.close_code() == 4501
        await alice.nothing_but_pong()


async def test_a_sender_above_its_limit_is_told_when_to_come_back(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=5, user_messages_burst=5)
    async with city.connected(await city.session(unique("alice"))) as alice:
        for n in range(30):
            await alice.send(id=str(n), payload={"n": n})
        answers = [await alice.next() for _ in range(30)]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert refused
        assert {answer["code"] for answer in refused} == {"rate_limited"}
        assert all(0 < answer["retry_after"] <= 1 and answer["retryable"] for answer in refused)


async def test_a_reader_that_never_reads_is_closed_with_4009(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=64 * 1024, close_seconds=0.5, stall_seconds=0.5)
    token = await city.session(unique("alice"))
    async with WireClient.connected(city.ws_url, token, max_queue=1) as alice:
        await alice.subscribe("guide")
        alice.socket.transport.pause_reading()
        gateway = city.app.state.gateway
        items = [{"channel": "guide", "message": {"text": "x" * 30_000}} for _ in range(30)]
        for _ in range(30):
            await city.done("post_office.publish_batch", {"items": items})
            if not gateway.connections:
                break
        await until(lambda: not gateway.connections, "the slow reader is gone")
        alice.socket.transport.resume_reading()
        assert await alice.close_code() in {4009, 1006}


async def test_a_peer_that_answers_no_heartbeat_is_closed_with_4008(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=0.2, close_seconds=0.2)
    token = await city.session(unique("alice"))
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    writer.write(
        f"GET /ws?session_token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
    )
    async with asyncio.timeout(PATIENCE):
        data = await reader.read()
    writer.close()
    assert data.count(b'{"type":"heartbeat"}') == 2
    assert (4008).to_bytes(2, "big") in data


async def test_a_peer_that_answers_stays(platform: Platform) -> None:
    city = await platform.start(heartbeat_seconds=0.1)
    async with city.connected(await city.session(unique("alice"))) as alice:
        beats = 0
        async with asyncio.timeout(PATIENCE):
            while beats < 6:
                beats += json.loads(await alice.socket.recv())["type"] == "heartbeat"
        await alice.nothing_but_pong()


async def test_a_revocation_closes_the_socket_within_a_second(city: Instance) -> None:
    name = unique("alice")
    created = await city.done("traffic_cop.create_session", {"user_id": name})
    async with city.connected(created["session_token"]) as alice:
        await city.done("traffic_cop.revoke_session", {"session_id": created["session_id"]})
        assert await alice.close_code(ROOM) == 4501


async def test_the_operator_disconnects_a_connection_and_a_user(city: Instance) -> None:
    name = unique("alice")
    token = await city.session(name)
    async with city.connected(token) as one, city.connected(token) as two:
        done = await city.done("post_office.disconnect", {"connection_id": one.id, "code": 4555})
        assert done["disconnected"] == 1
        assert await one.close_code() == 4555
        assert (await city.done("post_office.disconnect", {"user_id": name}))["disconnected"] == 1
        assert await two.close_code() == 1000
    assert (await city.call("post_office.disconnect", {"connection_id": one.id})).json()["code"] == "not_found"


async def test_the_operator_disconnects_a_service_by_the_name_it_is_listed_under(city: Instance) -> None:
    realm = unique("clerk")
    async with city.connected(await city.service(realm, "post_office.history")) as clerk:
        (listed,) = (await city.done("post_office.list_connections", {"user_id": f"~{realm}"}))["connections"]
        assert (await city.done("post_office.disconnect", {"user_id": listed["user_id"]}))["disconnected"] == 1
        assert await clerk.close_code() == 1000


async def test_a_services_socket_needs_a_scope_for_each_thing(city: Instance) -> None:
    async with city.connected(await city.service("content", "post_office.history")) as service:
        assert "offset" in (await service.subscribe("guide"))["guide"]
        assert (await service.ask(type="publish", channel="guide", payload={}))["code"] == "forbidden"
        assert (await service.ask(type="consume", channel="guide"))["code"] == "forbidden"
        assert (await service.ask(channel="guide", payload={}))["code"] == "forbidden"
    async with city.connected(OPERATOR_TOKEN) as operator:
        ack = await operator.ask(type="publish", channel="guide", payload={})
        assert ack["status"] == "published"


async def test_a_flood_of_tiny_frames_holds_nobody_else_up(city: Instance) -> None:
    flooder, victim = await city.session(unique("mallory")), await city.session(unique("alice"))
    nothing = bytes([0x81, 0x81, 0, 0, 0, 0]) + b"{"
    async with city.connected(victim) as alice, city.connected(flooder) as mallory:
        mallory.socket.transport.write(nothing * 200_000)
        slowest = 0.0
        loop = asyncio.get_running_loop()
        for _ in range(50):
            began = loop.time()
            assert (await alice.ask(type="ping"))["type"] == "pong"
            slowest = max(slowest, loop.time() - began)
        assert slowest < 1
        mallory.socket.transport.abort()


async def test_frames_that_cost_nothing_do_not_exist(platform: Platform) -> None:
    city = await platform.start(user_messages_per_second=5, user_messages_burst=5)
    async with city.connected(await city.session(unique("alice"))) as alice:
        answers = [await alice.ask(type="ping") for _ in range(8)]
        assert {"pong", "error"} == {answer["type"] for answer in answers}
        await alice.socket.send("nonsense")
        assert (await alice.of("error"))["code"] == "rate_limited"
