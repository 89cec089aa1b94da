"""A client that takes nothing for long has left: so it seems to whoever answers it, and its call or stream ends.

It bounds how long bytes wait to be taken, and nothing else; a call that works or waits has its operation's deadline.
"""

from __future__ import annotations

import asyncio
import logging

from starlette.types import Message, Receive, Send

SEND_SECONDS = 30.0
"""A client that takes nothing for so long is given up."""
_log = logging.getLogger("smart_city.mcp")


class Patience:
    """``receive`` and ``send`` of one exchange."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._given_up = asyncio.Event()

    async def send(self, message: Message) -> None:
        """Sends; after its client was given up, to nobody, as after it has left."""
        if self._given_up.is_set():
            return
        try:
            async with asyncio.timeout(SEND_SECONDS):
                await self._send(message)
        except TimeoutError:
            _log.info("a stream was given up: its client takes nothing")
            self._given_up.set()

    async def receive(self) -> Message:
        """What comes next; that the client has left, once it was given up."""
        message = asyncio.ensure_future(self._receive())
        given_up = asyncio.ensure_future(self._given_up.wait())
        try:
            await asyncio.wait({message, given_up}, return_when=asyncio.FIRST_COMPLETED)
            return message.result() if message.done() else {"type": "http.disconnect"}
        finally:
            message.cancel()
            given_up.cancel()
