"""One connection's replies: each command has its own deadline, whenever it was asked."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import ConnectionPool

from foundations.errors import Unavailable
from foundations.valkey.pipe import Pipe
from tests.support.speaking import speaking
from tests.support.waiting import ROOM, until

pytestmark = pytest.mark.on_both_loops

GREETING = b"%1\r\n$5\r\nproto\r\n:3\r\n+PONG\r\n"


async def greet_and_fall_silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(GREETING)
    while await reader.read(4096):
        pass


async def test_a_deadline_holds_also_behind_a_later_one() -> None:
    clock = asyncio.get_running_loop().time
    async with speaking(greet_and_fall_silent) as port:
        pipe = Pipe(ConnectionPool.from_url(f"redis://127.0.0.1:{port}", protocol=3), seconds=20)
        patient = asyncio.create_task(pipe.ask(("ECHO", "x")))
        await until(lambda: bool(pipe.unanswered()), "asked")
        began = clock()
        with pytest.raises(Unavailable):
            await pipe.ask(("ECHO", "y"), began + 0.2)
        assert clock() - began < ROOM
        await pipe.close()
        with pytest.raises(Unavailable):
            await patient


async def test_a_line_is_deaf_also_where_nobody_waited_for_its_reply() -> None:
    async with speaking(greet_and_fall_silent) as port:
        pipe = Pipe(ConnectionPool.from_url(f"redis://127.0.0.1:{port}", protocol=3), seconds=0.3)
        asked = asyncio.create_task(pipe.ask(("ECHO", "x")))
        await until(lambda: bool(pipe.unanswered()), "asked")
        asked.cancel()
        await until(lambda: not pipe.is_open, "the next command takes another connection")
        await pipe.close()
