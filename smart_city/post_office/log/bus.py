"""What travels on a log's bus channel: stretches of publications, and the ephemeral parts of open answers.

One header line in JSON and then the encoded frames, so that a script can write it without encoding anything and
a reader only slices. Above 64 KiB the header has positions alone, and the reader asks the log.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec import Struct

from smart_city.post_office.log.values import Provisional, Stretch, Withdrawn


class _Header(Struct):
    v: int
    t: str = ""
    e: str = ""
    s: int = 0
    f: int = 0
    l: int = 0  # noqa: E741  # the script's own letter for the last offset
    z: list[int] | None = None


class _Part(Struct):
    message_id: str
    part: int


_header = msgspec.json.Decoder(_Header)
_part = msgspec.json.Decoder(_Part)


@dataclass(frozen=True, slots=True)
class Delta:
    """One gathered part of an open answer, encoded as the frame that clients get."""

    message_id: str
    part: int
    frame: bytes

    @classmethod
    def of(cls, frame: bytes) -> Delta:
        """Reads from a frame which answer it belongs to, and which part it is."""
        head = _part.decode(frame)
        return cls(head.message_id, head.part, frame)


class Announcer:
    """Tells of what this instance has appended or holds, before its senders hear of it. Who listens must not wait."""

    def __init__(self) -> None:
        self.listeners: list[Callable[[Stretch], None]] = []
        self.ahead: list[Callable[[Provisional | Withdrawn], None]] = []
        """Told of what is held."""

    def __call__(self, stretch: Stretch) -> None:
        for listener in self.listeners:
            listener(stretch)

    def tell_ahead(self, news: Provisional | Withdrawn) -> None:
        """Tells of what is held, or is no more and was not logged."""
        for listener in self.ahead:
            listener(news)


def bus_channel(channel: str) -> str:
    """The bus channel of a channel's log."""
    return f"log:{{{channel}}}"


def positions(stretch: Stretch) -> bytes:
    """The bus message that says where publications are, and not what."""
    return b'{"v":1,"e":"%b","s":%d,"f":%d,"l":%d}\n' % (
        stretch.epoch.encode(), stretch.epoch_start, stretch.first, stretch.last,
    )  # fmt: skip


def parse(channel: str, payload: bytes) -> Stretch | Delta | None:
    """Reads one bus message; one of a kind that a newer release has added is ``None``."""
    line, _, rest = payload.partition(b"\n")
    header = _header.decode(line)
    if header.t == "delta":
        return Delta.of(rest)
    if header.t:
        return None
    entries = None if header.z is None else _sliced(rest, header.z)
    return Stretch(
        channel=channel, epoch=header.e, epoch_start=header.s, first=header.f, entries=entries, last=header.l
    )


def _sliced(data: bytes, sizes: list[int]) -> tuple[bytes, ...]:
    entries = []
    start = 0
    for size in sizes:
        entries.append(data[start : start + size])
        start += size
    return tuple(entries)
