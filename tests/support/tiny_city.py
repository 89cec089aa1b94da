"""A worker with almost nothing in it, for tests of the supervisor: run as ``python tiny_city.py LISTENER …``.

``GET /`` tells what it was briefed with. What is set in TINY_CITY makes it fail: ``refuse``, ``crash``, ``hang``
(no end at SIGTERM), ``slow-start``.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from city_hall import worker
from city_hall.refusals import StartRefused
from foundations.settings import Settings


def create_app(settings: Settings) -> FastAPI:
    """What the real one is to the worker: an application with a lifespan."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        manner = os.environ.get("TINY_CITY", "")
        if manner == "refuse":
            raise StartRefused("this city is closed on Mondays")
        if manner == "crash":
            raise RuntimeError("a defect")
        yield
        if manner == "hang":
            await asyncio.Event().wait()

    app = FastAPI(lifespan=lifespan)

    @app.get("/")
    async def tell() -> dict[str, object]:
        return {
            "pid": os.getpid(),
            "instance_id": settings.instance_id,
            "valkey_url": settings.valkey_url,
            "port": settings.port,
            "data_dir": str(settings.data_dir),
            "operator_token": settings.operator_token.get_secret_value(),
        }

    return app


if __name__ == "__main__":
    sys.exit(worker.work(sys.argv[1:], create_app, asyncio.Protocol))
