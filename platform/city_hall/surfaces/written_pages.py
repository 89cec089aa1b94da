"""``/docs/protocol`` and the other documents of `docs/` as pages; the protocol with every frame behind its words.

The words are those files, which a wheel carries along; nothing of them is written here.
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

from city_hall.surfaces.pages import documents, example, fields, page, words

PROTOCOL = "/docs/protocol"
_DOCUMENT = re.compile(r"([\w-]+)\.md(#.*)?")


def written_page(path: str, asyncapi: Mapping[str, Any]) -> str:
    """The page of one document."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    known = documents()
    tokens = _without_contents(markdown.parse(known[path].read_text(encoding="utf-8")))
    _link(tokens, known)
    contents = list(_anchored(tokens))
    body = markdown.renderer.render(tokens, markdown.options, {})
    if path == PROTOCOL:
        body += _frames(asyncapi)
        contents.append(("every-frame", "Every frame"))
    return page(path, body, contents)


def _link(tokens: Sequence[Token], known: Mapping[str, Path]) -> None:
    """Leads links between documents to their pages; what has no page is only named."""
    for token in tokens:
        opened: list[Token] = []
        for inner in token.children or ():
            if inner.type == "link_open":
                opened.append(inner)
                _point(inner, known)
            elif inner.type == "link_close":
                inner.tag = opened.pop().tag


def _point(link: Token, known: Mapping[str, Path]) -> None:
    target = str(link.attrGet("href"))
    found = _DOCUMENT.fullmatch(target)
    if found is not None and f"/docs/{found[1]}" in known:
        link.attrSet("href", f"/docs/{found[1]}{found[2] or ''}")
    elif "://" not in target and not target.startswith("#"):
        link.tag, link.attrs = "span", {}


def _without_contents(tokens: Sequence[Token]) -> list[Token]:
    """Without the list of contents before the first part: the page has one of its own."""
    parts = [n for n, token in enumerate(tokens) if token.type == "heading_open" and token.tag == "h2"]
    first = parts[0] if parts else 0
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
