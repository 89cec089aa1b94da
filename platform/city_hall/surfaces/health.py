"""The addresses by which balancers, dashboards and people ask how this instance is.

They need no token and change nothing; error texts are for callers who may observe.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.catalogue import inlined
from city_hall.surfaces.openapi import named
from city_hall.surfaces.samples import sample
from foundations.settings import Settings
from smart_city.nurse.health import GatewayReport, Health, HealthReport

OBSERVE = "post_office.observe"
"""The scope that opens the texts of errors."""


class Alive(BaseModel):
    """The process answers."""

    status: Literal["alive"] = "alive"


class ServiceReport(HealthReport):
    """The health table with the name and the version of what answers."""

    service: str
    version: str


def bind_health(app: FastAPI, health: Health, identify: Identify, settings: Settings, version: str) -> None:
    """Gives ``app`` all health addresses of the contract's section 3."""
    door = Door(identify, settings)

    async def report(request: Request) -> HealthReport:
        table = await health.report()
        return table if await door.is_trusted(request, OBSERVE) else table.without_errors()

    async def live() -> Response:
        return _json(Alive())

    async def ready() -> Response:
        gateway = await health.gateway()
        return _json(gateway, gateway.http_status)

    async def table(request: Request) -> Response:
        told = await report(request)
        return _json(told, told.http_status)

    async def with_version(request: Request) -> Response:
        told = await report(request)
        whole = ServiceReport(status=told.status, services=told.services, service="smart-city", version=version)
        return _json(whole, told.http_status)

    _bind(app, "/health/live", live, Alive, "Whether the process answers.")
    _bind(app, "/health/ready", ready, GatewayReport, "Whether new connections are welcome here.")
    for path in ("/health/websocket-gateway", "/api/health/websocket-gateway"):
        _bind(app, path, ready, GatewayReport, "The gateway and what it depends on.")
    _bind(app, "/api/health", table, HealthReport, "The health table.")
    _bind(app, "/health", with_version, ServiceReport, "The health table with the platform's version.")


def bind_upgrade_notice(app: FastAPI) -> None:
    """Says to a plain ``GET /ws`` what was meant; real upgrades never reach the application."""

    async def notice() -> Response:
        told = "this address speaks WebSocket: connect to it as ws:// or wss://, with ?session_token="
        raise HTTPException(426, told, headers={"Upgrade": "websocket", "Connection": "Upgrade"})

    app.add_api_route("/ws", notice, methods=["GET"], include_in_schema=False)


def _bind(app: FastAPI, path: str, endpoint: Callable[..., Any], model: type[BaseModel], text: str) -> None:
    example = sample(inlined(model.model_json_schema(mode="serialization")))
    shown = {"application/json": {"example": example}}
    answers: dict[int | str, dict[str, Any]] = {200: {"model": model, "content": shown}}
    if model is not Alive:
        answers[503] = {"model": model, "description": "Not now."}
    app.add_api_route(
        path, endpoint, methods=["GET"], summary=text, tags=["health"], response_class=Response,
        responses=answers, operation_id=named(path),
    )  # fmt: skip
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)  # what `wget --spider` sends


def _json(model: BaseModel, status: int = 200) -> Response:
    return Response(
        model.model_dump_json(exclude_none=True), status,
        media_type="application/json", headers={"Cache-Control": "no-store"},
    )  # fmt: skip
