"""What a host of the handshake era has subscribed to, followed on one stream of the platform's for all of it.

The new stream stands before the old one ends, so that no change falls between them; after a stream was lost, what may
have changed meanwhile is told.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress

from mcp import MCPError

from city_client import Backoff
from city_hall.bridge.upstream import Told, Upstream

_log = logging.getLogger("smart_city.bridge")


class Following:
    """The followed resources of one host."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream
        self._uris: dict[str, Told] = {}
        self._stream: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()

    async def add(self, uri: str, changed: Told) -> None:
        """Follows one more.

        Raises:
            MCPError: the platform refuses; what was followed before still is.
        """
        async with self._turn:
            await self._follow({**self._uris, uri: changed})

    async def remove(self, uri: str) -> None:
        """Follows one less.

        Raises:
            MCPError: the platform does not answer.
        """
        async with self._turn:
            await self._follow({known: changed for known, changed in self._uris.items() if known != uri})

    async def close(self) -> None:
        """Follows nothing any more."""
        if self._stream is not None:
            self._stream.cancel()
            await asyncio.wait({self._stream})

    async def _follow(self, uris: dict[str, Told]) -> None:
        stream: asyncio.Task[None] | None = None
        if uris:
            begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            stream = asyncio.create_task(self._run(uris, begun))
            try:
                await begun
            except BaseException:
                stream.cancel()
                raise
        await self.close()
        self._uris, self._stream = uris, stream

    async def _run(self, uris: dict[str, Told], begun: asyncio.Future[None]) -> None:
        """Listens, and again when the stream is over, until the platform says no."""
        backoff = Backoff()

        async def acknowledged(_: Sequence[str]) -> None:
            backoff.reset()
            if begun.done():
                await changed(list(uris))
            else:
                begun.set_result(None)

        async def changed(found: Sequence[str]) -> None:
            for uri in found:
                with suppress(KeyError):
                    await uris[uri]([uri])

        while True:
            try:
                await self._upstream.listen(list(uris), acknowledged, changed)
            except MCPError as error:
                if not begun.done():
                    begun.set_exception(error)
                    return
                if isinstance(error.data, dict) and not error.data.get("retryable"):
                    _log.warning("changes are told no more: %s", error)
                    return
            await asyncio.sleep(backoff.next())
