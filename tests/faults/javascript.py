"""An application on the JavaScript client, in Node: what it is given, gaps included, is read from its output."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path
from typing import Any

from city_client import Position
from city_inspector.faulting_proxy import FaultingProxy
from tests.faults.record import Broke, Got, Joined, Record
from tests.support.node import NODE

PROGRAM = Path(__file__).with_name("reader.js")


class Page:
    """One program that listens to one channel, from its first publication on."""

    def __init__(self, name: str, token: str, proxy: FaultingProxy, record: Record, channel: str) -> None:
        self.name = name
        self.channels = frozenset({channel})
        self._channel = channel
        self._words = (proxy.url, token, channel)
        self._heard = record.heard.setdefault(name, [])
        self._task = asyncio.create_task(self._run(), name=f"page {name}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        program = await asyncio.create_subprocess_exec(
            NODE, str(PROGRAM), *self._words, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE
        )
        assert program.stdout is not None
        try:
            async for line in program.stdout:
                if line.startswith(b"{"):
                    self._publication(json.loads(line))
        finally:
            with contextlib.suppress(ProcessLookupError):
                program.kill()
            await program.wait()

    def _publication(self, told: dict[str, Any]) -> None:
        at, channel, link = time.monotonic(), self._channel, self.name
        position = Position(told["offset"], told["epoch"])
        before = Position(told["offset"] - 1, told["epoch"])
        if not self._heard:
            self._heard.append(Joined(channel=channel, link=link, at=at, position=before))
        elif gap := told["gap"]:
            self._heard.append(Broke(channel=channel, link=link, at=at, position=before, reason=gap["reason"]))
        self._heard.append(
            Got(
                channel=channel, link=link, at=at, position=position, message_id=told["messageId"],
                key=str(told["key"]),
            )
        )  # fmt: skip
