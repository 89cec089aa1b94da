"""``/metrics`` for Prometheus.

What is counted and measured is not decided here; who may see it is: callers who may observe, unless a setting opens it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

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
