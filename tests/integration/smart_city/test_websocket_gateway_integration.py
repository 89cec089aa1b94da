"""The gateway's parts, held against any running deployment, from outside.

README_WEBSOCKET_TESTS.md says how to name one; without one it is a platform of this run.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis, RedisCluster
from websockets.exceptions import ConnectionClosed

from tests.integration.smart_city.target import Target
from tests.integration.smart_city.visitor import Visitor, answer_to
from tests.support.metrics import samples
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

PUBLISH = "post_office.publish_to_agent_channel"
PILLARS = ("pillar:content", "pillar:insights", "pillar:operations", "pillar:business_outcomes")


async def refusal_of(city: Visitor, token: str) -> int:
    """The code with which a handshake is closed before any welcome."""
    with pytest.raises(ConnectionClosed) as refused:
        async with city.connected(token):
            pass
    assert refused.value.rcvd is not None
    return refused.value.rcvd.code


@pytest.mark.integration
class TestWebSocketGatewayIntegration:
    """Connections, channels, the registry, operations and tools, and what bounds and watches them."""

    # Coming in

    @pytest.mark.parametrize("way", ["query", "header", "subprotocol"])
    async def test_websocket_connection_accepts(self, city: Visitor, way: str) -> None:
        token = await city.session()
        match way:
            case "query":
                opened = city.entered(f"{city.ws_url}?session_token={token}")
            case "header":
                opened = city.connected(token)
            case _:
                opened = city.connected("", subprotocols=["smart-city.v1", f"token.{token}"])
        async with opened as client:
            assert client.welcome["type"] == "system"
            assert client.socket.subprotocol in {None, "smart-city.v1"}, "the token is never echoed"
            await client.nothing_but_pong()

    async def test_websocket_welcome_message(self, city: Visitor) -> None:
        user = city.user()
        async with city.connected(await city.session(user)) as client:
            welcome = client.welcome
            assert (welcome["event"], welcome["message"]) == ("welcome", "Connected to WebSocket Gateway")
            assert (welcome["protocol"], welcome["user_id"], welcome["resumed"]) == (1, user, False)
            assert set(welcome["channels"]) == {f"connection:{client.id}", f"user:{user}"}
            assert all({"offset", "epoch"} == set(position) for position in welcome["channels"].values())
            assert welcome["heartbeat_seconds"] > 0
            assert welcome["max_message_bytes"] > 0
            assert welcome["instance_id"]

    # Where messages go

    async def test_websocket_channel_routing_guide(self, city: Visitor) -> None:
        await self.routes(city, "guide")

    @pytest.mark.parametrize("channel", PILLARS)
    async def test_websocket_channel_routing_pillars(self, city: Visitor, channel: str) -> None:
        listed = await city.done("post_office.list_channels")
        if channel not in {entry["channel"] for entry in listed["channels"]}:
            pytest.skip(f"this deployment has no channel {channel} (SMART_CITY_PILLARS)")
        await self.routes(city, channel)

    async def routes(self, city: Visitor, channel: str) -> None:
        """A question reaches the agents of its channel, and only the connection that asked hears the answer."""
        user = city.user()
        token = await city.session(user)
        async with city.connected(token) as asker, city.connected(token) as bystander, city.agents_on(channel):
            ack = await asker.ask(channel=channel, intent="chat", payload={"message": "Who is there?"})
            assert (ack["type"], ack["status"], ack["channel"]) == ("ack", "queued", channel)
            answer = await answer_to(asker, ack["message_id"])
            assert answer["channel"] == channel
            assert answer["log"] == f"connection:{asker.id}"
            await bystander.nothing_but_pong()

    async def test_websocket_channel_defaults_to_the_guide(self, city: Visitor) -> None:
        async with city.connected(await city.session()) as asker, city.agents_on("guide"):
            ack = await asker.ask(payload={"message": "Hello"})
            assert (ack["status"], ack["channel"]) == ("queued", "guide")
            await answer_to(asker, ack["message_id"])

    # What is refused

    @pytest.mark.parametrize("data", ["no JSON", "[1, 2]", '"text"', "", '{"payload": '], ids=repr)
    async def test_websocket_invalid_message_format(self, city: Visitor, data: str) -> None:
        async with city.connected(await city.session()) as client:
            await client.socket.send(data)
            error = await client.of("error")
            assert (error["code"], error["retryable"]) == ("invalid_message", False)
            assert error["message"].startswith("Invalid message format")
            await client.nothing_but_pong()

    @pytest.mark.parametrize(
        ("frame", "code"),
        [
            ({"type": "no_such_type"}, "unknown_type"),
            ({"channel": "pillar:no_such_pillar", "payload": {}}, "unknown_channel"),
            ({"channel": "guide", "payload": "no object"}, "invalid_message"),
            ({"channel": "guide"}, "invalid_message"),
            ({"channel": "guide", "payload": {}, "surprise": 1}, "invalid_message"),
            ({"type": "publish", "channel": "guide", "payload": {}}, "forbidden"),
        ],
        ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value.values())),
    )
    async def test_websocket_refuses_and_stays(self, city: Visitor, frame: Frame, code: str) -> None:
        async with city.connected(await city.session()) as client:
            error = await client.ask(**frame)
            assert (error["type"], error["code"]) == ("error", code)
            await client.nothing_but_pong()

    # Sessions

    @pytest.mark.parametrize("token", ["", "ses_nobody", "no token at all"], ids=["none", "unknown", "malformed"])
    async def test_websocket_session_validation(self, city: Visitor, token: str) -> None:
        assert await refusal_of(city, token) == 4501

    async def test_websocket_session_eviction_by_revocation(self, city: Visitor) -> None:
        user = city.user()
        token = await city.session(user)
        async with AsyncExitStack() as stack:
            tabs = [await stack.enter_async_context(city.connected(token)) for _ in range(4)]
            await city.done("traffic_cop.revoke_session", user_id=user)
            assert [await tab.close_code() for tab in tabs] == [4501] * 4
        assert await refusal_of(city, token) == 4501

    async def test_websocket_session_refreshes_on_a_living_connection(self, city: Visitor) -> None:
        user = city.user()
        async with city.connected(await city.session(user)) as client:
            assert (await client.ask(type="refresh", session_token=await city.session(user)))["type"] == "ack"
            assert (await client.ask(type="refresh", session_token=await city.session()))["type"] == "error"
            await client.nothing_but_pong()

    # Who is connected

    async def test_websocket_connection_registry(self, city: Visitor, store: Redis | RedisCluster) -> None:
        user = city.user()
        key = f"connections:{user}"
        async with city.connected(await city.session(user)) as client:
            entry = json.loads((await store.hgetall(key))[client.id])
            assert entry["instance_id"] == client.welcome["instance_id"]
            assert set(entry) >= {"instance_id", "connected_at", "last_heartbeat", "channels"}

        async def is_forgotten() -> bool:
            return not await store.exists(key)

        await eventually(is_forgotten, "the registry forgets a closed connection")

    async def test_websocket_subscription_tracking(
        self, city: Visitor, store: Redis | RedisCluster, target: Target
    ) -> None:
        async with city.connected(await city.session()) as client:
            key = f"subscriptions:{client.welcome['instance_id']}"
            await client.subscribe(target.channel)
            members = {str(name) for name in await store.smembers(key)}
            assert target.channel in members
            assert not [name for name in members if name.startswith(("user:", "connection:"))]

    async def test_websocket_connection_by_operations(self, city: Visitor, target: Target) -> None:
        user = city.user()
        async with city.connected(await city.session(user)) as client:
            await client.subscribe(target.channel)
            known = await city.done("post_office.get_connection", connection_id=client.id)
            assert (known["user_id"], known["instance_id"]) == (user, client.welcome["instance_id"])
            assert target.channel in known["channels"]
            by_channel = await city.done("post_office.get_connections_by_channel", channel=target.channel)
            assert client.id in by_channel["connections"]
            await client.ask(type="unsubscribe", channels=[target.channel])

            async def has_left() -> bool:
                entry = await city.done("post_office.get_connection", connection_id=client.id)
                return target.channel not in entry["channels"]

            await eventually(has_left, "the subscription is gone")

        async def is_forgotten() -> bool:
            response = await city.call("post_office.get_connection", connection_id=client.id)
            return bool(response.status_code == 404 and response.json()["code"] == "not_found")

        await eventually(is_forgotten, "a closed connection is not found")

    async def test_websocket_connection_statistics(self, city: Visitor) -> None:
        token = await city.session()
        async with city.connected(token) as one, city.connected(token):

            async def are_counted() -> Frame:
                counts = await city.done("post_office.get_connection_count")
                is_there = counts["global"] >= 2 and counts["users"] >= 1
                return counts if is_there and counts["by_instance"].get(one.welcome["instance_id"]) else {}

            counts = await eventually(are_counted, "both are counted", 10)
            assert counts["global"] == sum(counts["by_instance"].values())
            stats = (await city.http.get("/api/connections/stats")).json()
            assert set(stats) >= {"global", "by_channel", "by_instance", "users"}
            own = await city.http.get("/api/connections/info", headers={"Authorization": f"Bearer {token}"})
            assert one.id in {entry["connection_id"] for entry in own.json()["connections"]}

    # Operations and tools

    async def test_post_office_get_websocket_endpoint(self, city: Visitor) -> None:
        user = city.user()
        token = await city.session(user)
        endpoint = await city.done("post_office.get_websocket_endpoint", session_token=token, realm=city.realm)
        assert endpoint["websocket_url"].endswith(f"/ws?session_token={token}")
        assert "guide" in endpoint["channels"]
        assert endpoint["message_format"]
        async with city.entered(f"{city.ws_url}?{urlsplit(endpoint['websocket_url']).query}") as client:
            assert client.welcome["user_id"] == user

    async def test_post_office_get_websocket_endpoint_with_a_ticket_for_one_entry(self, city: Visitor) -> None:
        token = await city.session()
        asked: Frame = {"session_token": token, "realm": city.realm, "ticket": True}
        endpoint = await city.done("post_office.get_websocket_endpoint", **asked)
        assert token not in endpoint["websocket_url"]
        ticket = urlsplit(endpoint["websocket_url"]).query.removeprefix("session_token=")
        async with city.entered(f"{city.ws_url}?session_token={ticket}") as client:
            await client.nothing_but_pong()
        assert await refusal_of(city, ticket) == 4501

    async def test_post_office_publish_to_agent_channel(self, city: Visitor, target: Target) -> None:
        async with city.connected(await city.session()) as client:
            before = (await client.subscribe(target.channel))[target.channel]
            (told,) = await city.publish(target.channel, 1)
            assert (told["status"], told["channel"]) == ("published", target.channel)
            assert told["offset"] > before["offset"]
            (heard,) = await city.heard(client, target.channel, 1)
            assert [heard[name] for name in ("message_id", "offset", "epoch")] == [
                told[name] for name in ("message_id", "offset", "epoch")
            ]
            assert heard["payload"] == {"run": city.run, "n": 0}
            assert heard["sender"]["kind"] == "service"

    async def test_soa_operations_are_the_same_as_mcp_tools(self, city: Visitor, target: Target) -> None:
        message = {"run": city.run, "n": 0}
        arguments: Frame = {"channel": target.channel, "message": message, "realm": city.realm, "key": city.run}
        token = await city.session()
        endpoint: Frame = {"session_token": token, "realm": city.realm}
        async with city.tools() as tools:
            names = {tool.name for tool in (await tools.list_tools()).tools}
            assert names >= {"post_office_get_websocket_endpoint", "post_office_publish_to_agent_channel"}
            first = (await tools.call_tool("post_office_publish_to_agent_channel", arguments)).structured_content or {}
            again = await city.done(PUBLISH, **arguments)
            assert first["status"] == "published"
            assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])
            asked = (await tools.call_tool("post_office_get_websocket_endpoint", endpoint)).structured_content or {}
            over_http = await city.done("post_office.get_websocket_endpoint", **endpoint)
            assert {**asked, "success": True} == {**over_http, "success": True}
            refused = await tools.call_tool(
                "post_office_publish_to_agent_channel", arguments | {"channel": "pillar:no_such_pillar"}
            )
            assert refused.is_error
            assert (refused.structured_content or {})["code"] == "unknown_channel"

    async def test_a_question_that_is_stopped_gets_no_answer(self, city: Visitor) -> None:
        """Whether an agent has it already or not; one that was quicker has answered."""
        async with city.connected(await city.session()) as asker, city.agents_on("guide"):
            asked = await asker.ask(channel="guide", payload={"message": "Never mind"})
            stop = await asker.ask(type="stop", message_id=asked["message_id"])
            assert stop["outcome"] in {"stopped", "finished"}
            last = await answer_to(asker, asked["message_id"])
            assert (last.get("error", {}).get("code") == "stopped") is (stop["outcome"] == "stopped")
            assert all(part["offset"] < last["offset"] for part in await asker.left())
            unknown = await asker.ask(type="stop", message_id="01a1f92b-37ba-7000-88ac-4a4876347e31")
            assert unknown["outcome"] == "unknown"

    # Fan-out, bounds and evictions

    async def test_fan_out_reaches_every_subscriber_once_and_in_order(self, city: Visitor, target: Target) -> None:
        async with AsyncExitStack() as stack:
            tokens = [await city.session() for _ in range(8)]
            clients = [await stack.enter_async_context(city.connected(token)) for token in tokens]
            for client in clients:
                await client.subscribe(target.channel)
            told = await city.publish(target.channel, 20)
            for client in clients:
                heard = await city.heard(client, target.channel, 20)
                assert [message["payload"]["n"] for message in heard] == list(range(20))
                assert [message["offset"] for message in heard] == [result["offset"] for result in told]
                assert not [frame for frame in await client.left() if frame.get("payload", {}).get("run") == city.run]

    async def test_backpressure_of_a_session_that_sends_too_much(self, city: Visitor) -> None:
        token = await city.session(rates={"messages": {"per_second": 1, "burst": 5}})
        async with city.connected(token) as client:
            answers = [await client.ask(type="ping") for _ in range(8)]
            refused = [answer for answer in answers if answer["type"] == "error"]
            assert refused
            assert {(error["code"], error["retryable"]) for error in refused} == {("rate_limited", True)}
            assert all(error["retry_after"] > 0 for error in refused)

            async def is_served_again() -> bool:
                return bool((await client.ask(type="ping"))["type"] == "pong")

            await eventually(is_served_again, "the credit comes back", 10)

    async def test_backpressure_of_an_inbox_leaves_room_for_others(self, city: Visitor, target: Target) -> None:
        channel = "pillar:insights"
        if not target.is_own:
            pytest.skip("a tenth of an inbox is filled on a platform of the suites' own only")
        async with city.connected(await city.session()) as greedy, city.connected(await city.session()) as modest:
            queue = await city.queue(channel)
            acks = [
                await greedy.ask(channel=channel, payload={"message": str(n)}) for n in range(queue["capacity"] // 10)
            ]
            refused = await greedy.ask(channel=channel, payload={"message": "one too many"})
            assert (refused["type"], refused["code"], refused["retryable"]) == ("error", "overloaded", True)
            queue = await city.queue(channel)
            assert queue["circuit"] == "closed", "one user opens no circuit"
            acks.append(await modest.ask(channel=channel, payload={"message": "hello"}))
            assert {ack["status"] for ack in acks} == {"queued"}
            await self.empties(city, channel)

    async def empties(self, city: Visitor, channel: str) -> None:
        """Takes what this test has asked out of the inbox of its own platform."""

        async def is_empty() -> bool:
            queue = await city.queue(channel)
            return bool(queue["depth"] == 0)

        async with city.connected(city.target.token) as agent:
            await agent.ask(type="consume", channel=channel, max=64)
            while not await is_empty():
                delivery = await agent.of("delivery")
                await agent.send(type="done", delivery_ids=[delivery["delivery_id"]])
                await agent.ask(type="ping")

    async def test_backpressure_of_a_slow_reader_holds_up_nobody_and_loses_nothing(self, city: Visitor) -> None:
        user, count = city.user(), 60
        log, token = f"user:{user}", await city.session(user)
        async with small_window(city, token) as slow, city.connected(token) as fast:
            since = slow.welcome["channels"][log]
            for n in range(count):
                message = {"n": n, "fill": secrets.token_urlsafe(75_000)}
                await city.done("post_office.send_to_user", user_id=user, message=message)
            assert [f["payload"]["n"] for f in await fast.messages(count, log)] == list(range(count))
            read, position = await read_slowly(slow, log, since, count)
        if read < count:
            async with city.connected(token) as again:
                ack = (await again.subscribe(log, **position))[log]
                assert (ack["recovered"], ack["missed"]) == (True, count - read)
                rest = await again.messages(count - read, log)
                assert [frame["payload"]["n"] for frame in rest] == list(range(read, count))

    async def test_heartbeat_arrives(self, city: Visitor) -> None:
        async with city.connected(await city.session()) as client:
            async with asyncio.timeout(client.welcome["heartbeat_seconds"] * 2 + 5):
                while json.loads(await client.socket.recv())["type"] != "heartbeat":
                    pass

    async def test_heartbeat_evicts_a_client_that_does_not_answer(self, city: Visitor) -> None:
        """Its socket is open and reads nothing, so that the pings stay unanswered."""
        async with city.connected(await city.session()) as client:
            client.socket.transport.pause_reading()

            async def is_evicted() -> bool:
                response = await city.call("post_office.get_connection", connection_id=client.id)
                return bool(response.status_code == 404)

            await eventually(is_evicted, "it is no longer connected", client.welcome["heartbeat_seconds"] * 3 + 10)
            client.socket.transport.resume_reading()
            assert await client.close_code() in {4008, 1006}

    # What operators see

    async def test_observability_metrics(self, city: Visitor) -> None:
        async with city.connected(await city.session()) as client:
            instance = client.welcome["instance_id"]
            await client.ask(type="ping")

            async def is_counted() -> Frame:
                """Workers of one address answer scrapes in turn, each on a new connection."""
                page = (await city.http.get("/metrics", headers={"Connection": "close"})).text
                values = {series.name: value for series, value in samples(page).items() if not series.labels}
                is_its = f'instance_id="{instance}"' in page
                return dict(values) if is_its and values["websocket_connections_active"] >= 1 else {}

            values = await eventually(is_counted, "the instance's figures have the connection", 10)
            assert values["websocket_connections_total"] >= 1
            assert values["websocket_messages_sent_total"] >= 2
            assert values["websocket_messages_received_total"] >= 1
            assert "websocket_errors_total" in values
            assert "websocket_message_latency_seconds_count" in values

    async def test_observability_traces_go_with_the_message(self, city: Visitor, target: Target) -> None:
        trace = secrets.token_hex(16)
        headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"}
        async with city.connected(await city.session()) as client:
            await client.subscribe(target.channel)
            message = {"run": city.run, "n": 0}
            await city.done(PUBLISH, headers=headers, channel=target.channel, message=message, realm=city.realm)
            (heard,) = await city.heard(client, target.channel, 1)
            assert heard["traceparent"].split("-")[1] == trace

    async def test_health_of_the_gateway(self, city: Visitor) -> None:
        for path in ("/health/websocket-gateway", "/api/health/websocket-gateway"):
            health = (await city.http.get(path)).json()
            assert health["status"] == "ready"
            assert set(health["dependencies"]) >= {"valkey", "traffic_cop", "post_office"}


def small_window(city: Visitor, token: str) -> Any:
    """A connection whose system takes little ahead of its reader, who reads nothing yet."""
    parts = urlsplit(city.target.url)
    address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
    family, kind, number, _, place = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0]
    peer = socket.socket(family, kind, number)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.settimeout(5)
    peer.connect(place)
    return city.connected(token, sock=peer, max_queue=1, ping_interval=None)


async def read_slowly(client: WireClient, log: str, since: Frame, count: int) -> tuple[int, Frame]:
    """Reads what there is: how many came, in order, and the position after them."""
    position, read = {"offset": since["offset"], "epoch": since["epoch"]}, 0
    try:
        for n in range(count):
            (frame,) = await client.messages(1, log)
            assert frame["payload"]["n"] == n
            position, read = {"offset": frame["offset"], "epoch": frame["epoch"]}, n + 1
    except ConnectionClosed as closed:
        assert closed.rcvd is None or closed.rcvd.code == 4009
    return read, position
