"""The application of one instance: every surface bound to the one invocation, and the gateway's sockets.

It only composes; the parts are built in `container`, opened and closed by `lifecycle`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any, cast

from fastapi import FastAPI
from fastapi.telemetry import TelemetryConfig
from starlette.middleware.cors import CORSMiddleware
from uvicorn.config import Config
from uvicorn.server import ServerState

from city_hall.container import City
from city_hall.lifecycle import opened
from city_hall.surfaces.channel_events import bind_channel_events
from city_hall.surfaces.connections import bind_connections
from city_hall.surfaces.console import console_router
from city_hall.surfaces.direct import Direct, Table
from city_hall.surfaces.docs import bind_docs
from city_hall.surfaces.forwarding import Forwarding
from city_hall.surfaces.health import bind_health, bind_upgrade_notice
from city_hall.surfaces.http import bind_operations
from city_hall.surfaces.later import Later, Surface, bind_mcp
from city_hall.surfaces.metrics import bind_metrics
from city_hall.surfaces.openapi import bind_openapi
from city_hall.surfaces.problems import bind_problems
from city_hall.surfaces.responses import Responses
from foundations.proxies import TrustedProxies
from foundations.settings import Settings
from smart_city.post_office.gateway.gateway import Gateway
from smart_city.post_office.gateway.socket import Socket

VERSION = version("smart-city")
CROSS_ORIGIN_HEADERS = (
    "Authorization", "Content-Type", "Idempotency-Key", "traceparent",
    "Mcp-Session-Id", "MCP-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-ID",
)  # fmt: skip
"""What a page of an allowed origin may send with a call."""
SHOWN_HEADERS = ("Retry-After", "RateLimit", "RateLimit-Policy", "Mcp-Session-Id")
"""What it may read of an answer, beside the body."""

NO_SPANS: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""The platform tells of itself, without anybody's secrets; asking each time whether FastAPI may, too, takes 2 µs."""


def create_app(settings: Settings) -> FastAPI:
    """The application; its lifespan opens the city, and closes it again."""
    responses: Counter[int] = Counter()
    direct: Table = {}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with opened(settings) as city:
            city.counters().responses = responses
            mcp = city.tasks().spawn("MCP", _bind(app, city, settings, direct).run())
            try:
                yield
            finally:
                mcp.cancel()
                await asyncio.wait({mcp}, timeout=settings.stop_seconds)

    app = FastAPI(
        title="Smart City", version=VERSION, lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None,
        telemetry=NO_SPANS,
        summary="A gateway between people and AI agents: every channel is a durable log, every operation is "
        "declared once.",
    )  # fmt: skip
    bind_problems(app)
    app.add_middleware(Direct, table=direct)
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=settings.allowed_origins, allow_credentials=True,
            allow_methods=("GET", "POST", "DELETE"), allow_headers=CROSS_ORIGIN_HEADERS,
            expose_headers=SHOWN_HEADERS,
        )  # fmt: skip
    app.add_middleware(Responses, counts=responses)
    if settings.trusted_proxies:
        app.add_middleware(Forwarding, proxies=TrustedProxies(settings.trusted_proxies))
    return app


def _bind(app: FastAPI, city: City, settings: Settings, direct: Table) -> Later:
    catalogue, invocation = city.catalogue(), city.invocation()
    identify = city.identities().identify
    gateway = app.state.gateway = city.gateway()
    bind_health(app, city.health(), identify, settings, VERSION)
    bind_metrics(app, city.gauges().render, identify, settings)
    bind_operations(app, catalogue, identify, invocation, settings, direct)
    bind_connections(app, city.registry(), identify, invocation, settings)
    bind_channel_events(app, city.event_streams(), identify, invocation, settings)
    bind_upgrade_notice(app)
    bind_docs(app, catalogue, identify, settings)
    bind_openapi(app)
    app.include_router(console_router(settings, city.front_desk()))

    listening, limits = city.listening(), city.limits()

    def load_mcp() -> Surface:
        from city_hall.surfaces.mcp.surface import McpSurface, Reach

        reach = Reach(
            channels=city.channels(), listening=listening, limits=limits, store=city.valkey(),
            bus=city.subscriptions(),
        )  # fmt: skip
        return McpSurface(catalogue, identify, invocation, settings, VERSION, reach)

    mcp = Later(load_mcp)
    bind_mcp(app, mcp, direct)
    gateway.start()
    return mcp


class CitySocket(Socket):
    """A socket as uvicorn makes it: the gateway is the application's."""

    __slots__ = ()

    def __init__(self, config: Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        gateway: Gateway = cast(FastAPI, config.app).state.gateway
        # uvicorn types the set with its own protocol classes, and calls only their `shutdown`
        super().__init__(gateway, cast("set[Socket]", server_state.connections))


websocket_protocol = CitySocket
