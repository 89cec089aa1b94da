"""Channels as MCP resources: addresses made from the templates that a city gives, and what stands in them."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

from mcp import Client

Frame = dict[str, Any]


def expanded(template: str, **variables: str) -> str:
    """A template of RFC 6570 with ``{name}``, ``{+name}``, ``{?a,b}`` and ``{&a}`` in it."""

    def put(found: re.Match[str]) -> str:
        operator, names = found.group(1), found.group(2).split(",")
        given = [(name, variables[name]) for name in names if name in variables]
        if operator in {"?", "&"}:
            pairs = "&".join(f"{name}={quote(value, safe='.')}" for name, value in given)
            return operator + pairs if pairs else ""
        return ",".join(quote(value, safe=":/" if operator == "+" else ":") for _, value in given)

    return re.sub(r"\{([?&+]?)([^}]*)\}", put, template)


def address(channel: str) -> str:
    """How a channel is listed."""
    return f"channel://{quote(channel, safe='')}"


async def since_template(client: Client) -> str:
    """The template that takes a channel and a position."""
    templates = [template.uri_template for template in (await client.list_resource_templates()).resource_templates]
    (found,) = [template for template in templates if "since" in template]
    return found


async def read(client: Client, uri: str) -> Frame:
    """The JSON object in a resource."""
    (content,) = (await client.read_resource(uri)).contents
    value: Frame = json.loads(content.text)  # type: ignore[union-attr]  # bytes would fail the test, rightly
    return value


async def read_since(client: Client, channel: str, since: str) -> Frame:
    """A channel's resource from a position."""
    template = await since_template(client)
    names = re.findall(r"[a-z_]+", "".join(re.findall(r"\{[^}]*\}", template)))
    (channel_name,) = [name for name in names if name in {"channel", "name"}]
    return await read(client, expanded(template, **{channel_name: channel, "since": since}))
