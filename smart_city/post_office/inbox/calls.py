"""The Lua scripts of the inboxes, each behind what they share, and the way to run one.

All keys of an inbox begin with the name of its bus channel and so lie in one slot; `scripts/inbox.lua` says
what they are. A script reaches keys that it cannot name beforehand, so it names one that never exists: while the
slot moves key by key, no script sees half an inbox.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from foundations.valkey.client import Argument, Valkey
from foundations.valkey.scripts import Script
from foundations.valkey.slots import never

PACKAGE = "smart_city.post_office.inbox"
SCRIPTS = ("enqueue", "take", "settle", "reclaim", "conclude", "status", "consumers")
FILLING = frozenset({"enqueue"})
"""Scripts that do not run in a store that is full; all others are needed to empty it, or to see that it is."""


class InboxScripts:
    """Runs the scripts of all inboxes; errors are those of `Valkey.run`."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey
        self._scripts = {name: _behind_what_is_shared(name) for name in SCRIPTS}

    async def run(self, name: str, channel: str, *args: Argument) -> Any:
        """Runs one script on the inbox of an agent channel."""
        inbox = self._valkey.key(bus_channel(channel))
        return await self._valkey.run(self._scripts[name], [inbox, never(inbox)], args)


def bus_channel(channel: str) -> str:
    """Where an inbox says that something may be taken, and how all its keys begin."""
    return f"inbox:{{{channel}}}"


def milliseconds(seconds: float) -> int:
    """A duration as the scripts count it."""
    return round(seconds * 1000)


def groups_of(size: int, flat: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
    """A script's flat answer as one tuple for each message."""
    return zip(*[iter(flat)] * size, strict=True)


def _behind_what_is_shared(name: str) -> Script:
    """Valkey wants a script's flags in its first line."""
    flags = "" if name in FILLING else "#!lua flags=allow-oom\n"
    shared, own = Script.read(PACKAGE, "inbox"), Script.read(PACKAGE, name)
    return Script.of(own.name, flags + shared.source + own.source)
