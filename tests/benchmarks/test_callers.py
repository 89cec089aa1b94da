"""The HTTP callers of the benchmarks, against a real server: what they count has been answered, and well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from benchmarks.callers import Drive, call, drive, request
from benchmarks.keepalive import Answered
from benchmarks.span_sink import span_sink
from tests.support.http_server import serving


class Seen:
    """What the server was asked."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.at_once = self.most_at_once = 0

    async def echo(self, asked: Request) -> Response:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.bodies.append(await asked.body())
        await asyncio.sleep(0)
        self.at_once -= 1
        return JSONResponse({"asked": len(self.bodies)}, headers={"X-Seen": "yes"})

    async def chunks(self, asked: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for part in (b"one", b"two"):
                yield part
                await asyncio.sleep(0)

        return StreamingResponse(parts())

    async def refuse(self, asked: Request) -> Response:
        return JSONResponse({"code": "rate_limited"}, status_code=429)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def server(seen: Seen) -> AsyncIterator[tuple[str, int]]:
    routes = [
        Route("/echo", seen.echo, methods=["POST"]),
        Route("/chunks", seen.chunks, methods=["POST"]),
        Route("/refuse", seen.refuse, methods=["POST"]),
    ]
    async with serving(Starlette(routes=routes)) as url:
        at = urlsplit(url)
        yield str(at.hostname), at.port or 0


async def test_every_call_is_answered_once_and_timed(server: tuple[str, int], seen: Seen) -> None:
    done = await drive(*server, request("/echo", {"n": 1}), calls=50, callers=5, mark=b"asked")
    assert seen.bodies == [b'{"n":1}'] * 50
    assert len(done.latencies) == 50
    assert 0 < max(done.latencies) <= done.seconds


async def test_callers_ask_at_the_same_time(server: tuple[str, int], seen: Seen) -> None:
    await drive(*server, request("/echo", {}), calls=60, callers=6, mark=b"asked")
    assert 1 < seen.most_at_once <= 6


async def test_answers_in_chunks_are_taken_whole(server: tuple[str, int]) -> None:
    assert len((await drive(*server, request("/chunks", {}), calls=5, mark=b"two")).latencies) == 5


@pytest.mark.parametrize("path", ["/refuse", "/nowhere"])
async def test_a_refusal_ends_the_drive(server: tuple[str, int], path: str) -> None:
    with pytest.raises(Answered):
        await drive(*server, request(path, {}), calls=5, mark=b"")
    with pytest.raises(Answered):
        await call(*server, request(path, {}))


async def test_an_answer_that_does_not_say_what_it_should_ends_the_drive(server: tuple[str, int]) -> None:
    with pytest.raises(Answered):
        await drive(*server, request("/echo", {}), calls=5, mark=b"published")
    with pytest.raises(Answered):
        await drive(*server, request("/echo", {}), calls=5, mark=b"asked", marks=2)


async def test_one_call_gives_headers_and_body(server: tuple[str, int]) -> None:
    headers, body = await call(*server, request("/echo", {}, X_Asked="yes"))
    assert (headers["x-seen"], body) == ("yes", b'{"asked":1}')


def test_a_quantile_is_in_milliseconds() -> None:
    done = Drive([n / 1000 for n in range(1, 101)], 1.0)
    assert (done.quantile(0.5), done.quantile(0.99)) == (51, 100)


async def test_the_sink_counts_exports_of_spans_and_nothing_else() -> None:
    async with span_sink() as sink:
        at = urlsplit(sink.url)
        for path in ("/v1/traces", "/v1/traces", "/v1/metrics"):
            await call(str(at.hostname), at.port or 0, request(path, {"spans": []}))
        assert (sink.exports, sink.received) == (2, 3 * len(b'{"spans":[]}'))
