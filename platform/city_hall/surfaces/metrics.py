"""``/metrics`` for Prometheus, and the count of HTTP responses that stands there, too.

What is counted and measured is not decided here; who may see it is: callers who may observe, unless a setting opens it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.health import OBSERVE
from city_hall.surfaces.openapi import DocumentedRoute, document_described
from foundations.settings import Settings

PATH = "/metrics"
Render = Callable[[str], Awaitable[tuple[bytes, str]]]
"""The metrics and their content type, for an ``Accept`` header."""


def bind_metrics(app: FastAPI, render: Render, identify: Identify, settings: Settings) -> None:
    """``/metrics``, in the format that the scraper prefers."""
    door = Door(identify, settings)

    async def metrics(request: Request) -> Response:
        if not settings.open_metrics:
            await door.caller_with(request, OBSERVE)
        body, content_type = await render(request.headers.get("accept", ""))
        return Response(body, headers={"Content-Type": content_type, "Cache-Control": "no-store"})

    described = document_described(PATH, "The figures of this instance, for Prometheus.", "text/plain")
    app.router.routes.append(DocumentedRoute(PATH, metrics, method="GET", described=described))


class CountingResponses:
    """Counts responses by status, whoever makes them."""

    def __init__(self, app: ASGIApp, counts: Counter[int]) -> None:
        self._app = app
        self._counts = counts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._counts[message["status"]] += 1
            await send(message)

        await self._app(scope, receive, counted)
