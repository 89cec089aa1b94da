"""The real platform inside a test's own event loop: one or more instances on free ports over a real Valkey.

Everything is as in production but the process around it; `tests/journeys` starts that too.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import httpx2
import pytest
import uvicorn
from fastapi import FastAPI

from city_hall.app import CitySocket, create_app
from city_hall.http_protocol import PromptHttpProtocol
from foundations.settings import Settings
from tests.support.http_server import listener
from tests.support.valkey import ValkeyServer
from tests.support.waiting import until
from tests.support.wire_client import WireClient

OPERATOR_TOKEN = "op_" + "t" * 43
PATIENT = MappingProxyType(
    {
        "valkey_timeout_seconds": 15.0,
        "held_after_seconds": 15.0,
        "handshake_patience_seconds": 15.0,
        "canary_seconds": 5.0,
    }
)
"""Of a store that nobody harms: on a busy machine it may take its time, and nothing is refused or held for that."""
IMPATIENT = MappingProxyType({name: Settings.model_fields[name].default for name in PATIENT})
"""Of a store that the test harms: as in production, which notices within seconds."""
_names = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Instance:
    """One running instance."""

    app: FastAPI
    settings: Settings
    url: str
    http: httpx2.AsyncClient

    @property
    def ws_url(self) -> str:
        return "ws" + self.url.removeprefix("http") + "/ws"

    @property
    def operator(self) -> dict[str, str]:
        """The headers of the operator."""
        return {"Authorization": f"Bearer {OPERATOR_TOKEN}"}

    async def call(self, operation: str, arguments: dict[str, Any] | None = None, **headers: str) -> httpx2.Response:
        """Calls ``service.operation`` as the operator, unless another ``Authorization`` is given."""
        service, _, name = operation.partition(".")
        given = self.operator | {k.replace("_", "-"): v for k, v in headers.items()}
        return await self.http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments or {}, headers=given)

    async def done(self, operation: str, arguments: dict[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        """The result of a call that must succeed."""
        response = await self.call(operation, arguments, **headers)
        assert response.status_code == 200, response.text
        answer: dict[str, Any] = response.json()
        return answer

    async def session(self, user_id: str, **arguments: Any) -> str:
        """A new session's token."""
        created = await self.done("traffic_cop.create_session", {"user_id": user_id, **arguments})
        return str(created["session_token"])

    async def service(self, realm: str, *scopes: str) -> str:
        """A new service token."""
        created = await self.done("traffic_cop.create_service_token", {"realm": realm, "scopes": list(scopes)})
        return str(created["token"])

    @asynccontextmanager
    async def connected(self, token: str, **options: Any) -> AsyncIterator[WireClient]:
        """A plain WebSocket client of this instance, after its welcome."""
        async with WireClient.connected(self.ws_url, token, **options) as client:
            yield client


def unique(name: str) -> str:
    """A user's name that no other test has: the keys of connections carry no prefix."""
    return f"{name}-{secrets.token_hex(4)}"


class Platform:
    """The instances of one test; they share a store and a key prefix. ``defaults`` are settings of each of them."""

    def __init__(self, server: ValkeyServer, stack: AsyncExitStack, **defaults: Any) -> None:
        self.server = server
        self._defaults = defaults
        self.prefix = f"test-{secrets.token_hex(4)}:"
        self._stack = stack

    async def start(self, **settings: Any) -> Instance:
        """One more instance, with these settings."""
        return await self._stack.enter_async_context(self.instance(**settings))

    @asynccontextmanager
    async def instance(self, **settings: Any) -> AsyncIterator[Instance]:
        """One more instance, until the block is left."""
        bound = listener()
        port = bound.getsockname()[1]
        read = Settings.read(
            **{
                "valkey_url": self.server.url, "valkey_key_prefix": self.prefix, "port": port,
                "instance_id": f"{self.prefix[:-1]}-{next(_names)}", "operator_token": OPERATOR_TOKEN,
                "drain_seconds": 1, **self._defaults, **settings,
            }
        )  # fmt: skip
        app = create_app(read)
        up, down = asyncio.Event(), asyncio.Event()
        life = asyncio.create_task(_live(app, read, bound, up, down))
        url = f"http://127.0.0.1:{port}"
        try:
            await until(lambda: up.is_set() or life.done(), "the instance serves", seconds=30)
            if life.done():
                await life
            async with httpx2.AsyncClient(base_url=url, timeout=30) as http:
                yield Instance(app, read, url, http)
        finally:
            down.set()
            async with asyncio.timeout(30):
                await life


async def _live(app: FastAPI, settings: Settings, bound: socket.socket, up: asyncio.Event, down: asyncio.Event) -> None:
    """An instance's life, in a task of its own: what is entered there is left there."""
    http = PromptHttpProtocol.within(
        settings.handshake_seconds, handshakes=settings.handshakes_at_once, deaf_seconds=0.2
    )
    config = uvicorn.Config(
        app, http=http, ws=CitySocket, log_config=None, lifespan="off", timeout_graceful_shutdown=2,
        proxy_headers=False,
    )  # fmt: skip
    with bound:
        async with app.router.lifespan_context(app):
            server = uvicorn.Server(config)
            serving = asyncio.create_task(server.serve(sockets=[bound]))
            await until(lambda: server.started or serving.done(), "the instance listens")
            up.set()
            await down.wait()
            await app.state.gateway.drain()  # as a worker does at its signal
            server.should_exit = True
            await serving


@pytest.fixture
async def platform(valkey_server: ValkeyServer) -> AsyncIterator[Platform]:
    """A place to start instances in."""
    async with AsyncExitStack() as stack:
        yield Platform(valkey_server, stack, **PATIENT)


@pytest.fixture
async def city(platform: Platform) -> Instance:
    """One instance with default settings."""
    return await platform.start()
