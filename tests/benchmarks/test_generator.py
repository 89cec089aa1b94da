"""The load generator counts what comes, no more and no less, however it comes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from benchmarks.generator import Load, Refused, answered
from benchmarks.limit import Limit
from benchmarks.subjects import Audience, Exchange
from tests.benchmarks.scripted_server import client_frame, frame, scripted_server

pytestmark = pytest.mark.needs("cc")
TEXT, PING, PONG, CLOSE = 1, 9, 10, 8


@pytest.fixture
async def load() -> AsyncIterator[Load]:
    async with Load() as running:
        yield running


def stamped(text: str = "x" * 150, age_ns: int = 0) -> bytes:
    return b'{"channel":"c0","t":%d,"text":"%s"}' % (time.monotonic_ns() - age_ns, text.encode())


async def seen_of(load: Load, pieces: Sequence[bytes], deliveries: int) -> int:
    """How many deliveries a client counts that is sent these pieces, each on its own."""
    told = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await told.wait()
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(frame(b"ping", PING))
        while await client_frame(reader) != (PONG, b"ping"):
            pass  # all before it has been looked at

    async with scripted_server(script) as server:
        await load.open(server, Audience(), 1)
        await load.begin()
        told.set()
        await load.wait(deliveries, 5)
        seen = await load.wait(deliveries + 1, 0.1)  # and not one more
        await load.close(abort=True)
    return seen.deliveries


async def test_it_counts_one_delivery_for_each_subscriber_and_message(load: Load) -> None:
    async with Limit() as limit:
        await load.open(limit, await limit.audience("c0", 30), 30)
        await load.begin()
        await limit.publish_batch([("c0", stamped()) for _ in range(40)] + [("other", stamped())])
        seen = await load.wait(30 * 40, 10)
        await load.close(abort=True)
    assert (seen.deliveries, seen.ready, seen.lost) == (1200, 30, 0)
    assert 0 < seen.latency.p50 <= seen.latency.p99 <= seen.latency.max < 10e9


async def test_it_finds_messages_wherever_a_stream_is_cut(load: Load) -> None:
    message, other = stamped(), stamped("y")
    whole = frame(message) + frame(message + other) + frame(message[:30], is_final=False) + frame(message[30:], 0)
    assert await seen_of(load, [whole], 4) == 4
    assert await seen_of(load, [bytes([byte]) for byte in whole], 4) == 4
    assert await seen_of(load, [whole[at : at + 7] for at in range(0, len(whole), 7)], 4) == 4


async def test_it_takes_what_only_looks_like_a_stamp_for_none(load: Load) -> None:
    assert await seen_of(load, [frame(b'{"text":"t:1","tt":2,"t" :3}'), frame(stamped())], 1) == 1


async def test_a_latency_is_the_time_since_the_stamp(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await client_frame(reader)
        writer.write(frame(b"welcome"))
        await client_frame(reader)
        writer.write(frame(stamped(age_ns=70_000_000)))

    async with scripted_server(script) as server:
        audience = Exchange(opening=["hello"], ready=b"welcome", request="go", answer=b'"t":')
        await load.open(server, audience, 1)
        await load.begin()
        seen = await load.ask(audience, total=1)
        await load.close(abort=True)
    assert 70e6 <= seen.latency.p50 <= seen.latency.max < 10e9
    assert (seen.requests, seen.answers, seen.answer_latency.count) == (1, 1, 1)
    assert seen.answer_latency.max < seen.latency.max


async def test_a_client_is_ready_when_it_is_told_so_and_what_it_was_given_comes_back(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await client_frame(reader) == (TEXT, b"subscribe 7")
        writer.write(frame(b'{"id":"abc","ok":true}'))

    async with scripted_server(script) as server:
        audience = Audience(
            path="/ws?resume={captured}", headers=["Authorization: Bearer {credential}"], credentials=["one", "two"],
            opening=["subscribe {n}"], ready=b'"ok":true', capture=b'"id":"',
        )  # fmt: skip
        opened = await load.open(server, audience, 1, first=7)
        await load.close(abort=True, keep=True)
        await load.reopen(server, audience, 1)
        await load.close(abort=True)
    assert (opened.ready, opened.opening.count) == (1, 1)
    assert [request.split()[1] for request in server.requests] == ["/ws?resume=", "/ws?resume=abc"]
    assert all("Authorization: Bearer two\r\n" in request for request in server.requests)


async def test_heartbeats_are_answered_and_goodbye_is_said(load: Load) -> None:
    heard: list[tuple[int, bytes]] = []

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"2") + frame(b"2 is a text") + frame(b"", PING))
        heard.extend([await client_frame(reader) for _ in range(3)])
        writer.close()

    async with scripted_server(script) as server:
        await load.open(server, Audience(heartbeat=(b"2", b"3")), 1)
        while (await load.wait(1, 0.05)).pings == 0:
            pass
        await load.close()
    assert heard == [(TEXT, b"3"), (PONG, b""), (CLOSE, b"\x03\xe8")]


async def test_who_is_not_let_in_is_told_with_the_reason(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with scripted_server(script, b"HTTP/1.1 403 Forbidden\r\n\r\n") as server:
        with pytest.raises(Refused, match="403 Forbidden"):
            await load.open(server, Audience(), 3)
        with pytest.raises(Refused, match="403 Forbidden"):  # nothing of the first attempt is left
            await load.open(server, Audience(), 3)


async def test_requests_at_a_rate_are_so_many_a_second_and_each_is_answered(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await client_frame(reader))[0] == TEXT:
            writer.write(frame(b"answered"))

    async with scripted_server(script) as server:
        exchange = Exchange(request="ask {id}", answer=b"answered")
        await load.open(server, exchange, 4)
        await load.begin()
        paced = await load.ask(exchange, in_flight=50, rate=200, seconds=0.5)
        await load.begin()
        hurried = await load.ask(exchange, in_flight=5, total=2000)
        await load.close(abort=True)
    assert paced.requests == paced.answers
    assert 50 < paced.requests <= 101  # half a second at two hundred a second, and a busy machine may fall behind
    assert hurried.answers == hurried.requests >= 2000


async def test_requests_at_a_rate_begin_anew_with_each_task_and_wait_from_when_they_were_due(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (await client_frame(reader))[0] == TEXT:
            await asyncio.sleep(0.02)
            writer.write(frame(b"answered"))

    async with scripted_server(script) as server:
        exchange = Exchange(request="ask {id}", answer=b"answered")
        await load.open(server, exchange, 1)
        first = await load.ask(exchange, rate=100, seconds=0.2)
        again = await load.ask(exchange, rate=100, seconds=0.2)  # what was asked before is not this task's
        await load.close(abort=True)
    assert again.requests > first.requests > 2
    assert again.answers == again.requests
    assert again.answer_latency.max > 60e6  # each takes 20 ms, and one is due every ten: the last ones wait for others


async def test_requests_that_nobody_answers_are_told(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await client_frame(reader)
        writer.close()

    async with scripted_server(script) as server:
        exchange = Exchange(request="ask {id}", answer=b"answered")
        await load.open(server, exchange, 1)
        seen = await load.ask(exchange, total=1, seconds=0)
    with pytest.raises(Refused, match="0 of 1 answered, 1 connections lost"):
        answered(seen)


async def test_a_control_frame_that_is_too_long_ends_its_connection_and_nothing_else(load: Load) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frame(b"x" * 4000, PING))
        await reader.read()

    async with scripted_server(script) as server:
        await load.open(server, Audience(), 1)
        while not (seen := await load.wait(1, 0.05)).lost:
            pass
    assert (seen.lost, seen.pings, seen.why) == (1, 0, "lost: Protocol error")
