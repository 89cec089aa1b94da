"""A drain: nobody new comes in, sockets leave in waves with 1012, leases go back, and the exit code tells the truth."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, unique
from tests.support.serving import Serving
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

BEARER = f"Bearer {OPERATOR_TOKEN}"


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
def settings(store: ValkeyServer) -> dict[str, str]:
    """What the two platforms have in common."""
    return {"VALKEY_URL": store.url, "OPERATOR_TOKEN": OPERATOR_TOKEN, "MAX_CONNECTIONS_PER_USER": "200",
            "LOG_FORMAT": "json", "INBOX_TRIES": "1", "DRAIN_SECONDS": "2", "STOP_SECONDS": "3"}  # fmt: skip


@pytest.fixture
def leaving(tmp_path: Path, settings: dict[str, str]) -> Iterator[Serving]:
    """The platform that is told to end."""
    named = {**settings, "INSTANCE_ID": unique("leaving")}
    with Serving(tmp_path / "leaving", "--port", "0", "--no-demo", settings=named) as serving:
        yield serving


@pytest.fixture
def staying(tmp_path: Path, settings: dict[str, str]) -> Iterator[Serving]:
    """Another on the same Valkey."""
    named = {**settings, "INSTANCE_ID": unique("staying")}
    with Serving(tmp_path / "staying", "--port", "0", "--no-demo", settings=named) as serving:
        yield serving


async def call(serving: Serving, operation: str, **arguments: Any) -> httpx2.Response:
    service, _, name = operation.partition(".")
    async with plain_client(serving.url, Authorization=BEARER) as http:
        return await http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments)


async def ended(serving: Serving) -> int:
    return await asyncio.to_thread(serving.ended, 25)


async def test_a_balancer_is_told_sockets_leave_in_waves_with_1012_and_the_exit_is_0(leaving: Serving) -> None:
    """A balancer hears on its open connection that nobody is to be sent any more, or finds that none is taken."""
    leaving.opened()
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(plain_client(leaving.url))
        assert (await http.get("/health/ready")).status_code == 200
        clients = [
            await stack.enter_async_context(WireClient.connected(leaving.ws_url, OPERATOR_TOKEN)) for _ in range(60)
        ]
        leaving.signal(signal.SIGTERM)
        began = time.monotonic()

        async def fate(client: WireClient) -> tuple[int, float]:
            return await client.close_code(20), time.monotonic() - began

        async def is_leaving() -> bool:
            try:
                return (await http.get("/health/ready")).status_code == 503
            except httpx2.TransportError:
                return True

        told = asyncio.create_task(eventually(is_leaving, "it says so"))
        fates = await asyncio.gather(*(fate(client) for client in clients))
        assert await told
        assert {code for code, _ in fates} == {1012}
        times = sorted(seconds for _, seconds in fates)
        assert times[-1] - times[0] > 0.5, "not all at once"
        assert times[-1] < 15
    assert await ended(leaving) == 0


async def test_nobody_new_is_sent_to_it_and_what_was_given_out_goes_back_without_a_try(
    leaving: Serving, staying: Serving
) -> None:
    """With one try in all, a try that counted would make it a dead letter."""
    leaving.opened()
    staying.opened()
    async with (
        WireClient.connected(staying.ws_url, OPERATOR_TOKEN) as asker,
        WireClient.connected(leaving.ws_url, OPERATOR_TOKEN) as agent,
    ):
        await agent.ask(type="consume", channel="guide")
        arguments = {"channel": "guide", "message": {"message": "?"}, "reply_to": "pillar:content"}
        await asker.subscribe("pillar:content")
        question = (await call(staying, "post_office.send_to_agent", **arguments)).json()["message_id"]
        assert (await agent.of("delivery"))["message"]["message_id"] == question
        async with WireClient.connected(leaving.ws_url, OPERATOR_TOKEN) as last:
            leaving.signal(signal.SIGTERM)
            assert await agent.close_code(20) == 1012
            assert await last.close_code(20) == 1012
        async with WireClient.connected(staying.ws_url, OPERATOR_TOKEN) as other:
            await other.ask(type="consume", channel="guide")
            again = await other.of("delivery", 15)
            assert again["message"]["message_id"] == question
            await other.ask(type="reply", delivery_id=again["delivery_id"], payload={"message": "!"})
        (answer,) = await asker.messages(1, "pillar:content")
        assert answer["in_reply_to"] == question
    assert await ended(leaving) == 0


async def test_who_leaves_with_it_is_resumed_by_the_other(leaving: Serving, staying: Serving) -> None:
    leaving.opened()
    staying.opened()
    made = (await call(staying, "traffic_cop.create_session", user_id=unique("alice"))).json()
    token = made["session_token"]
    async with WireClient.connected(leaving.ws_url, token) as client:
        leaving.signal(signal.SIGTERM)
        assert await client.close_code(20) == 1012
        async with WireClient.connected(f"{staying.ws_url}?resume={client.id}", token) as again:
            assert (again.welcome["resumed"], again.id) == (True, client.id)
    assert await ended(leaving) == 0


async def test_what_could_not_be_flushed_is_told_in_numbers_and_exits_1(leaving: Serving, store: ValkeyServer) -> None:
    leaving.opened()
    async with WireClient.connected(leaving.ws_url, OPERATOR_TOKEN) as client:
        await client.ask(type="publish", channel="guide", payload={"n": 0})
        store.hang()
        acks: list[Frame] = [await client.ask(type="publish", channel="guide", payload={"n": n}) for n in range(3)]
        assert {ack["status"] for ack in acks} == {"held"}
        leaving.signal(signal.SIGTERM)
        await client.close_code(25)
    assert await ended(leaving) == 1
    events = [json.loads(line) for line in leaving.said.splitlines() if line.startswith("{")]
    assert [event for event in events if "lost" in str(event) and "3" in str(event)], "it says how many were lost"


async def test_what_was_held_is_flushed_by_a_drain_when_the_store_is_back(
    leaving: Serving, store: ValkeyServer
) -> None:
    leaving.opened()
    async with WireClient.connected(leaving.ws_url, OPERATOR_TOKEN) as client:
        await client.ask(type="publish", channel="guide", payload={"n": 0})
        store.hang()
        first = await client.ask(type="publish", channel="guide", payload={"n": 1})
        assert first["status"] == "held"
        leaving.signal(signal.SIGTERM)
        store.resume()
    assert await ended(leaving) == 0
