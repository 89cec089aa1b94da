"""An agent on Socket.IO: a client in a process of its own that answers every question at once.

Standard output tells one line, once it is connected.
"""

from __future__ import annotations

import sys
from typing import Any

import socketio
import uvloop

AGENT = "agent"

client = socketio.AsyncClient(reconnection=False)


@client.event  # type: ignore[untyped-decorator]  # it comes without types
async def question(asker: str, words: Any) -> None:
    await client.emit("answer", (asker, words))


async def answer_until_the_end(url: str) -> None:
    await client.connect(url, auth={"channel": AGENT}, transports=["websocket"])
    sys.stdout.write("connected\n")
    sys.stdout.flush()
    await client.wait()


if __name__ == "__main__":
    uvloop.run(answer_until_the_end(sys.argv[1]))
