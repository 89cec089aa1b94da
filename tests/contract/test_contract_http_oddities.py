"""Section 3 below its requests: HTTP that is odd, broken or meant to be read twice in two ways."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from tests.contract.raw import Raw, dialled, upgrade
from tests.contract.watching import eventually
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
PATH = "/soa/post-office/publish_to_agent_channel"


def request(body: bytes = b"", path: str = PATH, method: str = "POST", many: int = 0, **headers: str) -> bytes:
    """A request, with so many more headers; those with an empty value are left out."""
    given = {
        "Host": "127.0.0.1", "Authorization": f"Bearer {OPERATOR_TOKEN}", "Content-Type": "application/json",
        "Content-Length": str(len(body)) if body or method == "POST" else "",
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip
    given |= {f"X-{number}": "v" for number in range(many)}
    lines = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value)
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def publication(channel: str, n: int = 1) -> bytes:
    return json.dumps({"channel": channel, "message": {"n": n}}).encode()


async def logged(town: Instance, channel: str) -> list[int]:
    read = await town.done("post_office.get_channel_history", {"channel": channel})
    return [entry["payload"]["n"] for entry in read["publications"]]


async def lives(town: Instance) -> None:
    assert (await town.http.get("/health/live")).status_code == 200


@in_town
async def test_two_requests_in_one_segment_are_answered_in_order(town: Instance, channel: str) -> None:
    async with dialled(town.url) as raw:
        await raw.send(b"".join(request(publication(channel, n)) for n in range(5)))
        offsets = [json.loads((await raw.response())[2])["offset"] for _ in range(5)]
    assert offsets == sorted(offsets)
    assert await logged(town, channel) == list(range(5))


@in_town
async def test_a_refused_request_does_not_spoil_the_next_of_its_segment(town: Instance, channel: str) -> None:
    bad = request(b'{"channel": "guide"', Content_Length="19")
    async with dialled(town.url) as raw:
        await raw.send(
            bad + request(publication(channel)) + request(b"[]") + request(path="/health/live", method="GET")
        )
        statuses = [(await raw.response())[0] for _ in range(4)]
    assert statuses[0] in {400, 422}
    assert statuses[1] == 200
    assert statuses[2] in {400, 422}
    assert statuses[3] == 200


@in_town
@pytest.mark.parametrize("path", ["/soa/post-office/nope", "/nowhere", "/metrics", "/console/", "/"])
async def test_a_body_where_none_is_wanted_is_not_taken_for_a_request(town: Instance, channel: str, path: str) -> None:
    smuggled = request(publication(channel))
    async with dialled(town.url) as raw:
        await raw.send(request(smuggled, path=path) + request(path="/health/live", method="GET"))
        first = await raw.response()
        assert first[0] < 500
        if first[1].get("connection") != "close":
            assert (await raw.response())[2] == b'{"status":"alive"}'
    assert await logged(town, channel) == []


@in_town
@pytest.mark.parametrize(
    "framing",
    [
        {"Content_Length": "4", "Transfer_Encoding": "chunked"},
        {"Transfer_Encoding": "chunked", "Content_Length": "0"},
        {"Content_Length": "0, 10"}, {"Content_Length": "+5"}, {"Content_Length": "-1"}, {"Content_Length": "0x10"},
        {"Content_Length": "1 0"}, {"Content_Length": "9" * 30}, {"Content_Length": "abc"},
        {"Transfer_Encoding": "xchunked", "Content_Length": ""}, {"Transfer_Encoding": "identity, chunked, gzip"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_body_whose_end_can_be_read_in_two_ways_is_not_read_twice(
    town: Instance, channel: str, framing: dict[str, str]
) -> None:
    """What a proxy before us may have taken for one request must not become two, of which one is an attacker's."""
    smuggled = request(publication(channel))
    async with dialled(town.url) as raw:
        await raw.send(request(b"0\r\n\r\n" + smuggled, many=0, path=PATH, method="POST", **framing))
        status, headers, _ = await raw.response()
        assert status != 101
        assert status < 500
        if status < 400:
            raise AssertionError(f"{framing} was taken as {status}")
        rest = await raw.ended() if headers.get("connection") == "close" else b""
        assert b'"published"' not in rest
    assert await logged(town, channel) == []
    await lives(town)


