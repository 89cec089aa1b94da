"""A worker: one gateway instance on the supervisor's socket, from its briefing to the end of its drain.

It runs uvicorn and says when connections are taken. What is served is `app`'s, when it ends the supervisor's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import uvicorn

from city_hall.children import BEAT_SECONDS, REFUSED
from city_hall.http_protocol import PromptHttpProtocol
from city_hall.lifeline import Lifeline
from city_hall.listener import BACKLOG
from city_hall.refusals import refusal_of
from city_hall.server import Server
from foundations.errors import CityError
from foundations.settings import Settings
from foundations.telemetry import configure_logging
from foundations.ticks import tick

if TYPE_CHECKING:
    from starlette.applications import Starlette

KEEP_ALIVE_SECONDS = 120
"""Longer than proxies (Traefik 90 s) and clients keep a connection: who closes first must not be the server."""

_log = logging.getLogger("smart_city.worker")


def work(
    lifeline: Lifeline,
    create_app: Callable[[Settings], Starlette],
    websocket_protocol: type[asyncio.Protocol] | str,
) -> int:
    """Waits for the briefing, then serves until a signal; the exit status."""
    [listener] = lifeline.briefing()
    try:
        settings = Settings.read()
        configure_logging(settings.log_format, settings.log_level, settings.instance_id)
        with asyncio.Runner(loop_factory=_new_event_loop) as runner:
            serving = _serve(create_app, settings, socket.socket(fileno=listener), websocket_protocol, lifeline)
            runner.run(serving)
    except Exception as error:
        return _failed(error, lifeline)
    return 0


def _failed(error: Exception, lifeline: Lifeline) -> int:
    """Tells the supervisor why, and whether another try may help; a defect's traceback goes to the log."""
    if (refusal := refusal_of(error)) is not None:
        lifeline.failed(str(refusal))
        return REFUSED
    _log.error("The worker failed: %s", error, exc_info=not isinstance(error, CityError))
    lifeline.failed(str(error) or type(error).__name__)
    return 1


async def _serve(
    create_app: Callable[[Settings], Starlette],
    settings: Settings,
    listener: socket.socket,
    websocket_protocol: type[asyncio.Protocol] | str,
    lifeline: Lifeline,
) -> None:
    """Opens the application before the first connection, and closes it after the last.

    Its lifespan is entered here and not by uvicorn, which would log a traceback and exit where there is a
    sentence for people. A signal while it opens ends that at once: what it waits for may never come.
    """
    app = create_app(settings)
    server = Server(
        _config(app, settings, websocket_protocol), lifeline.ready, lambda: getattr(app.state, "gateway", None),
        notice_seconds=settings.drain_notice_seconds,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        stack.callback(asyncio.create_task(_beat(lifeline)).cancel)
        with suppress(asyncio.CancelledError), server.interruptible():
            await stack.enter_async_context(app.router.lifespan_context(app))
        if not server.should_exit:
            await server.serve(sockets=[listener])


async def _beat(lifeline: Lifeline) -> None:
    """Tells the supervisor that the event loop turns; a worker whose loop hangs is replaced."""
    while True:
        lifeline.beat()
        await tick(BEAT_SECONDS)


def _config(app: Starlette, settings: Settings, websocket_protocol: type[asyncio.Protocol] | str) -> uvicorn.Config:
    """No concurrency limit: uvicorn's refuses health checks but not WebSockets; admission is ours, as is forwarding."""
    http = PromptHttpProtocol.within(
        settings.handshake_seconds, handshakes=settings.handshakes_at_once, deaf_seconds=settings.stop_seconds / 5
    )
    return uvicorn.Config(
        app, http=http, ws=websocket_protocol,
        lifespan="off", log_config=None, access_log=False, server_header=False, proxy_headers=False,
        backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=math.ceil(settings.stop_seconds),
    )  # fmt: skip


def _new_event_loop() -> asyncio.AbstractEventLoop:
    """uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop
