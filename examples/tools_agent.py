"""An agent by tools alone: what a language model does that follows the prompt `live_on_a_channel`, as a program."""

import asyncio
import os
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

URL = os.environ.get("SMART_CITY_URL", "http://127.0.0.1:8000")
HEADERS = {"Authorization": f"Bearer {os.environ['SMART_CITY_TOKEN']}"}


class Refused(Exception):
    """A tool said no; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


async def use(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """Calls a tool; repeats it while the platform says that this may help."""
    while True:
        result = await client.call_tool(f"post_office_{tool}", arguments)
        answer: dict[str, Any] = result.structured_content or {}
        if not result.is_error:
            return answer
        if not answer["retryable"]:
            raise Refused(answer["code"], answer["message"])
        await asyncio.sleep(answer.get("retry_after", 2))


async def live_on(client: Client, channel: str) -> None:
    consumer = (await use(client, "subscribe_to_channel", channel=channel, mode="inbox"))["consumer"]
    while True:
        received = await use(client, "receive_messages", consumer=consumer, max=1, wait_ms=20_000, lease_seconds=120)
        for delivery in received["deliveries"]:
            question = delivery["message"]["payload"].get("message", "")
            try:
                await use(
                    client, "reply", delivery_id=delivery["delivery_id"],
                    payload={"message": f"By tools alone: {question}"},
                )  # fmt: skip
            except Refused as refused:
                if refused.code != "stale_delivery":  # too late: somebody else has it now
                    raise


async def main() -> None:
    async with (
        httpx2.AsyncClient(headers=HEADERS, timeout=60) as http,
        Client(streamable_http_client(f"{URL}/mcp", http_client=http)) as client,
    ):
        await live_on(client, "pillar:content")


if __name__ == "__main__":
    asyncio.run(main())
