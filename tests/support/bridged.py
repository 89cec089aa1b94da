"""``smart-city mcp`` as a host starts it: a process with the protocol on its standard streams."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client

from tests.support.platform import OPERATOR_TOKEN

COMMAND = ("-m", "city_hall", "mcp")
SECONDS = 30.0
LONGEST_LINE = 1024 * 1024


def environment(url: str, token: str = OPERATOR_TOKEN) -> dict[str, str]:
    """What a host's configuration says; nothing of the tests' own settings."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMART_CITY_")}
    return {**inherited, "SMART_CITY_URL": url, "SMART_CITY_TOKEN": token}


@asynccontextmanager
async def bridged(url: str, token: str = OPERATOR_TOKEN, era: str = "auto", **options: Any) -> AsyncIterator[Client]:
    """The official client, with the bridge as its server."""
    server = StdioServerParameters(command=sys.executable, args=list(COMMAND), env=environment(url, token))
    async with Client(stdio_client(server), mode=era, **options) as client:
        yield client


class RawBridge:
    """The process itself, for what no client shows."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @classmethod
    @asynccontextmanager
    async def started(cls, url: str, token: str = OPERATOR_TOKEN, *options: str) -> AsyncIterator[RawBridge]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, *COMMAND, *options, env=environment(url, token),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
        )  # fmt: skip
        try:
            yield cls(process)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def send(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        await self.process.stdin.drain()

    async def next(self) -> dict[str, Any]:
        """The next line of its output, which must be a message."""
        assert self.process.stdout is not None
        async with asyncio.timeout(SECONDS):
            line = await self.process.stdout.readline()
        message: dict[str, Any] = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    async def introduced(self) -> dict[str, Any]:
        """The handshake of the older era; the answer to it."""
        who = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "host", "version": "1"}}
        await self.send({"id": 1, "method": "initialize", "params": who})
        answer = await self.next()
        await self.send({"method": "notifications/initialized"})
        return answer

    async def ended(self) -> tuple[int, str, str]:
        """Waits for its end: the exit status, and what else it said."""
        async with asyncio.timeout(SECONDS):
            out, errors = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, out.decode(), errors.decode()
