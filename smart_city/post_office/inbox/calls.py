"""The Lua scripts of the inboxes, each behind what they share, and the way to run one.

All keys of an inbox begin with the name of its bus channel and so lie in one slot; `scripts/inbox.lua` says
what they are. A script reaches keys that it cannot name beforehand, so it names one that never exists: while the
slot moves key by key, no script sees half an inbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from foundations.valkey.client import Argument, Valkey
from foundations.valkey.scripts import Script
from foundations.valkey.slots import never
from smart_city.post_office.inbox.questions import InboxLimits

PACKAGE = "smart_city.post_office.inbox"
SCRIPTS: Mapping[str, Sequence[str]] = {
    "enqueue": ["circuit"], "take": [], "settle": ["circuit"], "reclaim": [], "conclude": ["circuit", "letters"],
    "status": ["circuit"], "consumers": ["circuit"], "dead_letters": [], "requeue": ["letters"], "drop": ["letters"],
}  # fmt: skip
"""Each with what stands before it, beside what all share."""
LOOKED_AT_ONCE = 500
"""Inboxes in one call, which takes less than a millisecond where they are empty: others wait meanwhile."""
ALLOW_OOM = "#!lua flags=allow-oom\n"
FILLING = frozenset({"enqueue", "requeue"})
"""Scripts that do not run in a store that is full, and whose callers hear that all is safe.

All others are needed to empty the store, or to see that it is full.
"""


class InboxScripts:
    """Runs the scripts of all inboxes; errors are those of `Valkey.run`."""

    def __init__(self, valkey: Valkey, limits: InboxLimits, channels: Iterable[str]) -> None:
        self._valkey = valkey
        self._scripts = {name: _behind_what_is_shared(name) for name in SCRIPTS}
        self._due = Script.of("due", ALLOW_OOM + Script.read(PACKAGE, "due").source)
        self._rule = _circuit_rule(limits)
        self._age = milliseconds(limits.age_seconds)
        self._looks = [
            (some, self._keys_of(some))
            for slot in valkey.by_slot(channels, bus_channel) for some in _in_parts(slot, LOOKED_AT_ONCE)
        ]  # fmt: skip
        """A call of `due` for each slot and 500 of its inboxes: the channels, and the keys that it names."""

    async def due(self) -> list[str]:
        """The channels whose inboxes are to be looked after."""
        found = []
        for channels, keys in self._looks:
            places = await self._valkey.run(self._due, keys, [self._age])
            found += [channels[place - 1] for place in places]
        return found

    async def run(self, name: str, channel: str, *args: Argument) -> Any:
        """Runs one script on the inbox of an agent channel."""
        if "circuit" in SCRIPTS[name]:
            args = (*args, self._rule)
        valkey = self._valkey.acknowledged if name in FILLING else self._valkey
        return await valkey.run(self._scripts[name], self._keys_of([channel]), args)

    def _keys_of(self, channels: Sequence[str]) -> list[str]:
        inboxes = [self._valkey.key(bus_channel(channel)) for channel in channels]
        return [*inboxes, never(inboxes[0])]


def bus_channel(channel: str) -> str:
    """Where an inbox says that something may be taken, and how all its keys begin."""
    return f"inbox:{{{channel}}}"


def milliseconds(seconds: float) -> int:
    """A duration as the scripts count it."""
    return round(seconds * 1000)


def groups_of(size: int, flat: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """A script's flat answer as one tuple for each message."""
    return zip(*[iter(flat)] * size, strict=True)


def _in_parts(items: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (items[at : at + size] for at in range(0, len(items), size))


def _behind_what_is_shared(name: str) -> Script:
    """Valkey wants a script's flags in its first line."""
    flags = "" if name in FILLING else ALLOW_OOM
    parts = [Script.read(PACKAGE, part) for part in ("inbox", *SCRIPTS[name], name)]
    return Script.of(parts[-1].name, flags + "".join(part.source for part in parts))


def _circuit_rule(limits: InboxLimits) -> bytes:
    """When a circuit opens and closes, as the scripts read it."""
    return msgspec.json.encode(
        {
            "failures": limits.circuit_failures, "share": limits.circuit_share, "room": limits.circuit_room,
            "probes": limits.circuit_probes, "window": milliseconds(limits.circuit_window_seconds / 2),
            "cool": milliseconds(limits.circuit_cool_seconds),
        }
    )  # fmt: skip
