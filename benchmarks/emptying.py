"""Takes from an inbox and settles, as fast as one connection can: nobody answers, the questions are just gone.

It clears up after a case that only asks. It is no agent to learn from: `benchmarks.answering` is.
"""

from __future__ import annotations

import asyncio
import json
import re

from websockets.asyncio.client import ClientConnection, connect

from benchmarks.processes import Failed

AT_ONCE = 1000
MOST_SETTLED = 1000
"""Of one frame."""
GATHER_SECONDS = 0.002
"""Deliveries of so long are settled with one frame."""
QUIET_SECONDS = 15.0
_DELIVERY = re.compile(rb'"delivery_id":"([^"]+)"')


async def empty(host: str, port: int, token: str, channel: str, count: int) -> None:
    """Settles ``count`` questions.

    Raises:
        Failed: fewer came.
    """
    headers = {"Authorization": f"Bearer {token}"}
    address = f"ws://{host}:{port}/ws"
    async with connect(address, additional_headers=headers, compression=None, max_queue=None, proxy=None) as socket:
        taken: list[str] = []
        settling = asyncio.create_task(_settle(socket, taken, count))
        try:
            await socket.send(json.dumps({"type": "consume", "channel": channel, "max": AT_ONCE}))
            seen = 0
            while seen < count:
                async with asyncio.timeout(QUIET_SECONDS):
                    frame = await socket.recv(decode=False)
                if found := _DELIVERY.search(frame):
                    seen += 1
                    taken.append(found[1].decode())
                elif b'"type":"error"' in frame:
                    raise Failed(f"the inbox is not emptied: {frame!r}")
            await settling
        except TimeoutError:
            raise Failed(f"only {seen} of {count} questions came out of the inbox again") from None
        finally:
            settling.cancel()


async def _settle(socket: ClientConnection, taken: list[str], count: int) -> None:
    """Sends what was taken since the last time, until all of it was, and waits until the last is settled."""
    settled = 0
    while settled < count:
        await asyncio.sleep(GATHER_SECONDS)
        while some := taken[:MOST_SETTLED]:
            del taken[:MOST_SETTLED]
            settled += len(some)
            await socket.send(json.dumps({"type": "done", "delivery_ids": some}))
