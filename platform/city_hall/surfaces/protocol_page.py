"""``/docs/protocol``: the protocol in words, and after them every frame as the AsyncAPI document has it.

The words are `docs/protocol.md`, which a wheel carries along; nothing of them is written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from city_hall.surfaces.pages import example, fields, page, words

PATH = "/docs/protocol"
PACKAGED = Path(__file__).parent.parent / "protocol.md"
"""Where a wheel has it."""
WRITTEN = Path(__file__).parents[3] / "docs" / "protocol.md"
"""Where it is written."""


def protocol_page(asyncapi: Mapping[str, Any]) -> str:
    """The whole page."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = _without_contents(markdown.parse(_words()))
    contents = list(_anchored(tokens))
    body = markdown.renderer.render(tokens, markdown.options, {}) + _frames(asyncapi)
    return page(PATH, body, [*contents, ("every-frame", "Every frame")])


def _words() -> str:
    return (PACKAGED if PACKAGED.exists() else WRITTEN).read_text(encoding="utf-8")


def _without_contents(tokens: Sequence[Token]) -> list[Token]:
    """Without the list of contents before the first part: the page has one of its own."""
    first = next(n for n, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2")
    listed = [n for n, token in enumerate(tokens[:first]) if token.type.startswith("bullet_list")]
    begin, end = (listed[0], listed[-1] + 1) if listed else (first, first)
    return [*tokens[:begin], *tokens[end:]]


def _anchored(tokens: Sequence[Token]) -> Iterator[tuple[str, str]]:
    """Gives every heading the id that links to it name; the parts' ids and titles."""
    for heading, inline in pairwise(tokens):
        if heading.type == "heading_open":
            anchor = re.sub(r"[^\w\- ]", "", inline.content.lower()).replace(" ", "-")
            heading.attrSet("id", anchor)
            if heading.tag == "h2":
                yield anchor, inline.content


def _frames(asyncapi: Mapping[str, Any]) -> str:
    """All messages of the document: which way they go, their fields, an example."""
    ways: dict[str, set[str]] = {}
    for operation in asyncapi["operations"].values():
        [message] = operation["messages"]
        _, _, channel, _, name = message["$ref"].split("/")
        ways.setdefault(name, set()).add("to the server" if operation["action"] == "receive" else _CHANNELS[channel])
    messages, schemas = asyncapi["components"]["messages"], asyncapi["components"]["schemas"]
    shown = "".join(_frame(messages[name], schemas[name], way) for name, way in ways.items())
    return (
        '<h2 id="every-frame">Every frame</h2><p>With its fields and an example, from '
        f'<a href="/asyncapi.json">/asyncapi.json</a>, which is made of what is sent and taken.</p>{shown}'
    )


_CHANNELS: Mapping[str, str] = {"socket": "to the client", "events": "as an event"}


def _frame(message: Mapping[str, Any], schema: Mapping[str, Any], ways: set[str]) -> str:
    [shown] = message["examples"]
    going = ", ".join(sorted(ways, reverse=True))
    return (
        f"<details><summary><code>{escape(_called(schema))}</code> <span class=soft>{going}</span> · "
        f"{words(message['title'])}</summary>{fields(schema)}{example(shown['payload'])}</details>"
    )


def _called(schema: Mapping[str, Any]) -> str:
    """A frame by the type that it says, and the event where there are several of one type."""
    fixed = [schema["properties"].get(name, {}) for name in ("type", "event")]
    words = [field.get("const") or next(iter(field.get("enum", [])), "") for field in fixed]
    return " ".join(word for word in words if word)
