"""Section 7 over real processes: what is left of an instance that is killed, and what its log says and does not."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis.asyncio

from tests.contract.shapes import TIMESTAMP
from tests.contract.watching import eventually
from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, unique
from tests.support.serving import Serving
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM
from tests.support.wire_client import WireClient

Frame = dict[str, Any]
LEASE_SECONDS = 2


@pytest.fixture
def settings(valkey_server: ValkeyServer) -> dict[str, str]:
    """What platforms have in common which share a store."""
    return {
        "VALKEY_URL": valkey_server.url, "VALKEY_KEY_PREFIX": f"{unique('pair')}:", "OPERATOR_TOKEN": OPERATOR_TOKEN,
        "INSTANCE_LEASE_SECONDS": str(LEASE_SECONDS), "LOG_FORMAT": "json", "LOG_LEVEL": "info",
        "VALKEY_TIMEOUT_SECONDS": "15", "HELD_AFTER_SECONDS": "15",
    }  # fmt: skip


@pytest.fixture
def east(tmp_path: Path, settings: dict[str, str]) -> Iterator[Serving]:
    """A platform of one worker."""
    named = {**settings, "INSTANCE_ID": unique("east")}
    with Serving(tmp_path / "east", "--port", "0", "--no-demo", settings=named) as serving:
        yield serving


@pytest.fixture
def west(tmp_path: Path, settings: dict[str, str]) -> Iterator[Serving]:
    """Another, as on another machine."""
    named = {**settings, "INSTANCE_ID": unique("west")}
    with Serving(tmp_path / "west", "--port", "0", "--no-demo", settings=named) as serving:
        yield serving


async def call(serving: Serving, operation: str, **arguments: Any) -> Frame:
    service, _, name = operation.partition(".")
    async with plain_client(serving.url, Authorization=f"Bearer {OPERATOR_TOKEN}") as http:
        response = await http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments)
    assert response.status_code == 200, response.text
    answer: Frame = response.json()
    return answer


async def test_a_killed_instance_is_forgotten_within_its_lease_and_its_deliveries_are_given_to_others(
    east: Serving, west: Serving, valkey_server: ValkeyServer
) -> None:
    east.opened()
    west.opened()
    user = unique("alice")
    token = (await call(west, "traffic_cop.create_session", user_id=user))["session_token"]
    store = redis.asyncio.Redis(unix_socket_path=str(valkey_server.socket), decode_responses=True)
    async with (
        store,
        WireClient.connected(west.ws_url, token) as alice,
        WireClient.connected(east.ws_url, token) as doomed,
    ):
        instance = doomed.welcome["instance_id"]
        assert instance != alice.welcome["instance_id"]
        await doomed.subscribe("guide", "pillar:content")
        assert set(await store.smembers(f"subscriptions:{instance}")) == {"guide", "pillar:content"}
        async with WireClient.connected(east.ws_url, OPERATOR_TOKEN) as agent:
            await agent.ask(type="consume", channel="guide")
            question = (await alice.ask(channel="guide", payload={"message": "hello"}))["message_id"]
            first = await agent.of("delivery")
            os.killpg(east.process.pid, signal.SIGKILL)
            began = time.monotonic()
            assert await doomed.close_code() == 1006
        async with WireClient.connected(west.ws_url, OPERATOR_TOKEN) as other:
            await other.ask(type="consume", channel="guide")
            second = await other.of("delivery", LEASE_SECONDS + ROOM)
            assert time.monotonic() - began < LEASE_SECONDS + ROOM
            assert second["message"]["message_id"] == question
            assert second["attempt"] == first["attempt"] + 1
            await other.ask(type="reply", delivery_id=second["delivery_id"], payload={"message": "saved"})
        assert (await alice.of("chat_response"))["payload"] == {"message": "saved"}

        async def left() -> tuple[set[str], bool]:
            known = {str(name) for name in await store.hkeys(f"connections:{user}")}
            return known, bool(await store.exists(f"subscriptions:{instance}"))

        await eventually(left, lambda seen: seen == ({alice.id}, False), "forgotten")
        assert time.monotonic() - began < LEASE_SECONDS + ROOM

        async def counted() -> int:
            return int((await call(west, "post_office.get_connection_count"))["global"])

        await eventually(counted, lambda count: count == 1, "it is not counted any more")
        await alice.nothing_but_pong()


async def test_a_connection_of_a_killed_instance_is_resumed_at_another_at_once(east: Serving, west: Serving) -> None:
    """Nobody waits for a lease, and what an agent answers meanwhile is in its log."""
    east.opened()
    west.opened()
    token = (await call(west, "traffic_cop.create_session", user_id=unique("alice")))["session_token"]
    async with (
        WireClient.connected(west.ws_url, OPERATOR_TOKEN) as agent,
        WireClient.connected(east.ws_url, token) as alice,
    ):
        await agent.ask(type="consume", channel="guide")
        question = (await alice.ask(channel="guide", payload={"message": "hello"}))["message_id"]
        delivery = await agent.of("delivery")
        private = f"connection:{alice.id}"
        since = alice.welcome["channels"][private]
        os.killpg(east.process.pid, signal.SIGKILL)
        await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "still here"})
        async with WireClient.connected(f"{west.ws_url}?resume={alice.id}", token) as again:
            assert (again.welcome["resumed"], again.id, again.welcome["channels"]) == (True, alice.id, {})
            outcome = (await again.subscribe(private, offset=since["offset"], epoch=since["epoch"]))[private]
            assert (outcome["recovered"], outcome["missed"]) == (True, 1)
            answer = await again.of("chat_response")
            assert (answer["in_reply_to"], answer["payload"]) == (question, {"message": "still here"})

            async def has_lapsed() -> bool:
                counts = await call(west, "post_office.get_connection_count")
                return set(counts["by_instance"]) == {again.welcome["instance_id"]}

            await eventually(has_lapsed, bool, "the killed instance is forgotten")
            await again.nothing_but_pong()
            known = await call(west, "post_office.get_connection", connection_id=alice.id)
            assert known["instance_id"] == again.welcome["instance_id"], "its succession took nothing away"


async def test_a_drained_instance_tells_its_sockets_and_its_balancer_and_logs_no_token(
    east: Serving,
) -> None:
    east.opened()
    user = unique("alice")
    token = (await call(east, "traffic_cop.create_session", user_id=user))["session_token"]
    asked = {"session_token": token, "realm": "operator", "ticket": True}
    ticket = (await call(east, "post_office.get_websocket_endpoint", **asked))["websocket_url"].rpartition("=")[2]
    async with WireClient.connected(f"{east.ws_url}?session_token={token}", "") as alice:
        async with WireClient.connected(f"{east.ws_url}?session_token={ticket}", "") as again:
            connection = again.id
            await again.ask(channel="guide", payload={"message": "a secret of mine"})
        with pytest.raises(Exception, match="4501"):
            async with WireClient.connected(f"{east.ws_url}?session_token=ses_nobody_{token[-8:]}", ""):
                pass
        async with plain_client(east.url) as http:
            await http.get("/health", params={"session_token": token})
            await http.get("/metrics", params={"token": token}, headers={"Authorization": f"Bearer {token}"})
        east.signal(signal.SIGTERM)
        assert await alice.close_code(10) == 1012
    assert await asyncio.to_thread(east.ended, 20) in {0, -signal.SIGTERM}
    said = east.said
    for secret in (token, ticket, token[-8:], OPERATOR_TOKEN, "a secret of mine"):
        assert secret not in said
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    for words in ("WebSocket connected", "WebSocket disconnected"):
        told = [event for event in events if words in str(event) and connection in str(event)]
        assert len(told) == 1, words
        assert user in str(told[0])
        assert any(key.startswith("active") for key in told[0])
    assert any(TIMESTAMP.search(str(event)) for event in events)
