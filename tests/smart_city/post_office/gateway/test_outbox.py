"""What waits for a client: one write a turn, what counts as unsent, and replays at the client's pace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from smart_city.post_office.gateway.outbox import Outbox, Round
from tests.support.waiting import until

LIMIT = 64 * 1024


class Recorder(asyncio.Protocol):
    """The server's end of a real socket, with an outbox on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.slow = 0
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(transport, Round(loop), limit=LIMIT, on_too_slow=self._too_slow)

    def _too_slow(self) -> None:
        self.slow += 1

    def pause_writing(self) -> None:
        self.outbox.pause()

    def resume_writing(self) -> None:
        self.outbox.resume()


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Recorder, socket.socket]]:
    """An outbox and the socket of a client that reads when the test does."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    loop = asyncio.get_running_loop()
    transport, recorder = await loop.create_connection(Recorder, sock=ours)
    try:
        yield recorder, theirs
    finally:
        transport.abort()
        theirs.close()


async def received(client: socket.socket, size: int) -> bytes:
    loop, data = asyncio.get_running_loop(), b""
    async with asyncio.timeout(5):
        while len(data) < size:
            data += await loop.sock_recv(client, 65536)
    return data


async def test_frames_of_one_turn_leave_in_their_order() -> None:
    async with connected() as (server, client):
        for number in range(100):
            server.outbox.send(b"%03d" % number)
        assert server.outbox.unsent == 300
        assert await received(client, 300) == b"".join(b"%03d" % number for number in range(100))
        await until(lambda: server.outbox.unsent == 0, "all is sent")


async def test_one_frame_larger_than_the_limit_is_not_too_much() -> None:
    async with connected() as (server, client):
        server.outbox.send(b"x" * (4 * LIMIT))
        server.outbox.write()
        assert server.outbox.unsent == 0
        server.outbox.send(b"y" * 100)
        server.outbox.write()
        assert (server.outbox.unsent, server.slow) == (100, 0)
        assert len(await received(client, 4 * LIMIT + 100)) == 4 * LIMIT + 100


async def test_a_reader_that_never_reads_is_reported_once() -> None:
    async with connected() as (server, _):
        for _number in range(40):
            server.outbox.send(b"x" * 4096)
            server.outbox.write()
        assert server.slow == 1
        assert server.outbox.unsent > LIMIT


async def test_a_replay_waits_for_the_client_and_never_counts_as_unsent() -> None:
    async with connected() as (server, client):
        piece = b"r" * LIMIT

        async def replay() -> None:
            for _ in range(8):
                await server.outbox.replay(piece)

        replaying = asyncio.create_task(replay())
        await until(lambda: server.transport.get_write_buffer_size() > 0, "the client's buffers are full")
        assert not replaying.done()
        assert server.transport.get_write_buffer_size() < 3 * LIMIT
        assert (server.outbox.unsent, server.slow) == (0, 0)
        assert await received(client, 8 * LIMIT) == piece * 8
        async with asyncio.timeout(5):
            await replaying
        assert server.slow == 0


async def test_live_frames_behind_a_replay_count() -> None:
    async with connected() as (server, _):
        await server.outbox.replay(b"r" * LIMIT)
        server.outbox.send(b"x" * (LIMIT + 1))
        server.outbox.write()
        assert server.slow == 1


async def test_a_shut_outbox_sends_nothing_and_lets_replays_end() -> None:
    async with connected() as (server, client):
        await server.outbox.replay(b"r" * (4 * LIMIT))
        waiting = asyncio.create_task(server.outbox.replay(b"r"))
        server.outbox.shut()
        async with asyncio.timeout(5):
            await waiting
        server.outbox.send(b"late")
        server.outbox.write()
        assert b"late" not in await received(client, 4 * LIMIT)


async def test_one_connection_that_cannot_be_written_to_does_not_silence_the_others() -> None:
    """The others of the turn counted as written to, and were never written to again."""
    async with connected() as (broken, _), connected() as (server, client):
        round_ = Round(asyncio.get_running_loop())
        outboxes = [
            Outbox(recorder.transport, round_, limit=LIMIT, on_too_slow=lambda: None) for recorder in (broken, server)
        ]
        broken.transport.write_eof()
        for outbox in outboxes:
            outbox.send(b"first")
        assert await received(client, 5) == b"first"
        outboxes[1].send(b"second")
        assert await received(client, 6) == b"second"


async def test_a_client_that_goes_while_a_replay_waits_lets_it_end() -> None:
    async with connected() as (server, _):
        await server.outbox.replay(b"r" * (4 * LIMIT))
        waiting = asyncio.create_task(server.outbox.replay(b"r"))
        await asyncio.sleep(0)
        server.outbox.shut()
        server.outbox.resume()  # the transport may say so once more
        async with asyncio.timeout(5):
            await waiting
