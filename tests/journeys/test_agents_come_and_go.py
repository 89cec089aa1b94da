"""MCP clients over real processes: a stop waits for none of their streams, and each is told its end."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.bridged import bridged
from tests.support.serving import Serving
from tests.support.waiting import eventually

GUIDE = "channel://guide"
SOON_SECONDS = 20.0
"""The drain's five, and what a busy machine adds; the call would wait for thirty."""


async def somebody_waits(client: Client) -> bool:
    status = (await client.call_tool("post_office_get_queue_status", {"channel": "guide"})).structured_content or {}
    return bool(status["channels"]["guide"]["consumers"])


@pytest.mark.filterwarnings("ignore:resources/(un)?subscribe is removed")
async def test_a_stop_ends_every_stream_in_peace_and_waits_for_none(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--no-demo") as serving:
        await asyncio.to_thread(serving.opened)
        headers = {"Authorization": f"Bearer {serving.token}"}
        async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http:
            transport = streamable_http_client(f"{serving.url}/mcp", http_client=http)
            older = streamable_http_client(f"{serving.url}/mcp", http_client=http, terminate_on_close=False)
            async with (
                Client(transport) as client,
                client.listen(resource_subscriptions=[GUIDE]) as stream,
                Client(older, mode="legacy") as session,
                bridged(serving.url, serving.token, "legacy") as bridge,
            ):
                await session.subscribe_resource(GUIDE)
                await bridge.subscribe_resource(GUIDE)
                made = await client.call_tool(
                    "post_office_subscribe_to_channel", {"channel": "guide", "mode": "inbox"}
                )  # fmt: skip
                assert made.structured_content is not None
                wanted = {"consumer": made.structured_content["consumer"], "wait_ms": 30_000}
                waiting = asyncio.create_task(client.call_tool("post_office_receive_messages", wanted))
                await eventually(lambda: somebody_waits(session), "the call waits")
                began = time.monotonic()
                serving.signal(signal.SIGTERM)
                assert [event async for event in stream] == []
                answer = await asyncio.wait_for(waiting, SOON_SECONDS)
                assert (answer.structured_content or {})["deliveries"] == []
                assert await asyncio.to_thread(serving.ended) == 0
                assert time.monotonic() - began < SOON_SECONDS
        assert "Traceback" not in serving.said
