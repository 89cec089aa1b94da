"""One script over many connections, wherever in a cluster their keys lie: a call a slot, and all in one turn.

It knows nothing of what the scripts do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from foundations.valkey.client import Argument, Valkey
from foundations.valkey.scripts import Script

Item = TypeVar("Item")


async def run_each(
    valkey: Valkey, script: Script, items: Sequence[Item], *, keys: Callable[[Item], Sequence[str]],
    head: Sequence[Argument] = (), args: Callable[[Item], Sequence[Argument]] = lambda _: (),
) -> list[Any]:  # fmt: skip
    """Runs a script whose calls take some keys and arguments for each item, all keys of one item in one slot.

    Returns the replies in the order of the items.

    Raises:
        Unavailable: the store did not answer; some may be done.
    """
    replies: list[Any] = [None] * len(items)

    async def run(group: Sequence[int]) -> None:
        names = [key for i in group for key in keys(items[i])]
        words = [word for i in group for word in args(items[i])]
        found = await valkey.run(script, names, [*head, *words])
        for i, reply in zip(group, found, strict=True):
            replies[i] = reply

    groups = valkey.by_slot(range(len(items)), lambda i: keys(items[i])[0])
    await asyncio.gather(*(run(group) for group in groups))
    return replies
