"""The bus: what is heard, in which order, and that no loss goes unnoticed."""

from __future__ import annotations

import asyncio
import time

from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from tests.support.valkey import ValkeyServer


async def test_handlers_are_called_in_the_order_of_publication(valkey: Valkey, tasks: Tasks) -> None:
    bus = Subscriptions(valkey, tasks)
    await bus.start()
    heard: list[bytes] = []
    done = asyncio.Event()

    def handler(data: bytes) -> None:
        heard.append(data)
        if len(heard) == 100:
            done.set()

    await asyncio.wait_for(bus.listen("a", handler), 5)
    for number in range(100):
        await valkey.command("SPUBLISH", valkey.key("a"), number)
    await asyncio.wait_for(done.wait(), 5)
    assert heard == [b"%d" % number for number in range(100)]
    await bus.close()
