"""What is kept of a minute: by operation and by channel how many, what was refused, and how long it took.

``traffic:{traffic}:MINUTE`` (minutes since 1970) is a hash with a field for each share, which one instance has
counted; a minute is the sum of its shares. Who counts and who reads is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain

import msgspec

KEPT_SECONDS = 24 * 3600
MINUTE_SECONDS = 60
_FORMAT = 1
"""Of a share as it is stored; another one is due with other `BUCKETS`, whose places stand in it."""


class Traffic(msgspec.Struct, array_like=True):
    """What was counted under one name. ``latency`` is how often by the place of the bucket; empty ones are left out."""

    count: int = 0
    refusals: dict[str, int] = {}
    latency: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self.count or self.refusals or self.latency)

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(
            self.count + other.count,
            Counter(self.refusals) + Counter(other.refusals),
            Counter(self.latency) + Counter(other.latency),
        )


class Share(msgspec.Struct, kw_only=True):
    """A minute as one instance has counted it."""

    v: int = _FORMAT
    operations: dict[str, Traffic] = {}
    channels: dict[str, Traffic] = {}

    def add(self, more: Share) -> None:
        """Counts what came since."""
        for own, new in ((self.operations, more.operations), (self.channels, more.channels)):
            for name, traffic in new.items():
                own[name] = own[name] + traffic if name in own else traffic

    def __bool__(self) -> bool:
        return any(chain(self.operations.values(), self.channels.values()))


class _Version(msgspec.Struct):
    v: int


def minute_key(minute: int) -> str:
    """Where a minute is kept; all are in one slot, so that one script writes several."""
    return f"traffic:{{traffic}}:{minute}"


def shares_of(stored: list[bytes]) -> Iterator[Share]:
    """The shares of a minute; those of a release that counts otherwise are passed over."""
    for value in stored:
        if _version.decode(value).v == _FORMAT:
            yield _share.decode(value)


encode = msgspec.msgpack.Encoder().encode
_share = msgspec.msgpack.Decoder(Share)
_version = msgspec.msgpack.Decoder(_Version)
