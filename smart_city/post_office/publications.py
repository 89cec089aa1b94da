"""Publications as operations hand them out: decoded, each with its place in the log."""

from __future__ import annotations

from typing import Any

import msgspec

from smart_city.post_office.log import Page
from smart_city.vocabulary import Position

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def publications_of(page: Page) -> list[dict[str, Any]]:
    """A page's publications as clients see them."""
    return [
        {**_decode(entry), "offset": offset, "epoch": page.epoch_of(offset)}
        for offset, entry in enumerate(page.entries, page.since + 1)
    ]


def end_of(page: Page) -> Position:
    """The position after a page: where the next one begins."""
    last = page.since + len(page.entries)
    return Position(last, page.epoch_of(last))
