"""The hash slots of a cluster: which slot a key lies in, and what may travel in one call.

It is arithmetic alone: which node serves a slot, and whether there is a cluster at all, the client knows.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")

SLOTS = 16384


def slot_of(key: str | bytes) -> int:
    """The slot of a key, or of a shard channel: of what stands in its first braces, where something does."""
    data = key.encode() if isinstance(key, str) else key
    opening = data.find(b"{")
    if opening >= 0:
        closing = data.find(b"}", opening + 1)
        if closing > opening + 1:
            data = data[opening + 1 : closing]
    return crc_hqx(data, 0) % SLOTS


def never(stem: str) -> str:
    """A key that never exists, in the slot of ``stem``, which ends with its hash tag or has one.

    While a slot moves to another node key by key, a script may find there half of the keys that it reaches, and
    fails in its midst on the first that is missing. A call that names two keys of which one exists nowhere is
    refused as a whole by both nodes until the slot has moved. So a script that reaches keys which it does not name,
    or that may remove one and go on, names this one.
    """
    return f"{stem}:never"


def by_slot(items: Iterable[Item], slot: Callable[[Item], int]) -> list[list[Item]]:
    """Groups items by their slots: groups in the order of their first items, items in the order given."""
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(slot(item), []).append(item)
    return list(groups.values())
