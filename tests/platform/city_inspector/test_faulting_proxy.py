"""The network that fails, between a plain client and a plain server that says everything again."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from city_inspector.conditions import BLACKHOLE, GOOD, Conditions, Direction
from city_inspector.faulting_proxy import FaultingProxy, ProxiedConnection
from tests.support.waiting import PATIENCE, until

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
SILENT_SECONDS = 0.15
"""How long nothing is heard before a test believes that nothing comes."""


class Echo:
    """A server that says everything again, and knows who has hung up."""

    def __init__(self) -> None:
        self.port = 0
        self.ended: list[str] = []
        self.present = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.present += 1
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            self.ended.append("closed")
        except OSError:
            self.ended.append("reset")
        writer.close()


@asynccontextmanager
async def echoing(path: Path | None = None) -> AsyncIterator[Echo]:
    echo = Echo()
    server = await (
        asyncio.start_unix_server(echo.serve, path) if path else asyncio.start_server(echo.serve, "127.0.0.1", 0)
    )
    echo.port = 0 if path else server.sockets[0].getsockname()[1]
    try:
        yield echo
    finally:
        server.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with echoing() as server:
        yield server


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[FaultingProxy]:
    async with FaultingProxy(echo.port) as opened:
        yield opened


@asynccontextmanager
async def connected(proxy: FaultingProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def says(streams: Streams, text: bytes = b"hello") -> float:
    """Says something and waits until it comes back; the seconds that took."""
    reader, writer = streams
    began = asyncio.get_running_loop().time()
    writer.write(text)
    async with asyncio.timeout(PATIENCE):
        assert await reader.readexactly(len(text)) == text
    return asyncio.get_running_loop().time() - began


async def hears_nothing(streams: Streams) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SILENT_SECONDS):
            await streams[0].read(1)


async def ends(streams: Streams) -> str:
    """Reads to the end; how it came."""
    async with asyncio.timeout(PATIENCE):
        try:
            while await streams[0].read(65536):
                pass
        except OSError:
            return "reset"
    return "closed"


async def only(proxy: FaultingProxy) -> ProxiedConnection:
    await until(lambda: len(proxy.connections) == 1, "one connection")
    return proxy.connections[0]


async def test_a_good_network_passes_everything_in_order(proxy: FaultingProxy) -> None:
    async with connected(proxy) as streams:
        await says(streams, bytes(range(256)) * 4096)


async def test_an_upstream_may_be_a_unix_socket(tmp_path: Path) -> None:
    async with echoing(tmp_path / "s"), FaultingProxy(tmp_path / "s") as proxy, connected(proxy) as streams:
        await says(streams)


async def test_each_direction_is_delayed_by_itself(proxy: FaultingProxy) -> None:
    async with connected(proxy) as streams:
        proxy.impose(Conditions(delay=0.1))
        assert await says(streams) >= 0.2
        proxy.impose(GOOD, towards="client")
        assert await says(streams) >= 0.1
        proxy.impose(GOOD)
        await says(streams)


async def test_jitter_keeps_the_order() -> None:
    chances = iter([0.9, 0.0, 0.5])
    direction = Direction(Conditions(delay=1, jitter=10), chance=lambda: next(chances))
    assert [direction.due(now) for now in (0.0, 1.0, 2.0)] == [10.0, 10.0, 10.0]


async def test_a_narrow_line_takes_its_time(proxy: FaultingProxy) -> None:
    async with connected(proxy) as streams:
        proxy.impose(Conditions(bytes_per_second=100_000), towards="server")
        assert await says(streams, b"x" * 20_000) >= 0.2


async def test_a_blackhole_passes_nothing_and_then_everything(proxy: FaultingProxy) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        proxy.impose(BLACKHOLE)
        streams[1].write(b"late")
        await hears_nothing(streams)
        proxy.impose(GOOD)
        async with asyncio.timeout(PATIENCE):
            assert await streams[0].readexactly(4) == b"late"


async def test_a_blackhole_may_swallow_one_direction_only(proxy: FaultingProxy, echo: Echo) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        proxy.impose(BLACKHOLE, towards="client")
        connection = await only(proxy)
        streams[1].write(b"heard, and not answered")
        await until(lambda: connection.to_server.passed > len("hello"), "it has passed")
        await hears_nothing(streams)


async def test_only_the_present_connections_go_deaf(proxy: FaultingProxy) -> None:
    async with connected(proxy) as old:
        await says(old)
        proxy.deafen()
        old[1].write(b"?")
        await hears_nothing(old)
        async with connected(proxy) as new:
            await says(new)


async def test_one_connection_may_fail_alone(proxy: FaultingProxy) -> None:
    async with connected(proxy) as first:
        await says(first)
        (await only(proxy)).impose(BLACKHOLE)
        async with connected(proxy) as second:
            await says(second)
            first[1].write(b"?")
            await hears_nothing(first)


async def test_a_close_is_passed_on_and_what_was_said_before_it(proxy: FaultingProxy, echo: Echo) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        streams[1].write(b"last words")
        streams[1].write_eof()
        async with asyncio.timeout(PATIENCE):
            assert await streams[0].read() == b"last words"
    await until(lambda: echo.ended == ["closed"], "the server is told")
    await until(lambda: not proxy.connections, "nothing is left")


async def test_half_open_the_server_never_hears_the_close(proxy: FaultingProxy, echo: Echo) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        proxy.impose(Conditions(hides_close=True), towards="server")
        connection = await only(proxy)
    with pytest.raises(AssertionError):
        await until(lambda: bool(echo.ended), "told", SILENT_SECONDS)
    assert proxy.connections == [connection]
    connection.cut()
    await until(lambda: bool(echo.ended) and not proxy.connections, "it is over")


async def test_a_reset_is_heard_on_both_sides(proxy: FaultingProxy, echo: Echo) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        proxy.reset()
        assert await ends(streams) == "reset"
    await until(lambda: echo.ended == ["reset"], "the server is told")


async def test_a_cut_connection_is_closed_also_in_a_blackhole(proxy: FaultingProxy, echo: Echo) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        proxy.impose(BLACKHOLE)
        proxy.cut()
        assert await ends(streams) == "closed"
    await until(lambda: echo.ended == ["closed"] and not proxy.connections, "nothing is left")


async def test_a_connection_is_reset_after_so_many_bytes(proxy: FaultingProxy) -> None:
    async with connected(proxy) as streams:
        await says(streams)
        proxy.impose(Conditions(cut_after=1000), towards="client")
        streams[1].write(b"x" * 5000)
        received = b""
        async with asyncio.timeout(PATIENCE):
            with contextlib.suppress(OSError):
                while data := await streams[0].read(65536):
                    received += data
    assert len(received) <= 1000


async def test_new_connections_are_refused_and_the_present_stay(proxy: FaultingProxy) -> None:
    async with connected(proxy) as old:
        await says(old)
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await says(old)
        await proxy.accept()
        async with connected(proxy) as new:
            await says(new)


async def test_a_connection_whose_server_is_away_is_reset() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        async with FaultingProxy(closed.getsockname()[1]) as proxy, connected(proxy) as streams:
            assert await ends(streams) == "reset"


async def test_of_several_servers_each_connection_gets_the_next_that_answers(echo: Echo) -> None:
    async with echoing() as other:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            async with FaultingProxy(echo.port, closed.getsockname()[1], other.port) as proxy:
                for _ in range(6):
                    async with connected(proxy) as streams:
                        await says(streams)
    assert (echo.present, other.present) == (2, 4)
