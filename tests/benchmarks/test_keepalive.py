"""The one connection of a benchmark's publisher, against a real server: answers belong to their requests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import keepalive
from benchmarks.keepalive import Answered, KeepAlive
from tests.support.http_server import serving


class Taken:
    """What the server was asked, and by how many connections."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.connections: set[object] = set()

    async def take(self, asked: Request) -> Response:
        self.bodies.append(await asked.body())
        self.connections.add(asked.client)
        return Response(asked.path_params["name"].encode(), status_code=409 if b"bad" in self.bodies[-1] else 200)


@pytest.fixture
def taken() -> Taken:
    return Taken()


@pytest.fixture
async def http(taken: Taken) -> AsyncIterator[KeepAlive]:
    async with serving(Starlette(routes=[Route("/take/{name}", taken.take, methods=["POST"])])) as url:
        at = urlsplit(url)
        connection = await KeepAlive.open(str(at.hostname), int(at.port or 0))
        yield connection
        await connection.close()


async def test_requests_follow_one_another_on_one_connection(http: KeepAlive, taken: Taken) -> None:
    assert [await http.post(f"/take/{name}", name.encode()) for name in "abc"] == [b"a", b"b", b"c"]
    assert (taken.bodies, len(taken.connections)) == ([b"a", b"b", b"c"], 1)


async def test_many_are_sent_at_once_and_taken_in_their_order(http: KeepAlive, taken: Taken) -> None:
    await http.post_all([("/take/x", b"%d" % number) for number in range(300)])
    assert taken.bodies == [b"%d" % number for number in range(300)]
    assert await http.post("/take/last", b"") == b"last"


async def test_one_that_idled_is_opened_anew_as_servers_end_those(
    http: KeepAlive, taken: Taken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keepalive, "IDLE_SECONDS", 0.0)
    assert [await http.post(f"/take/{name}", b"") for name in "ab"] == [b"a", b"b"]
    assert len(taken.connections) == 2


@pytest.mark.parametrize("at", [0, 2])
async def test_one_refusal_among_many_is_told(http: KeepAlive, at: int) -> None:
    bodies = [b"bad" if number == at else b"good" for number in range(3)]
    with pytest.raises(Answered, match="409"):
        await http.post_all([("/take/x", body) for body in bodies])
