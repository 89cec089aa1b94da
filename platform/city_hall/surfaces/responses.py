"""What requests were answered: counted by status for the metrics, and told in the log, a line for each.

Whoever makes a response, it passes here. Nothing is changed on its way.
"""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from foundations.telemetry import log_request

PROBES = "/health"
"""Balancers ask every second what begins so; their questions are no news."""


class Responses:
    """Sees the responses to all HTTP requests."""

    def __init__(self, app: ASGIApp, counts: Counter[int]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_told = False

        async def seen(message: Message) -> None:
            nonlocal is_told
            if message["type"] == "http.response.start":
                is_told = True
                self._tell(scope, message["status"])
            await send(message)

        try:
            await self._app(scope, receive, seen)
        except Exception:
            if not is_told:  # the framework answers outside of here what nobody has caught
                self._tell(scope, HTTPStatus.INTERNAL_SERVER_ERROR)
            raise

    def _tell(self, scope: Scope, status: int) -> None:
        self._counts[status] += 1
        path = scope["path"]
        if not path.startswith(PROBES):
            client = ":".join(map(str, scope["client"] or ()))
            log_request(method=scope["method"], path=quote(path), status=int(status), client=client)
