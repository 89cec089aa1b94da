"""One reader's way through one channel: the rule of positions applied to what it heard."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from city_client import Position
from tests.faults.record import Broke, Got, Heard, Joined, Lost


@dataclass(frozen=True, slots=True)
class Skip:
    """What a reader was told that it will not get: after one position, up to another."""

    after: Position
    until: Position
    index: int
    reason: str


@dataclass(slots=True)
class Way:
    """Where a reader began, what it got and skipped, and what was wrong with it."""

    reader: str
    channel: str
    start: Position | None = None
    position: Position | None = None
    got: dict[str, tuple[int, Got]] = field(default_factory=dict)
    """By message id: when in the transcript, and how. One that comes again after a break is another."""
    skips: list[Skip] = field(default_factory=list)
    recoveries: list[tuple[int, Joined]] = field(default_factory=list)
    repeated: int = 0
    repeated_on_a_link: list[str] = field(default_factory=list)
    holes: list[str] = field(default_factory=list)
    lies: list[str] = field(default_factory=list)

    def covers(self, offset: int) -> bool:
        """Whether it was told that it will not get this one: below a break to another epoch anything may be new."""
        return any(
            offset <= skip.until.offset and (offset > skip.after.offset or skip.after.epoch != skip.until.epoch)
            for skip in self.skips
        )

    def is_broken_after(self, index: int) -> bool:
        """Whether it was told later that continuity broke."""
        return any(skip.index > index for skip in self.skips)


def ways(heard: dict[str, list[Heard]]) -> list[Way]:
    """The way of every reader through each of its channels."""
    return [
        _follow(Way(reader, channel), transcript)
        for reader, transcript in heard.items()
        for channel in dict.fromkeys(each.channel for each in transcript if isinstance(each, Joined))
    ]


def _follow(way: Way, transcript: Iterable[Heard]) -> Way:
    owed: tuple[Joined, int] | None = None
    for index, each in enumerate(transcript):
        if isinstance(each, Lost):
            owed = None
        elif each.channel != way.channel:
            continue
        elif isinstance(each, Joined):
            _joined(way, each, index)
            owed = (each, each.missed) if each.recovered and each.missed else None
        elif isinstance(each, Broke):
            _skip(way, each.position, index, each.reason)
            owed = None
        elif isinstance(each, Got):
            _got(way, each, index)
            owed = (owed[0], owed[1] - 1) if owed and owed[1] > 1 else None
    if owed is not None:
        way.lies.append(f"{way.reader} was promised {owed[0].missed} of {way.channel}, {owed[1]} of them never came")
    return way


def _joined(way: Way, joined: Joined, index: int) -> None:
    if way.start is None:
        way.start = way.position = joined.position
    elif joined.recovered:
        way.recoveries.append((index, joined))
        if joined.asked is None or joined.position.offset != joined.asked.offset:
            way.lies.append(f"{way.reader} asked for {way.channel} after {joined.asked}, recovered {joined.position}")
        way.position = joined.position
    else:
        _skip(way, joined.position, index, joined.reason)


def _skip(way: Way, until: Position, index: int, reason: str) -> None:
    way.skips.append(Skip(way.position or until, until, index, reason))
    way.position = until


def _got(way: Way, got: Got, index: int) -> None:
    known = way.got.get(got.message_id)
    if known is not None and not way.is_broken_after(known[0]):
        way.repeated += 1
        if known[1].link == got.link:
            places = f"at {known[1].position} and {got.position}"
            way.repeated_on_a_link.append(f"{way.reader} got {got.message_id} of {way.channel} {places} on {got.link}")
    else:
        way.got[got.message_id] = (index, got)
    if way.position is not None and got.position.offset != way.position.offset + 1:
        way.holes.append(f"{way.reader} got {got.position} of {way.channel} after {way.position}")
    way.position = got.position
