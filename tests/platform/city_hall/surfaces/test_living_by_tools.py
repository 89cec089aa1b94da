"""What an AI agent can do with nothing but MCP tools, told as it would do it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.support import parity
from tests.support.platform import Instance, unique

SCOPES = ("post_office.consume", "post_office.publish", "post_office.history", "post_office.observe")
both_eras = pytest.mark.parametrize("mode", parity.MODES)


class Agent:
    """Somebody who has tools and nothing else."""

    def __init__(self, surfaces: parity.BothSurfaces) -> None:
        self._surfaces = surfaces

    @classmethod
    @asynccontextmanager
    async def of(cls, city: Instance, mode: str) -> AsyncIterator[Agent]:
        token = await city.service(unique("agent"), *SCOPES)
        async with parity.both_surfaces(city.url, token, mode) as surfaces:
            yield cls(surfaces)

    async def use(self, tool: str, **arguments: Any) -> dict[str, Any]:
        answer = await self._surfaces.mcp.call_tool(f"post_office_{tool}", arguments)
        assert isinstance(answer.structured_content, dict)
        assert not answer.is_error, answer.structured_content
        return answer.structured_content

    async def refused(self, tool: str, **arguments: Any) -> str:
        answer = await self._surfaces.mcp.call_tool(f"post_office_{tool}", arguments)
        assert answer.is_error
        assert isinstance(answer.structured_content, dict)
        return str(answer.structured_content["code"])


@both_eras
async def test_an_agent_sees_takes_and_answers_a_question(city: Instance, mode: str) -> None:
    user = unique("alice")
    async with Agent.of(city, mode) as agent, city.connected(await city.session(user)) as alice:
        asked = await alice.ask(channel="pillar:content", payload={"message": "Who are you?"})
        assert asked["status"] == "queued"

        channels = (await agent.use("list_channels"))["channels"]
        assert "pillar:content" in {channel["channel"] for channel in channels}
        consumer = (await agent.use("subscribe_to_channel", channel="pillar:content", mode="inbox"))["consumer"]
        taken = (await agent.use("receive_messages", consumer=consumer, max=1, wait_ms=5000))["deliveries"]
        (delivery,) = taken
        assert delivery["message"]["payload"] == {"message": "Who are you?"}
        assert delivery["message"]["sender"]["id"] == user

        found = await agent.use("get_connections_by_channel", channel="pillar:content")
        assert alice.id in found["connections"]
        await agent.use("reply", delivery_id=delivery["delivery_id"], payload={"message": "An agent."})
        answer = await alice.of("chat_response")
        assert answer["payload"] == {"message": "An agent."}
        assert answer["in_reply_to"] == asked["message_id"]

        assert await agent.refused("reply", delivery_id=delivery["delivery_id"], payload={}) == "stale_delivery"
        empty = await agent.use("receive_messages", consumer=consumer, max=1)
        assert empty["deliveries"] == []


@both_eras
async def test_an_agent_hands_on_what_another_knows_better(city: Instance, mode: str) -> None:
    async with Agent.of(city, mode) as agent, city.connected(await city.session(unique("bob"))) as bob:
        asked = await bob.ask(channel="guide", payload={"message": "How is the weather?"})
        guide = (await agent.use("subscribe_to_channel", channel="guide", mode="inbox"))["consumer"]
        (first,) = (await agent.use("receive_messages", consumer=guide, wait_ms=5000))["deliveries"]
        await agent.use("extend_delivery", delivery_id=first["delivery_id"], lease_seconds=60)
        await agent.use("forward_delivery", delivery_id=first["delivery_id"], channel="pillar:insights")
        insights = (await agent.use("subscribe_to_channel", channel="pillar:insights", mode="inbox"))["consumer"]
        (second,) = (await agent.use("receive_messages", consumer=insights, wait_ms=5000))["deliveries"]
        assert second["message"]["message_id"] == asked["message_id"]
        await agent.use("reply", delivery_id=second["delivery_id"], payload={"message": "Fine."})
        assert (await bob.of("chat_response"))["in_reply_to"] == asked["message_id"]


@both_eras
async def test_an_agent_publishes_and_reads_along(city: Instance, mode: str) -> None:
    async with Agent.of(city, mode) as agent, city.connected(await city.session(unique("carol"))) as carol:
        await carol.subscribe("guide")
        reader = (await agent.use("subscribe_to_channel", channel="guide", mode="log"))["consumer"]
        sent = await agent.use("publish_to_agent_channel", channel="guide", message={"n": 1}, key="k1")
        again = await agent.use("publish_to_agent_channel", channel="guide", message={"n": 1}, key="k1")
        assert again["duplicate"] is True
        assert again["message_id"] == sent["message_id"]
        assert (await carol.of("message"))["payload"] == {"n": 1}

        read = await agent.use("receive_messages", consumer=reader, wait_ms=5000)
        assert [publication["message_id"] for publication in read["publications"]] == [sent["message_id"]]
        position = f"{read['offset']}.{read['epoch']}"
        await agent.use("acknowledge_messages", consumer=reader, position=position)
        assert (await agent.use("receive_messages", consumer=reader))["publications"] == []
        history = await agent.use("get_channel_history", channel="guide", limit=1)
        assert history["publications"][0]["message_id"] == sent["message_id"]
