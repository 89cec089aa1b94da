"""Operations over HTTP, against a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse

from city_client import Operations, Refused, Unreachable
from city_client.errors import FieldProblem
from tests.platform.city_client.peer import Peer
from tests.support.http_server import serving


@pytest.fixture
async def city() -> AsyncIterator[str]:
    app = FastAPI()

    @app.post("/soa/post-office/list_channels")
    async def list_channels(request: Request) -> Response:
        seen = {
            "token": request.headers.get("Authorization"),
            "key": request.headers.get("Idempotency-Key"),
            "arguments": await request.json(),
        }
        return JSONResponse({"success": True, **seen})

    @app.post("/soa/post-office/refuse")
    async def refuse() -> Response:
        problem = {
            "code": "rate_limited", "detail": "slower", "retryable": True, "retry_after": 1.5,
            "errors": [{"field": "channel", "message": "no channel"}],
        }  # fmt: skip
        return JSONResponse(problem, 429, media_type="application/problem+json")

    @app.post("/soa/post-office/proxy_error")
    async def proxy_error() -> Response:
        return PlainTextResponse("<html>", 502, headers={"Retry-After": "3"})

    @app.post("/soa/post-office/nonsense")
    async def nonsense() -> Response:
        return PlainTextResponse("hello")

    @app.get("/api/health")
    async def health() -> Response:
        return JSONResponse({"status": "unhealthy", "services": {}}, 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse("a 1\n")

    async with serving(app) as url:
        yield url


async def test_a_call_carries_arguments_token_and_key(city: str) -> None:
    async with Operations(city, "svc") as operations:
        result = await operations.call("post_office.list_channels", {"limit": 3}, key="k1")
    assert result == {"token": "Bearer svc", "key": "k1", "arguments": {"limit": 3}}


async def test_a_call_without_token_and_arguments_is_just_that(city: str) -> None:
    async with Operations(city) as operations:
        result = await operations.call("post_office.list_channels")
    assert result == {"token": None, "key": None, "arguments": {}}


async def test_a_refusal_is_typed(city: str) -> None:
    async with Operations(city) as operations:
        with pytest.raises(Refused) as refused:
            await operations.call("post_office.refuse")
    error = refused.value
    assert (error.code, error.message, error.retryable, error.retry_after) == (
        "rate_limited",
        "slower",
        True,
        1.5,
    )
    assert error.errors == (FieldProblem("channel", "no channel"),)


async def test_a_proxys_error_is_a_refusal_too(city: str) -> None:
    async with Operations(city) as operations:
        with pytest.raises(Refused) as refused:
            await operations.call("post_office.proxy_error")
    assert (refused.value.code, refused.value.retryable, refused.value.retry_after) == ("http_502", True, 3.0)


async def test_what_is_no_platform_is_unreachable(city: str, peer: Peer) -> None:
    async with Peer().running() as other:
        free = other.url
    async with Operations(free) as nobody, Operations(city) as somebody:
        with pytest.raises(Unreachable):
            await nobody.call("post_office.list_channels")
        with pytest.raises(Unreachable):
            await somebody.call("post_office.nonsense")


async def test_an_operation_needs_its_service(city: str) -> None:
    async with Operations(city) as operations:
        with pytest.raises(ValueError, match="list_channels"):
            await operations.call("list_channels")


async def test_health_is_an_answer_also_when_it_is_bad(city: str) -> None:
    async with Operations(city) as operations:
        assert (await operations.health())["status"] == "unhealthy"
        assert await operations.metrics() == "a 1\n"
