"""The HTTP side of an event stream: its headers, its bytes as fast as the client takes them, and its end.

A client that is gone is noticed, one that takes nothing is cut off; which events there are is the stream's matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from city_hall.http_protocol import ROAD
from smart_city.post_office.gateway.event_stream import EventStream

_log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"
HEADERS: Mapping[str, str] = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
"""Nobody on the way is to keep events, or to hold them back until there are more."""
PIECE_BYTES = 16 * 1024
"""So much is handed over at a time: with the server's own buffer all that waits outside of the stream's limit."""


class TakesNothing(Exception):
    """The client has not taken a byte for too long."""


class EventResponse(Response):
    """Writes a stream until its end, the client's, or its patience; then ``let_go`` is told which."""

    media_type = MEDIA_TYPE

    def __init__(
        self,
        stream: EventStream,
        let_go: Callable[[EventStream, str], None],
        *,
        cut_after: float,
        patience: float,
        stall_seconds: float,
    ) -> None:
        super().__init__(headers=dict(HEADERS))
        del self.headers["content-length"]
        self._stream = stream
        self._let_go = let_go
        self._cut_after = cut_after
        self._patience = patience
        self._stall_seconds = stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        road = scope.get("extensions", {}).get(ROAD, {})
        why = "cancelled"
        try:
            if "patience" in road:
                road["patience"](self._patience)
            why = await self._write(receive, send, road.get("unsent", _unknown))
            if why not in {"gone", "ended"} and "cut" in road:
                road["cut"]()
                await asyncio.wait({asyncio.ensure_future(_gone(receive))}, timeout=1)
        finally:
            self._let_go(self._stream, why)

    async def _write(self, receive: Receive, send: Send, unsent: Callable[[], int]) -> str:
        """Runs the stream; how it came to its end."""
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        gone = asyncio.ensure_future(_gone(receive))
        over = asyncio.ensure_future(self._stream.over.wait())
        writing = asyncio.ensure_future(self._run(send, unsent))
        try:
            await asyncio.wait({gone, over, writing}, return_when=asyncio.FIRST_COMPLETED)
            if over.done() and not gone.done():
                await asyncio.wait({gone, writing}, timeout=self._cut_after, return_when=asyncio.FIRST_COMPLETED)
            if writing.done():
                return _outcome(writing)
            return "gone" if gone.done() else "did not end"
        finally:
            for task in (gone, over, writing):
                task.cancel()
            await asyncio.wait({gone, over, writing})

    async def _run(self, send: Send, unsent: Callable[[], int]) -> None:
        async def write(data: bytes) -> None:
            for start in range(0, len(data), PIECE_BYTES):
                await self._taken(send, data[start : start + PIECE_BYTES], unsent)

        await self._stream.run(write)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _taken(self, send: Send, piece: bytes, unsent: Callable[[], int]) -> None:
        """Sends a piece once there is room for it, which is waited for as long as the client takes something."""
        message: dict[str, Any] = {"type": "http.response.body", "body": piece, "more_body": True}
        if not unsent():  # there is room, and a timer costs as much as all the rest of a small write
            await send(message)
            return
        while True:
            before = unsent()
            try:
                async with asyncio.timeout(self._stall_seconds):
                    await send(message)  # waits for room first, so that a piece given up was not sent
                    return
            except TimeoutError:
                if unsent() >= before:
                    raise TakesNothing from None


def _unknown() -> int:
    """What waits for the client of a server that does not tell."""
    return 1


def _outcome(writing: asyncio.Future[None]) -> str:
    error = writing.exception()
    if error is None:
        return "ended"
    if not isinstance(error, TakesNothing):
        _log.error("an event stream failed", exc_info=error)
        return "failed"
    return "takes nothing"


async def _gone(receive: Receive) -> None:
    """Returns when the client has gone; a body, which nobody asked for, is not looked at."""
    while (await receive())["type"] != "http.disconnect":
        pass
