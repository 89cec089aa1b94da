"""Protocol objects that are lent: one that is idle has none, and nobody meets another's frame."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.server import ServerProtocol

from smart_city.post_office.gateway import readers
from tests.contract.raw import BINARY, CONTINUATION, PING, PONG, TEXT, Raw, dialled, frame, upgrade
from tests.support.echo import echoing


async def upgraded(raw: Raw) -> None:
    await raw.send(upgrade())
    status, _, _ = await raw.response()
    assert status == 101


async def test_one_reader_serves_all_whose_frames_come_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ServerProtocol] = []

    def make(**how: Any) -> ServerProtocol:
        made.append(ServerProtocol(**how))
        return made[-1]

    monkeypatch.setattr(readers, "ServerProtocol", make)
    async with echoing() as port, dialled(f"http://127.0.0.1:{port}") as one:
        await upgraded(one)
        for number in range(5):
            async with dialled(f"http://127.0.0.1:{port}") as other:
                await upgraded(other)
                for raw in (one, other):
                    await raw.send(frame(PING, b"%d" % number))
                    assert await raw.frame() == (PONG, b"%d" % number)
    assert len(made) == 1


async def test_what_is_half_here_is_finished_by_the_same_reader_whatever_others_send() -> None:
    async with echoing() as port, dialled(f"http://127.0.0.1:{port}") as one:
        await upgraded(one)
        ping = frame(PING, b"in two pieces")
        async with dialled(f"http://127.0.0.1:{port}") as other:
            await upgraded(other)
            for raw, data in ((one, ping[:7]), (other, frame(TEXT, b"first, ", fin=False)), (one, ping[7:])):
                await raw.send(data)
                await asyncio.sleep(0)
            assert await one.frame() == (PONG, b"in two pieces")
            await one.send(frame(BINARY, b"of one", fin=False) + frame(CONTINUATION, b" alone"))
            await other.send(frame(CONTINUATION, b"then"))
            assert await one.frame() == (BINARY, b"of one alone")
            assert await other.frame() == (TEXT, b"first, then")
