"""The official MCP client on a city's tools. It knows none of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, Instance

Frame = dict[str, Any]


@asynccontextmanager
async def opened(city: Instance, token: str = OPERATOR_TOKEN, era: str = "auto") -> AsyncIterator[Client]:
    """The official client, with a token."""
    async with (
        plain_client(city.url, Authorization=f"Bearer {token}") as http,
        Client(streamable_http_client(f"{city.url}/mcp", http_client=http), mode=era) as client,
    ):
        yield client


async def tool(client: Client, name: str, **arguments: Any) -> Frame:
    """A call that must succeed; its structured result."""
    answer = await client.call_tool(name, arguments)
    assert not answer.is_error, answer
    assert isinstance(answer.structured_content, dict)
    return answer.structured_content
