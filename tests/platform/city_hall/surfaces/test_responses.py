"""What requests were answered is counted and told, whoever answered them."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Iterator

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from city_hall.surfaces.responses import Responses
from foundations.telemetry import configure_logging
from tests.support.http_server import serving


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("json", "info", "instance-1", stream=stream)
    yield stream
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def told(log: io.StringIO) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    return [line for line in lines if line["event"] == "HTTP request"]


async def well(_request: Request) -> Response:
    return PlainTextResponse("well", 202)


async def broken(_request: Request) -> Response:
    raise RuntimeError("a defect")


async def test_answers_and_defects_are_counted_and_told_but_for_probes(log: io.StringIO) -> None:
    counts: Counter[int] = Counter()
    routes = [Route("/broken", broken), Route("/{rest:path}", well)]
    app = Starlette(routes=routes, middleware=[Middleware(Responses, counts=counts)])
    async with serving(app) as url, httpx2.AsyncClient(base_url=url, timeout=10) as http:
        await http.get("/health/ready")
        await http.get("/a%20b?session_token=secret")
        await http.get("/broken")
    assert counts == {202: 2, 500: 1}
    first, second = told(log)
    assert (first["logger"], first["level"], first["method"]) == ("uvicorn.access", "info", "GET")
    assert (first["path"], first["status"], second["path"], second["status"]) == ("/a%20b", 202, "/broken", 500)
    assert str(first["client"]).startswith("127.0.0.1:")
    assert "secret" not in json.dumps(told(log))
