"""The prompts: what they name exists, and whoever follows them to the letter gets there."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import mcp_types
import pytest
from mcp import Client, MCPError

from city_hall.surfaces.mcp.prompts import PROMPTS, text_of
from tests.contract.tools import opened, tool
from tests.platform.city_hall.surfaces.test_every_operation import ENTRIES
from tests.support.parity import MODES
from tests.support.platform import Instance
from tests.support.waiting import PATIENCE, until

ARGUMENTS = {"channel": "pillar:content", "topic": "the weather"}
CALL = re.compile(r"(post_office_[a-z_]+) (\{.*\})")
FENCED = re.compile(r"```\n\s*(post_office_[a-z_]+) (\{.*\})\n\s*```")
TOOLS = {entry.operation.tool_name: entry for entry in ENTRIES}
KNOWN = {
    "consumer": "0123456789abcdef0123", "delivery_id": "guide/01938f3a-7c11-7000-8000-000000000000/1",
    "position": "41.k3f9",
}  # fmt: skip


def text(name: str) -> str:
    told = next(told for told in PROMPTS if told.name == name)
    return told.text({argument.name: ARGUMENTS[argument.name] for argument in told.arguments})


def filled(arguments: str, known: dict[str, str]) -> dict[str, Any]:
    """The arguments of a call in a text, with what earlier answers brought in the places for it."""
    whole: dict[str, Any] = json.loads(re.sub(r"<([a-z_ ]+)>", lambda m: known.get(m[1], m[1]), arguments))
    return whole


@pytest.mark.parametrize("name", [told.name for told in PROMPTS])
def test_every_call_in_a_prompt_is_one_that_the_tools_take(name: str) -> None:
    calls = CALL.findall(text(name))
    assert calls
    for named, arguments in calls:
        entry = TOOLS.get(named)
        assert entry is not None, named
        entry.operation.arguments.model_validate_json(json.dumps(filled(arguments, KNOWN)))


@pytest.mark.parametrize("name", [f"prompts/{told.name}.md" for told in PROMPTS] + ["instructions.md"])
def test_every_tool_code_and_field_that_a_text_names_exists(name: str) -> None:
    words = set(re.findall(r"`([a-z_]{3,})`", text_of(name)))
    tools = set(TOOLS)
    assert {word for word in words if word.startswith("post_office_")} <= tools
    fields = set(re.findall(r'"([a-z_]+)"', json.dumps([[e.input_schema, e.output_schema] for e in ENTRIES])))
    refusal = {"code", "message", "retryable", "retry_after", "errors"}
    codes = {"forbidden", "not_found", "stale_delivery", "invalid_argument", "conflict"}
    payload = {"payload", "sender", "context", "conversation_id"}
    assert words - tools - fields - refusal - codes - payload <= {"since", "next", "previous", "guide"} | {
        told.name for told in PROMPTS
    }


@pytest.mark.parametrize("era", MODES)
async def test_prompts_are_listed_and_told_with_their_arguments(city: Instance, era: str) -> None:
    async with opened(city, era=era) as client:
        listed = {prompt.name: prompt for prompt in (await client.list_prompts()).prompts}
        assert list(listed) == [told.name for told in PROMPTS]
        assert [a.name for a in listed["publish_a_report"].arguments or ()] == ["channel", "topic"]
        told = await client.get_prompt("publish_a_report", ARGUMENTS)
        (message,) = told.messages
        assert isinstance(message.content, mcp_types.TextContent)
        assert message.content.text == text("publish_a_report")
        assert "$" not in message.content.text


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("unknown", {}, "not_found"),
        ("live_on_a_channel", {}, "invalid_argument"),
        ("live_on_a_channel", {"channel": " "}, "invalid_argument"),
        ("live_on_a_channel", {"channel": "nowhere"}, "unknown_channel"),
        ("live_on_a_channel", {"channel": "guide", "other": "x"}, "invalid_argument"),
        ("publish_a_report", {"channel": "guide", "topic": "x" * 501}, "invalid_argument"),
    ],
)
async def test_a_prompt_that_cannot_be_told_says_why(
    city: Instance, name: str, arguments: dict[str, str], code: str
) -> None:
    async with opened(city) as client:
        with pytest.raises(MCPError) as caught:
            await client.get_prompt(name, arguments)
    assert caught.value.data["code"] == code


class Follower:
    """Carries out the steps of a text one after the other, as a model would that has nothing but the text."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.known = {"your answer": "It is a quarter past.", "your report": "Rain.", "title": "T", "key": "k1"}
        self.answers: list[dict[str, Any]] = []

    async def follow(self, prompt: str) -> None:
        told = await self.client.get_prompt(prompt, {a.name: ARGUMENTS[a.name] for a in self._arguments(prompt)})
        (message,) = told.messages
        assert isinstance(message.content, mcp_types.TextContent)
        for named, arguments in FENCED.findall(message.content.text):
            self._take(await tool(self.client, named, **filled(arguments, self.known)))

    def _arguments(self, prompt: str) -> tuple[mcp_types.PromptArgument, ...]:
        return next(told.arguments for told in PROMPTS if told.name == prompt)

    def _take(self, answer: dict[str, Any]) -> None:
        self.answers.append(answer)
        self.known |= {name: str(answer[name]) for name in ("consumer",) if name in answer}
        for delivery in answer.get("deliveries", ()):
            self.known["delivery_id"] = delivery["delivery_id"]
        if "offset" in answer:
            self.known["position"] = f"{answer['offset']}.{answer['epoch']}"


@pytest.mark.parametrize("prompt", ["live_on_a_channel", "answer_one_question"])
async def test_who_follows_the_prompt_answers_a_question(city: Instance, prompt: str) -> None:
    async with (
        opened(city, await city.service("clerk", "post_office.consume", "post_office.history")) as client,
        city.connected(await city.session("alice")) as alice,
    ):
        await alice.send(channel="pillar:content", payload={"message": "What time is it?"})
        await Follower(client).follow(prompt)
        answer = await alice.of("chat_response")
        assert (answer["payload"], answer["agent"]) == ({"message": "It is a quarter past."}, "clerk")


async def test_who_follows_the_prompt_publishes_once(city: Instance) -> None:
    async with opened(city, await city.service("clerk", "post_office.publish", "post_office.history")) as client:
        await Follower(client).follow("publish_a_report")
        again = Follower(client)
        await again.follow("publish_a_report")
        assert again.answers[-1]["duplicate"] is True
    page = await city.done("post_office.get_channel_history", {"channel": "pillar:content"})
    assert [entry["payload"]["message"] for entry in page["publications"]] == ["Rain."]


async def test_who_follows_the_prompt_reads_what_comes_once(city: Instance) -> None:
    async def publish(text: str) -> None:
        message = {"channel": "pillar:content", "message": {"message": text}}
        await city.done("post_office.publish_to_agent_channel", message)

    async with opened(city, await city.service("clerk", "post_office.consume")) as client:
        follower = Follower(client)
        following = asyncio.create_task(follower.follow("follow_a_channel"))
        await until(lambda: bool(follower.answers), "it has begun")
        await publish("one")
        await asyncio.wait_for(following, PATIENCE)
        received = follower.answers[1]
        assert [entry["payload"]["message"] for entry in received["publications"]] == ["one"]
        again = {"consumer": follower.known["consumer"], "wait_ms": 0}
        assert (await tool(client, "post_office_receive_messages", **again))["publications"] == []
