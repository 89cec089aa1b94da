"""A surface that takes long to load: loaded while the instance serves already, and waited for by who needs it first.

The MCP SDK takes as long to import as everything else together; nobody who opens the console has to wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from city_hall.surfaces.direct import Table
from foundations.errors import Unavailable

MCP_PATH = "/mcp"
PATIENCE_SECONDS = 30.0


class Surface(Protocol):
    """What is loaded: an ASGI application with a life of its own."""

    def run(self) -> AbstractAsyncContextManager[None]:
        """Entered once, before the first request."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class Later:
    """The place of a surface that ``load`` makes, in a thread, when `run` begins."""

    def __init__(self, load: Callable[[], Surface]) -> None:
        self._load = load
        self._loaded: asyncio.Future[Surface] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Loads the surface and holds it open until this is cancelled; requests are told when that fails."""
        try:
            surface = await asyncio.to_thread(self._load)
            async with surface.run():
                self._loaded.set_result(surface)
                await asyncio.get_running_loop().create_future()
        except Exception as error:
            self._loaded = asyncio.get_running_loop().create_future()
            self._loaded.set_exception(Unavailable("this part of the platform could not be loaded"))
            self._loaded.exception()  # marks it as seen: perhaps nobody asks
            raise RuntimeError("the surface could not be loaded") from error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; the first ones wait until there is somebody to answer them."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                surface = await asyncio.shield(self._loaded)
        except TimeoutError:
            raise Unavailable("this part of the platform is still being loaded", retry_after=1) from None
        await surface(scope, receive, send)


def bind_mcp(app: FastAPI, surface: ASGIApp, direct: Table) -> None:
    """Gives ``app`` the address of the MCP server, which judges the methods itself, and its calls the direct way."""
    direct[MCP_PATH] = surface
    app.router.routes.append(Route(MCP_PATH, endpoint=surface, include_in_schema=False))
