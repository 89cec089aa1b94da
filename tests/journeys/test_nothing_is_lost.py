"""The platform is killed, stopped, started twice: what was acknowledged is there, and nothing is left running."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import redis

from tests.support.serving import Serving, wait_until
from tests.support.wire_client import WireClient


def call(serving: Serving, operation: str, *, patience: float = 0, **arguments: Any) -> dict[str, Any]:
    """The result of an operation, called as the operator; tried for so many seconds while it is unavailable."""
    until = time.monotonic() + patience
    while (response := post(serving, operation, arguments)).status_code == 503 and time.monotonic() < until:
        pass
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def post(serving: Serving, operation: str, arguments: dict[str, Any]) -> httpx2.Response:
    service, _, name = operation.partition(".")
    return httpx2.post(
        f"{serving.url}/soa/{service.replace('_', '-')}/{name}", json=arguments, timeout=10, trust_env=False,
        headers={"Authorization": f"Bearer {serving.token}"},
    )  # fmt: skip


async def test_after_a_kill_of_everything_the_next_start_has_all_that_was_acknowledged(tmp_path: Path) -> None:
    data_dir, settings = tmp_path / "data", {"RESUME_WINDOW_SECONDS": "2"}
    with Serving(data_dir, "--port", "0", "--no-demo", settings=settings) as first:
        first.opened()
        token = call(first, "traffic_cop.create_session", user_id="alice")["session_token"]
        async with WireClient.connected(first.ws_url, token) as alice:
            asked = await alice.ask(channel="guide", payload={"message": "is anybody there?"})
            assert asked["status"] == "queued"
            published = call(first, "post_office.publish_to_agent_channel", channel="guide", message={"n": 1})
            valkey = first.valkey_pid
            first.process.kill()
            first.process.wait()
            assert await alice.close_code(10) in {1006, 1012}
        assert first.valkey_pid == valkey
    with Serving(data_dir, "--port", "0", "--no-demo", settings=settings) as second:
        second.opened()
        assert second.valkey_pid == valkey
        history = call(second, "post_office.get_channel_history", channel="guide")
        assert [entry["message_id"] for entry in history["publications"]] == [published["message_id"]]
        async with (
            WireClient.connected(second.ws_url, token) as alice,
            WireClient.connected(second.ws_url, second.token) as agent,
        ):
            since = {"offset": 0, "epoch": published["epoch"]}
            recovered = (await alice.ask(type="subscribe", channels={"guide": since}))["channels"]["guide"]
            assert (recovered["recovered"], recovered["missed"]) == (True, 1)
            await agent.ask(type="consume", channel="guide")
            delivery = await agent.of("delivery", 15)
            assert delivery["message"]["message_id"] == asked["message_id"]
            await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "yes"})
            answer = await alice.of("chat_response", 30)
            assert answer["log"] == "user:alice"
            assert answer["payload"] == {"message": "yes"}


async def test_a_killed_worker_is_replaced_and_its_deliveries_go_to_another_agent(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--port", "0", "--workers", "2", "--no-demo") as city:
        city.opened()
        token = call(city, "traffic_cop.create_session", user_id="alice")["session_token"]
        async with WireClient.connected(city.ws_url, token) as alice:
            here = alice.welcome["instance_id"]
            async with agent_on(city, other_than=here) as agent:
                await agent.ask(type="consume", channel="guide")
                asked = await alice.ask(channel="guide", payload={"message": "hello"})
                delivery = await agent.of("delivery")
                pid = pid_of(city, agent.welcome["instance_id"])
                os.kill(pid, signal.SIGKILL)
                assert await agent.close_code(10) == 1006
            async with WireClient.connected(city.ws_url, city.token) as again:
                await again.ask(type="consume", channel="guide")
                second = await again.of("delivery", 20)
                assert second["message"]["message_id"] == asked["message_id"]
                assert second["attempt"] == delivery["attempt"] + 1
                await again.ask(type="reply", delivery_id=second["delivery_id"], payload={"message": "hi"})
            assert (await alice.of("chat_response"))["payload"] == {"message": "hi"}
        wait_until(lambda: len(call(city, "post_office.get_connection_count")["by_instance"]) == 2, "two again", 20)


async def test_an_answer_logged_for_a_killed_gateways_client_reaches_its_user(tmp_path: Path) -> None:
    settings = {"INSTANCE_LEASE_SECONDS": "1", "RESUME_WINDOW_SECONDS": "2"}
    with Serving(tmp_path / "data", "--port", "0", "--workers", "2", "--no-demo", settings=settings) as city:
        city.opened()
        token = call(city, "traffic_cop.create_session", user_id="alice")["session_token"]
        async with WireClient.connected(city.ws_url, token) as alice:
            here = alice.welcome["instance_id"]
            async with agent_on(city, other_than=here) as agent:
                await agent.ask(type="consume", channel="guide")
                asked = await alice.ask(channel="guide", payload={"message": "hello"})
                delivery = await agent.of("delivery")
                os.kill(pid_of(city, here), signal.SIGKILL)
                assert await alice.close_code(10) == 1006
                ack = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "hi"})
                assert ack["type"] == "ack"
        async with WireClient.connected(city.ws_url, token) as alice:
            await alice.subscribe("user:alice", offset=0)
            answer = await alice.of("chat_response", 40)
            assert (answer["in_reply_to"], answer["log"]) == (asked["message_id"], "user:alice")


async def test_a_killed_valkey_comes_back_and_no_socket_closes(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--port", "0", "--no-demo") as city:
        city.opened()
        token = call(city, "traffic_cop.create_session", user_id="alice")["session_token"]
        async with WireClient.connected(city.ws_url, token) as alice:
            await alice.subscribe("guide")
            call(city, "post_office.publish_to_agent_channel", channel="guide", message={"n": 1})
            first = await alice.of("message")
            valkey = city.valkey_pid
            os.kill(valkey, signal.SIGKILL)
            wait_until(lambda: city.valkey_pid not in {0, valkey}, "Valkey is back")

            told = {"channel": "guide", "message": {"n": 2}, "key": "second"}
            call(city, "post_office.publish_to_agent_channel", patience=10, **told)
            second = await alice.of("message", 15)
            assert (second["offset"], second["payload"]) == (2, {"n": 2})
            assert second["epoch"] != first["epoch"]
            await alice.nothing_but_pong()


@asynccontextmanager
async def agent_on(city: Serving, *, other_than: str) -> AsyncIterator[WireClient]:
    """A connection of the operator on another worker than the named one; the kernel chooses, so it is tried."""
    for _ in range(100):
        async with WireClient.connected(city.ws_url, city.token) as client:
            if client.welcome["instance_id"] != other_than:
                yield client
                return
    raise AssertionError(f"a hundred connections all came to {other_than}")


def pid_of(city: Serving, instance_id: str) -> int:
    """The process of an instance, as it tells the others."""
    record = json.loads((city.data_dir / "valkey/server.json").read_text())
    with redis.Redis(unix_socket_path=record["socket"]) as store:
        told = store.hvals("{instances}:figures")
    assert isinstance(told, list)
    return next(int(figures["pid"]) for figures in map(json.loads, told) if figures["instance_id"] == instance_id)
