"""Channels as resources: who sees which, what reading one answers, and from where."""

from __future__ import annotations

import json
from typing import Any

import mcp_types
import pytest
from mcp import Client, MCPError

from city_hall.surfaces.mcp.channels import Address, uri_of
from foundations.errors import InvalidArgument, NotFound
from smart_city.vocabulary import Position
from tests.contract.tools import opened
from tests.support.parity import MODES
from tests.support.platform import Instance

both_eras = pytest.mark.parametrize("era", MODES)
AGENTS = {"guide", "pillar:content", "pillar:insights", "pillar:operations", "pillar:business_outcomes"}


async def said(city: Instance, channel: str, *messages: str) -> list[dict[str, Any]]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"message": message}})
        for message in messages
    ]


async def read(client: Client, uri: str) -> dict[str, Any]:
    """A resource that is one JSON text under the URI that was asked for."""
    (content,) = (await client.read_resource(uri)).contents
    assert isinstance(content, mcp_types.TextResourceContents)
    assert (content.uri, content.mime_type) == (uri, "application/json")
    page: dict[str, Any] = json.loads(content.text)
    return page


async def names(client: Client) -> set[str]:
    return {resource.name for resource in (await client.list_resources()).resources}


async def refused(client: Client, uri: str) -> dict[str, Any]:
    with pytest.raises(MCPError) as caught:
        await client.read_resource(uri)
    refusal: dict[str, Any] = caught.value.data
    assert refusal["success"] is False
    return refusal


@both_eras
async def test_a_caller_is_shown_what_it_may_read(city: Instance, era: str) -> None:
    async with opened(city, era=era) as client:
        assert await names(client) == AGENTS
    async with opened(city, await city.service("reader", "post_office.history"), era) as client:
        assert await names(client) == AGENTS
    async with opened(city, await city.service("publisher", "post_office.publish"), era) as client:
        assert await names(client) == set()
    async with opened(city, await city.session("alice", channels={"pillar:*": ["history"]}), era) as client:
        assert await names(client) == (AGENTS - {"guide"}) | {"user:alice"}


@both_eras
async def test_a_channel_is_its_newest_publications_with_positions(city: Instance, era: str) -> None:
    last = (await said(city, "pillar:content", "one", "two"))[-1]
    async with opened(city, era=era) as client:
        page = await read(client, "channel://pillar%3Acontent")
        assert [entry["payload"]["message"] for entry in page["publications"]] == ["one", "two"]
        assert [entry["offset"] for entry in page["publications"]] == [1, 2]
        assert (page["channel"], page["offset"], page["epoch"]) == ("pillar:content", 2, last["epoch"])
        assert await read(client, "channel://pillar:content") == page


@both_eras
async def test_reading_goes_on_where_the_last_page_says(city: Instance, era: str) -> None:
    await said(city, "guide", *"abcde")
    async with opened(city, era=era) as client:
        got, uri = [], "channel://guide?since=0&limit=2"
        for _ in range(4):
            page = await read(client, uri)
            got.append("".join(entry["payload"]["message"] for entry in page["publications"]))
            assert page["recovered"] is True
            uri = page["next"] + "&limit=2"
        assert got == ["ab", "cd", "e", ""]


@both_eras
async def test_reading_goes_back_over_large_ones_until_the_beginning(city: Instance, era: str) -> None:
    large = "x" * 900_000
    await said(city, "guide", *(f"{letter}{large}" for letter in "abcd"))
    async with opened(city, era=era) as client:
        page, got = await read(client, "channel://guide"), ""
        while True:
            got = "".join(entry["payload"]["message"][0] for entry in page["publications"]) + got
            if "previous" not in page:
                break
            page = await read(client, page["previous"])
        assert got == "abcd"
        assert (await refused(client, "channel://guide?before=0"))["errors"][0]["field"] == "before"


@both_eras
async def test_what_may_not_be_read_is_refused_with_the_code_of_the_operation(city: Instance, era: str) -> None:
    async with opened(city, await city.session("alice"), era) as client:
        assert (await refused(client, "channel://user%3Abob"))["code"] == "forbidden"
        assert (await refused(client, "channel://nowhere"))["code"] == "unknown_channel"
        assert (await refused(client, "file:///etc/passwd"))["code"] == "not_found"
        refusal = await refused(client, "channel://guide?limit=501")
        assert (refusal["code"], refusal["errors"][0]["field"]) == ("invalid_argument", "limit")
        assert (await refused(client, "channel://guide?offset=1"))["errors"][0]["field"] == "offset"
        assert (await read(client, "channel://user%3Aalice"))["publications"] == []


@both_eras
async def test_the_templates_lead_to_what_can_be_read(city: Instance, era: str) -> None:
    async with opened(city, era=era) as client:
        templates = [one.uri_template for one in (await client.list_resource_templates()).resource_templates]
    assert templates == ["channel://{channel}", "channel://{channel}{?since,before,limit}"]


@both_eras
async def test_channel_names_are_completed(city: Instance, era: str) -> None:
    template = mcp_types.ResourceTemplateReference(type="ref/resource", uri="channel://{channel}")
    prompt = mcp_types.PromptReference(type="ref/prompt", name="live_on_a_channel")
    unknown = mcp_types.PromptReference(type="ref/prompt", name="unknown")
    async with opened(city, await city.session("alice", channels={"guide": ["history"]}), era) as client:
        assert (await client.complete(template, {"name": "channel", "value": ""})).completion.values == [
            "guide", "user:alice",
        ]  # fmt: skip
        found = (await client.complete(prompt, {"name": "channel", "value": "pillar:in"})).completion
        assert (found.values, found.total, found.has_more) == (["pillar:insights"], 1, False)
        assert (await client.complete(unknown, {"name": "channel", "value": ""})).completion.values == []
        assert (await client.complete(prompt, {"name": "topic", "value": ""})).completion.values == []


def test_a_uri_is_what_the_template_expands_to() -> None:
    assert uri_of("guide") == "channel://guide"
    assert uri_of("pillar:content", since=Position(41, "k3f9")) == "channel://pillar%3Acontent?since=41.k3f9"
    for channel in ("guide", "pillar:content", "user:al@x|y~z"):
        assert Address.parse(uri_of(channel)).channel == channel


@pytest.mark.parametrize(
    "uri", ["", "guide", "channel:guide", "channel://", "channel://guide/more", "channel://guide#x", "channel://[x"]
)
def test_what_names_no_channel_is_not_found(uri: str) -> None:
    with pytest.raises(NotFound):
        Address.parse(uri)


def test_every_unknown_parameter_is_named() -> None:
    with pytest.raises(InvalidArgument) as caught:
        Address.parse("channel://guide?b=1&a=2&since=0")
    assert [wrong.field for wrong in caught.value.errors] == ["a", "b"]