@in_town
async def test_two_lengths_that_differ_are_refused(town: Instance, channel: str) -> None:
    body = publication(channel)
    data = request(body).replace(b"\r\n\r\n", b"\r\nContent-Length: 3\r\n\r\n", 1)
    async with dialled(town.url) as raw:
        await raw.send(data)
        assert 400 <= (await raw.response())[0] < 500
    assert await logged(town, channel) == []


@in_town
async def test_a_body_in_chunks_is_a_body(town: Instance, channel: str) -> None:
    body = publication(channel)
    chunks = b"".join(b"%x\r\n%s\r\n" % (1, body[n : n + 1]) for n in range(len(body))) + b"0\r\n\r\n"
    data = request(Transfer_Encoding="chunked", Content_Length="") + chunks
    async with dialled(town.url) as raw:
        for start in range(0, len(data), 7):
            await raw.send(data[start : start + 7])
        assert (await raw.response())[0] == 200
    assert await logged(town, channel) == [1]


@in_town
@pytest.mark.parametrize(
    "chunk", [b"zz\r\nhello\r\n", b"-5\r\nhello\r\n", b"5\r\nhello!!\r\n", b"f" * 20 + b"\r\n", b"5hello"]
)
async def test_broken_chunks_are_refused(town: Instance, channel: str, chunk: bytes) -> None:
    async with dialled(town.url) as raw:
        await raw.send(request(Transfer_Encoding="chunked", Content_Length="") + chunk + b"0\r\n\r\n")
        answer = await raw.ended(8) if chunk[:1] == b"f" else await raw.response()
        if isinstance(answer, tuple):
            assert 400 <= answer[0] < 500
    await lives(town)


@in_town
@pytest.mark.parametrize(
    "data",
    [
        request(X_Long="x" * 200_000), request(many=5000), request(path="/" + "x" * 100_000),
        request(path="/ws?" + "a=b&" * 30_000, method="GET"), b"GET / HTTP/1.1\r\nNo colon here\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c: d\r\n\r\n",
        b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"GET /\r\n\r\n", b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", b"GET /\x80\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT example.com:80 HTTP/1.1\r\nHost: x\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        b"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n", b"GET http://other.example/ws HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health/live HTTP/1.1\r\n\r\n", b"GET /health/live HTTP/1.0\r\n\r\n",
        b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /health/live HTTP/1.1\nHost: x\n\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\nContent-Length: 0\r\n\r\n",
    ],
    ids=lambda data: repr(data[:40]),
)  # fmt: skip
async def test_odd_requests_get_an_answer_or_an_end_and_harm_nobody(town: Instance, data: bytes) -> None:
    async with dialled(town.url) as raw:
        try:
            await raw.send(data)
            raw.writer.write_eof()
        except ConnectionError:
            pass
        answer = await raw.ended(8)
        assert not answer or answer.startswith(b"HTTP/1."), answer[:100]
        if answer:
            assert int(answer.split()[1]) < 500, answer[:200]
    await lives(town)


@in_town
async def test_a_head_that_never_stops_growing_is_cut_off(town: Instance) -> None:
    async with dialled(town.url) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        sent = 0
        try:
            while sent < 16 << 20:
                await raw.send(b"X-More: " + b"x" * 60_000 + b"\r\n")
                sent += 60_000
        except (ConnectionError, TimeoutError):
            pass
        assert sent < 16 << 20, "a head of 16 MiB is still being taken"
    await lives(town)


