"""docs/agents.md, followed to the letter: its commands are typed, its code is the examples', its settings are used."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client

from city_hall.surfaces.mcp.prompts import PROMPTS
from tests.support.http_server import serving
from tests.support.model_server import KEY, NAME, ModelServer
from tests.support.platform import OPERATOR_TOKEN, Instance

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/agents.md").read_text()
EXAMPLES = {path.name: path.read_text() for path in (ROOT / "examples").glob("*.py")}
LOCAL = "http://127.0.0.1:8000"
MODEL = "OPENAI_BASE_URL=http://127.0.0.1:11434/v1 OPENAI_API_KEY=none MODEL=llama3.2"
STAYS = re.compile(r"^SMART_CITY_TOKEN=\$TOKEN python examples/\w+_agent\.py$")
SECONDS = 60.0


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.S | re.M)


def test_its_code_is_that_of_the_examples() -> None:
    assert blocks("python")
    for code in blocks("python"):
        assert any(code in text for text in EXAMPLES.values()), code


def test_every_example_is_on_it() -> None:
    assert {name for name in EXAMPLES if f"examples/{name}" in PAGE} == set(EXAMPLES)


def test_every_prompt_is_on_it_with_its_arguments() -> None:
    for told in PROMPTS:
        assert f"| `{told.name}` ({', '.join(argument.name for argument in told.arguments)}) |" in PAGE


class Typist:
    """Types the page's commands into one shell after the other, as somebody with two terminals would."""

    def __init__(self, city: Instance, home: Path, model_url: str) -> None:
        self._home = home
        self._model = f"OPENAI_BASE_URL={model_url}/v1 OPENAI_API_KEY={KEY} MODEL={NAME}"
        (home / "operator-token").write_text(OPERATOR_TOKEN)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMART_CITY_")}
        self._environment = {
            **inherited, "SMART_CITY_URL": city.url, "SMART_CITY_DATA_DIR": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }  # fmt: skip
        self._agents: list[asyncio.subprocess.Process] = []

    async def types(self, block: str) -> None:
        """One block: commands after a ``$``, each with what it prints."""
        for typed in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, printed = _parted(typed)
            command = command.replace(MODEL, self._model)
            if STAYS.match(command):
                await self._end_agents()
                self._agents.append(await self._shell(f"exec env {command}"))
            elif printed:
                assert await self._out_of(command) == printed
            else:
                await self._out_of(command)

    async def _shell(self, command: str) -> asyncio.subprocess.Process:
        state = self._home / "state"
        remember = f"declare -p TOKEN ASKER OPENAI_BASE_URL OPENAI_API_KEY MODEL > {state} 2>/dev/null; exit $status"
        script = f"[ -e {state} ] && . {state}\n{command}\nstatus=$?; {remember}"
        return await asyncio.create_subprocess_exec(
            "bash", "-c", script, cwd=ROOT, env=self._environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip

    async def _out_of(self, command: str) -> str:
        process = await self._shell(command)
        async with asyncio.timeout(SECONDS):
            printed, _ = await process.communicate()
        if not command.startswith("env -u"):
            assert process.returncode == 0, (command, printed)
        return printed.decode()

    async def _end_agents(self) -> None:
        while self._agents:
            process = self._agents.pop()
            if process.returncode is None:
                process.terminate()
                await process.wait()

    @classmethod
    @asynccontextmanager
    async def seated(cls, city: Instance, home: Path, model_url: str) -> AsyncIterator[Typist]:
        typist = cls(city, home, model_url)
        try:
            yield typist
        finally:
            await typist._end_agents()


def _parted(typed: str) -> tuple[str, str]:
    """A command, with the lines that continue it, and what it prints."""
    lines = typed.splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines, 1) if not line.endswith("\\\n"))
    return "".join(lines[:end]).strip(), "".join(lines[end:])


@pytest.mark.timeout(300)
async def test_its_commands_do_what_it_says(city: Instance, tmp_path: Path) -> None:
    model = ModelServer()
    async with serving(model.app) as url, Typist.seated(city, tmp_path, url) as typist:
        for block in blocks("console"):
            await typist.types(block)
    assert [messages[-1]["content"] for messages in model.asked] == ["What is a channel?"]


def hosts() -> list[dict[str, Any]]:
    return [json.loads(block)["mcpServers"]["smart-city"] for block in blocks("json")]


async def checked(client: Client) -> None:
    assert {"post_office_reply", "post_office_receive_messages"} <= {t.name for t in (await client.list_tools()).tools}


async def test_a_host_with_its_settings_finds_the_tools(city: Instance) -> None:
    by_http, by_stdio = hosts()
    assert (by_http["type"], by_http["url"]) == ("http", f"{LOCAL}/mcp")
    headers = {name: value.replace("svc_…", OPERATOR_TOKEN) for name, value in by_http["headers"].items()}
    async with (
        httpx2.AsyncClient(headers=headers) as http,
        Client(streamable_http_client(by_http["url"].replace(LOCAL, city.url), http_client=http)) as client,
    ):
        await checked(client)
    told = {name: value.replace("svc_…", OPERATOR_TOKEN) for name, value in by_stdio["env"].items()}
    given = {**told, "SMART_CITY_URL": told["SMART_CITY_URL"].replace(LOCAL, city.url)}
    command = str(Path(sys.executable).with_name(by_stdio["command"]))
    server = StdioServerParameters(command=command, args=by_stdio["args"], env={**os.environ, **given})
    async with Client(stdio_client(server)) as client:
        await checked(client)
