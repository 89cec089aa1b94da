"""What was published on a channel, found by reading its log page by page.

It reads the newest pages only, and says how far back it has looked.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from city_client import Operations, Question
from city_guides.specialist import Fact, Tell
from city_guides.understanding import subject_of, words_of

PAGE = 500
PAGES = 4
SHOWN = 5
SNIPPET = 160


def search(channel: str, keywords: frozenset[str]) -> Tell:
    """A topic's ``tell`` that looks for the words of the question in a channel's history."""

    async def tell(city: Operations, question: Question) -> AsyncIterator[Fact]:
        wanted = set(subject_of(question.message, keywords))
        if not wanted:
            yield Fact("Look for what? Ask, for example: search “water main”.")
            return
        seen = hits = 0
        async for publication in newest_first(city, channel):
            seen += 1
            if wanted <= set(words_of(_text(publication))):
                hits += 1
                if hits <= SHOWN:
                    yield Fact(_line(publication))
        yield Fact(
            f"{hits} of the newest {seen} publications on {channel} mention {' and '.join(sorted(wanted))}.",
            {"hits": hits, "searched": seen, "words": sorted(wanted)},
        )

    return tell


def latest(channel: str) -> Tell:
    """A topic's ``tell`` that shows what a channel's log ends with."""

    async def tell(city: Operations, question: Question) -> AsyncIterator[Fact]:
        page = await city.call("post_office.get_channel_history", {"channel": channel, "limit": SHOWN})
        newest = list(reversed(page["publications"]))
        yield Fact(
            f"The newest on {channel}:" if newest else f"Nothing is kept on {channel}: nobody has published there yet.",
            {"offset": page["offset"], "epoch": page["epoch"]},
        )
        for publication in newest:
            yield Fact(_line(publication))

    return tell


async def newest_first(city: Operations, channel: str) -> AsyncIterator[Mapping[str, Any]]:
    """The publications of a channel, backwards over at most `PAGES` pages."""
    arguments: dict[str, Any] = {"channel": channel, "limit": PAGE}
    for _ in range(PAGES):
        page = (await city.call("post_office.get_channel_history", arguments))["publications"]
        for publication in reversed(page):
            yield publication
        if not page:
            return
        arguments = {"channel": channel, "limit": PAGE, "before": page[0]["offset"]}


def _line(publication: Mapping[str, Any]) -> str:
    text = " ".join(_text(publication).split())
    shown = text if len(text) <= SNIPPET else text[: SNIPPET - 1] + "…"
    return f"• {publication['timestamp'][:16].replace('T', ' ')}, {publication['sender']['id']}: {shown}"


def _text(publication: Mapping[str, Any]) -> str:
    """What a payload says: its message, or else all of it."""
    payload = publication["payload"]
    message = payload.get("message")
    return message if isinstance(message, str) else json.dumps(payload, ensure_ascii=False)
