"""Publications as operations hand them out, each with its place in the log: decoded, or written as they are stored."""

from __future__ import annotations

from typing import Any

import msgspec

from foundations.written import Written
from smart_city.post_office.gateway.feed import by_epoch
from smart_city.post_office.log import Page
from smart_city.vocabulary import Position

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def publications_of(page: Page) -> list[dict[str, Any]]:
    """A page's publications as clients see them."""
    return [
        {**_decode(entry), "offset": offset, "epoch": page.epoch_of(offset)}
        for offset, entry in enumerate(page.entries, page.since + 1)
    ]


def written_of(page: Page) -> Written:
    """The same, as the text of a JSON array: 0.2 µs each, where decoding and writing them again takes 2."""
    return Written(
        b"[%b]" % b",".join([
            b'%b,"offset":%d,"epoch":"%b"}' % (entry[:-1], offset, epoch.encode())
            for first, epoch, entries in by_epoch(page)
            for offset, entry in enumerate(entries, first)
        ])
    )  # fmt: skip


def end_of(page: Page) -> Position:
    """The position after a page: where the next one begins."""
    last = page.since + len(page.entries)
    return Position(last, page.epoch_of(last))
