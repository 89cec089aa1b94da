"""The wire: what a server can do wrong while it is greeted, and afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from redis.asyncio import ConnectionPool

from foundations.valkey.wire import Reply, Wire, WireLost, packed
from tests.support.speaking import speaking
from tests.support.waiting import PATIENCE

pytestmark = pytest.mark.on_both_loops

GREETING = b"%1\r\n$5\r\nproto\r\n:3\r\n+PONG\r\n"


@asynccontextmanager
async def server_that_says(*words: bytes) -> AsyncIterator[ConnectionPool]:
    """Sends its words whatever it is told, and waits for the other side to end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for word in words:
            writer.write(word)
            await writer.drain()
        while await reader.read(4096):
            pass

    async with speaking(serve) as port:
        pool: ConnectionPool = ConnectionPool.from_url(f"redis://127.0.0.1:{port}")
        yield pool


async def open_and_hear(pool: ConnectionPool) -> tuple[Wire, list[Reply]]:
    heard: list[Reply] = []
    return await Wire.open(pool, heard.append, seconds=0.3, name="test"), heard


async def test_a_server_that_is_loading_is_not_greeted() -> None:
    async with server_that_says(b"%0\r\n-LOADING Valkey is loading the dataset in memory\r\n") as pool:
        with pytest.raises(WireLost, match="LOADING"):
            await open_and_hear(pool)


async def test_a_server_that_repeats_what_it_was_told_shows_no_password() -> None:
    told = b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'default' 'hunter2'\r\n"
    async with server_that_says(told) as pool:
        with pytest.raises(WireLost, match=r"unknown command 'HELLO'$"):
            await open_and_hear(pool)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    async with server_that_says() as pool:
        with pytest.raises(WireLost, match="TimeoutError"):
            await open_and_hear(pool)


async def test_a_server_that_does_not_speak_resp_is_left() -> None:
    async with server_that_says(b"HTTP/1.1 400 Bad Request\r\n") as pool:
        with pytest.raises(WireLost, match="not RESP3"):
            await open_and_hear(pool)


async def test_nonsense_after_the_greeting_ends_the_wire() -> None:
    async with server_that_says(GREETING, b"nonsense\r\n") as pool:
        wire, heard = await open_and_hear(pool)
        assert "not RESP3" in await asyncio.wait_for(wire.lost, PATIENCE)
        assert heard == []


async def test_an_ended_wire_takes_commands_and_drops_them() -> None:
    async with server_that_says(GREETING) as pool:
        wire, _ = await open_and_hear(pool)
        wire.abort("enough")
        wire.write(packed(("PING",)))
        assert await asyncio.wait_for(wire.lost, PATIENCE) == "enough"


async def test_nobody_there_is_said_at_once() -> None:
    async with server_that_says() as pool:
        pass
    with pytest.raises(WireLost, match="Refused"):
        await open_and_hear(pool)
