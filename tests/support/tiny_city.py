"""A worker with almost nothing in it, for tests of the supervisor.

``GET /`` tells what it was briefed with. SMART_CITY_TEST_MANNER makes it ``refuse`` or ``crash`` at its
start, or ``hang`` at its end; SMART_CITY_TEST_MANNER_NOTE names a file that says so for later ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from city_hall import worker
from city_hall.lifeline import Lifeline
from city_hall.refusals import StartRefused
from foundations.settings import Settings


def create_app(settings: Settings) -> Starlette:
    """What the real one is to the worker: an application with a lifespan."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        manner = os.environ.get("SMART_CITY_TEST_MANNER", "")
        note = Path(os.environ.get("SMART_CITY_TEST_MANNER_NOTE", ""))
        if note.is_file():
            manner = note.read_text()
        if manner == "refuse":
            raise StartRefused("this city is closed on Mondays")
        if manner == "crash":
            raise RuntimeError("the roof fell in")
        yield
        if manner == "hang":
            await asyncio.Event().wait()

    async def tell(request: Request) -> JSONResponse:
        return JSONResponse(
            {
                "pid": os.getpid(),
                "instance_id": settings.instance_id,
                "valkey_url": settings.valkey_url,
                "port": settings.port,
                "data_dir": str(settings.data_dir),
                "operator_token": settings.operator_token.get_secret_value(),
            }
        )

    async def hang(request: Request) -> JSONResponse:
        while True:
            pass

    return Starlette(routes=[Route("/", tell), Route("/hang", hang)], lifespan=lifespan)


if __name__ == "__main__":
    sys.exit(worker.work(Lifeline(int(sys.argv[1])), create_app, asyncio.Protocol))
