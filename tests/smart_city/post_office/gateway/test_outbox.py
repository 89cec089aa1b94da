"""What waits for a client: one write a turn, what counts as unsent, and replays at the client's pace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from smart_city.post_office.gateway.backlog import Patience
from smart_city.post_office.gateway.outbox import Outbox
from smart_city.post_office.gateway.round import Round
from tests.support.waiting import PATIENCE, until

LIMIT = 64 * 1024


class Recorder(asyncio.Protocol):
    """The server's end of a real socket, with an outbox on it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.told: list[str] = []
        loop = asyncio.get_running_loop()
        self.outbox = Outbox(transport, Round(loop), self, Patience(LIMIT, 0.2))

    def lagging(self, is_lagging: bool) -> None:
        self.told.append("lags" if is_lagging else "has caught up")

    def full(self, is_full: bool) -> None:
        self.told.append("full" if is_full else "not full")

    def stalled(self) -> None:
        self.told.append("stalled")

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
    async with asyncio.timeout(PATIENCE):
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
        assert (server.outbox.unsent, server.told) == (100, [])
        assert len(await received(client, 4 * LIMIT + 100)) == 4 * LIMIT + 100


def fill(server: Recorder, size: int = 40 * 4096) -> None:
    """Sends more than the client's buffers take, in frames of four kilobytes."""
    for _ in range(size // 4096):
        server.outbox.send(b"x" * 4096)
        server.outbox.write()


async def test_a_reader_that_never_reads_lags_from_half_of_the_limit_on_and_stalls_in_the_end() -> None:
    async with connected() as (server, _):
        fill(server)
        assert server.told == ["lags", "full"]
        assert server.outbox.unsent > LIMIT
        assert (server.outbox.has_room, server.outbox.takes_work, server.outbox.is_awaited) == (False, False, True)
        await until(lambda: "stalled" in server.told, "nothing was taken")
        assert server.told == ["lags", "full", "stalled"]


async def test_a_reader_that_has_taken_what_waited_lags_no_more_and_may_lag_again() -> None:
    async with connected() as (server, client):
        for _ in range(2):
            server.told.clear()
            fill(server)
            assert len(await received(client, 40 * 4096)) == 40 * 4096
            await until(lambda: server.outbox.has_room, "there is room")
            assert server.told == ["lags", "full", "not full", "has caught up"]
            assert (server.outbox.takes_work, server.outbox.is_awaited) == (True, False)


async def test_a_reader_that_takes_a_little_now_and_then_does_not_stall() -> None:
    async with connected() as (server, client):
        fill(server, 100 * 4096)
        for _ in range(12):  # much longer than a stall
            assert await received(client, 4096)
            await asyncio.sleep(0.05)  # what is shown is that time alone does no harm
        assert "stalled" not in server.told


async def test_what_the_system_does_not_take_is_noticed_at_once_and_gone_once_it_is_taken() -> None:
    """A delivery does not ask: the outbox has to know."""
    async with connected() as (server, client):
        server.outbox.deliver(b"x" * LIMIT)
        assert (server.outbox.has_room, server.outbox.unsent) == (False, 0), "a first frame does not count"
        await asyncio.sleep(0)
        server.outbox.deliver(b"y" * 100)
        assert server.outbox.unsent == 100
        await asyncio.sleep(0)
        assert server.outbox.unsent == 100
        assert await received(client, LIMIT + 100) == b"x" * LIMIT + b"y" * 100
        await until(lambda: server.outbox.has_room, "all is taken")
        server.outbox.deliver(b"z")
        assert (client.recv(1), server.outbox.unsent) == (b"z", 0)


async def test_below_half_of_the_limit_nobody_lags() -> None:
    async with connected() as (server, client):
        before = 0
        while server.transport.get_write_buffer_size() == before == 0:  # until the system takes no more
            server.outbox.send(b"x" * 4096)
            server.outbox.write()
        server.outbox.send(b"y" * (LIMIT // 2 - 8192))
        server.outbox.write()
        assert server.told == []
        client.close()


async def test_the_logs_of_one_reader_are_fed_one_after_the_other_and_only_when_it_has_room() -> None:
    async with connected() as (server, client):
        fill(server)
        order: list[int] = []

        async def feed(number: int) -> None:
            for _ in range(2):
                async with server.outbox.turn():
                    order.append(number)
                    await server.outbox.replay(b"r" * LIMIT)

        feeding = asyncio.gather(*(feed(number) for number in range(3)))
        await asyncio.sleep(0)
        assert order == []
        assert len(await received(client, 40 * 4096 + 6 * LIMIT)) == 40 * 4096 + 6 * LIMIT
        async with asyncio.timeout(PATIENCE):
            await feeding
        assert sorted(order[:3]) == [0, 1, 2], "each has its turn before one has a second"


async def test_who_waits_for_a_turn_and_takes_nothing_stalls_too() -> None:
    async with connected() as (server, _):
        await server.outbox.replay(b"r" * (4 * LIMIT))
        assert server.told == []
        waiting = asyncio.create_task(server.outbox.replay(b"r"))
        await until(lambda: server.told == ["stalled"], "nothing was taken")
        waiting.cancel()


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
        assert (server.outbox.unsent, server.told) == (0, [])
        assert await received(client, 8 * LIMIT) == piece * 8
        async with asyncio.timeout(PATIENCE):
            await replaying
        assert server.told == []


async def test_live_frames_behind_a_replay_count() -> None:
    async with connected() as (server, _):
        await server.outbox.replay(b"r" * LIMIT)
        server.outbox.send(b"x" * (LIMIT + 1))
        server.outbox.write()
        assert server.told == ["lags", "full"]


async def test_a_shut_outbox_sends_nothing_and_lets_replays_end() -> None:
    async with connected() as (server, client):
        await server.outbox.replay(b"r" * (4 * LIMIT))
        waiting = asyncio.create_task(server.outbox.replay(b"r"))
        server.outbox.shut()
        async with asyncio.timeout(PATIENCE):
            await waiting
        server.outbox.send(b"late")
        server.outbox.write()
        assert b"late" not in await received(client, 4 * LIMIT)


async def test_for_a_shut_outbox_no_log_is_read_any_more() -> None:
    """It closes while much waits for it: all of that would be read for nobody."""
    async with connected() as (server, _):
        fill(server)
        read: list[int] = []

        async def feed() -> None:
            while True:
                async with server.outbox.turn():
                    read.append(1)
                    await server.outbox.replay(b"r")

        feeding = asyncio.create_task(feed())
        await asyncio.sleep(0)
        server.outbox.shut()
        await asyncio.sleep(0.05)  # some turns, if there were any
        assert read == []
        feeding.cancel()


@asynccontextmanager
async def crowd(size: int, round_: Round) -> AsyncIterator[list[tuple[Outbox, socket.socket]]]:
    """So many outboxes of one round, each with its client."""
    async with AsyncExitStack() as stack:
        members = []
        for _ in range(size):
            server, client = await stack.enter_async_context(connected())
            outbox = Outbox(server.transport, round_, server, Patience(LIMIT, 10))
            members.append((outbox, client))
        yield members


async def test_what_many_are_given_reaches_all_of_them_in_order_some_each_turn() -> None:
    async with crowd(5, Round(asyncio.get_running_loop(), at_once=2)) as members:
        for number in range(3):
            for outbox, _ in members:
                outbox.deliver(b"%d" % number)
        await asyncio.sleep(0)
        assert [outbox.unsent for outbox, _ in members] == [0, 0, 0, 0, 3], "the last has its turn later"
        for _, client in members:
            assert await received(client, 3) == b"012"


async def test_the_first_of_what_many_are_given_is_written_at_once_and_the_rest_of_the_turn_together() -> None:
    async with crowd(1, Round(asyncio.get_running_loop())) as [(outbox, client)]:
        outbox.deliver(b"first")
        assert client.recv(100) == b"first"
        outbox.deliver(b", second")
        outbox.send(b", third")
        assert outbox.unsent == 15
        assert await received(client, 15) == b", second, third"
        outbox.send(b"answer")
        outbox.deliver(b", news")
        assert await received(client, 12) == b"answer, news"


async def test_what_one_client_waits_for_is_not_kept_behind_what_many_are_given() -> None:
    """Also where it is one of the many: then it has both, in their order."""
    async with crowd(7, Round(asyncio.get_running_loop(), at_once=2)) as members:
        for outbox, _ in members[:-1]:
            outbox.deliver(b"news")
        members[5][0].send(b", answer")
        members[6][0].send(b"answer")
        await asyncio.sleep(0)
        assert [outbox.unsent for outbox, _ in members[4:]] == [4, 0, 0]
        assert await received(members[5][1], 12) == b"news, answer"
        assert await received(members[6][1], 6) == b"answer"
        members[5][0].deliver(b"more")
        assert await received(members[5][1], 4) == b"more"


async def test_one_connection_that_cannot_be_written_to_does_not_silence_the_others() -> None:
    """The others of the turn counted as written to, and were never written to again."""
    async with connected() as (broken, _), connected() as (server, client):
        round_ = Round(asyncio.get_running_loop())
        outboxes = [Outbox(recorder.transport, round_, recorder, Patience(LIMIT, 10)) for recorder in (broken, server)]
        broken.transport.write_eof()
        for outbox in outboxes:
            outbox.send(b"first")
        assert await received(client, 5) == b"first"
        outboxes[1].send(b"second")
        assert await received(client, 6) == b"second"
        for outbox in outboxes:
            outbox.deliver(b"third")
        assert await received(client, 5) == b"third"


async def test_a_client_that_goes_while_a_replay_waits_lets_it_end() -> None:
    async with connected() as (server, _):
        await server.outbox.replay(b"r" * (4 * LIMIT))
        waiting = asyncio.create_task(server.outbox.replay(b"r"))
        await asyncio.sleep(0)
        server.outbox.shut()
        server.outbox.resume()  # the transport may say so once more
        async with asyncio.timeout(PATIENCE):
            await waiting


async def test_who_is_written_to_before_its_turn_holds_nobody_up_with_it() -> None:
    """Answers go at once and take along what many were given; whoever gets no answer is not to wait ever longer."""
    async with crowd(5, Round(asyncio.get_running_loop(), at_once=1)) as members:
        for _ in range(50):
            for outbox, _ in members[:-1]:
                outbox.deliver(b"news")
                outbox.send(b"answer")
            await asyncio.sleep(0)
        last, client = members[-1]
        members[0][0].deliver(b"news")  # the one that is written to at once
        last.deliver(b"news")
        for _ in range(6):
            await asyncio.sleep(0)
        assert last.unsent == 0
        assert await received(client, 4) == b"news"