@in_town
@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_body_far_above_the_limit_is_refused_before_it_has_come(town: Instance, is_chunked: bool) -> None:
    piece = b"x" * (1 << 20)
    chunk = b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece
    chunked = {"Content_Length": "", "Transfer_Encoding": "chunked"}
    head = request(**chunked) if is_chunked else request(Content_Length=str(200 << 20))  # type: ignore[arg-type]
    async with dialled(town.url) as raw:
        answer = asyncio.create_task(raw.response(10))
        await raw.send(head)
        sent = 0
        try:
            while sent < 64 and not answer.done():
                await raw.send(chunk)
                sent += 1
        except (ConnectionError, TimeoutError):
            pass
        status, _, body = await answer
    assert (status, json.loads(body)["code"]) == (413, "too_large")
    assert sent < 64
    await lives(town)


@in_town
async def test_a_body_that_breaks_off_does_nothing(town: Instance, channel: str) -> None:
    body = publication(channel)
    for cut in (1, len(body) // 2, len(body) - 1):
        async with dialled(town.url) as raw:
            await raw.send(request(body[:cut], Content_Length=str(len(body))))
            raw.writer.write_eof()
            await raw.ended()
    assert await logged(town, channel) == []
    await lives(town)


@in_town
async def test_who_expects_a_continue_gets_one(town: Instance, channel: str) -> None:
    body = publication(channel)
    async with dialled(town.url) as raw:
        await raw.send(request(Content_Length=str(len(body)), Expect="100-continue"))
        assert (await raw.response())[0] == 100
        await raw.send(body)
        assert (await raw.response())[0] == 200


@in_town
async def test_who_leaves_before_the_answer_has_still_published(town: Instance, channel: str) -> None:
    async with dialled(town.url) as raw:
        await raw.send(request(publication(channel)))
    seen = await eventually(lambda: logged(town, channel), lambda numbers: numbers != [], "it was sent whole")
    assert seen == [1]


@in_town
async def test_a_websocket_request_with_a_body_does_not_smuggle(town: Instance, channel: str) -> None:
    """The bytes behind the head of an upgrade are no request."""
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(upgrade(token, Content_Length="0") + request(publication(channel)))
        await raw.response()
        await raw.close_code()
    assert await logged(town, channel) == []


@in_town
async def test_an_upgrade_may_come_on_a_connection_that_was_used_before(town: Instance) -> None:
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(request(path="/health/live", method="GET"))
        assert (await raw.response())[0] == 200
        await raw.send(upgrade(token))
        assert (await raw.response())[0] == 101
        assert (await raw.json())["event"] == "welcome"


@in_town
async def test_an_upgrade_behind_a_request_in_one_segment_waits_its_turn(town: Instance, channel: str) -> None:
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(request(publication(channel)) + upgrade(token))
        assert (await raw.response())[0] == 200
        status, _, _ = await raw.response()
        assert status in {101, 400, 426}
    assert await logged(town, channel) == [1]


@in_town
async def test_many_idle_connections_hold_nothing_up(town: Instance) -> None:
    async with asyncio.TaskGroup() as group:
        entered = [dialled(town.url) for _ in range(100)]
        idle = [group.create_task(one.__aenter__()) for one in entered]
    began = time.monotonic()
    await lives(town)
    assert time.monotonic() - began < ROOM
    for one, task in zip(entered, idle, strict=True):
        assert isinstance(task.result(), Raw)
        await one.__aexit__(None, None, None)


@pytest.mark.parametrize("headers", [{"X-Forwarded-For": "1.2.3.4"}, {"X-Forwarded-Host": "evil.example"},
                                     {"X-Forwarded-Proto": "https"}, {"Forwarded": "for=1.2.3.4;host=evil.example"},
                                     {"Host": "evil.example"}], ids=str)  # fmt: skip
async def test_nobody_is_trusted_to_say_where_the_city_is(platform: Platform, headers: dict[str, str]) -> None:
    """Section 2: without TRUSTED_PROXIES no ``X-Forwarded-*`` counts, and the public URL is from the bind address."""
    city = await platform.start()
    arguments: dict[str, Any] = {"session_token": await city.session(unique("alice")), "realm": "operator"}
    response = await city.http.post(
        "/soa/post-office/get_websocket_endpoint", json=arguments, headers={**city.operator, **headers}
    )
    assert response.json()["websocket_url"].startswith(f"{city.ws_url}?")
