"""uvicorn's HTTP protocol with one thing more: a request whose head does not arrive in time is cut off.

uvicorn limits only the pause between two requests, so that a connection which sends nothing, or one byte a
minute, would stay for ever. What an upgraded connection may do is the gateway's matter.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState


class PromptHttpProtocol(HttpToolsProtocol):
    """One HTTP connection; the application's state says in how many seconds a head has to be there."""

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._seconds: float = cast(FastAPI, config.app).state.handshake_seconds
        self._head_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._expect_head()

    def on_message_begin(self) -> None:
        """The first bytes of a request are here."""
        super().on_message_begin()
        self._expect_head()

    def on_headers_complete(self) -> None:
        """A head is complete; from here on it is known who asks for what."""
        self._relax()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._relax()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        if self._head_deadline is None:
            self._head_deadline = self.loop.call_later(self._seconds, self.transport.abort)

    def _relax(self) -> None:
        if self._head_deadline is not None:
            self._head_deadline.cancel()
            self._head_deadline = None
