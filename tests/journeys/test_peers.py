"""The peers of the benchmarks, each as it is measured: what is published there comes to its subscribers, in order.

They are other people's servers, and too slow to start for `make test`. One that this machine lacks is skipped by name.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.catalogue import SUBJECTS
from benchmarks.peers.socket_io import SocketIO
from benchmarks.subjects import Audience, Exchange, Missing, Subject

SECONDS = 30.0
SUBSCRIBERS = 3
CHANNEL = "room-1"
PEERS = ["nchan", "nats", "socketio", "python-socketio", "channels"]


@asynccontextmanager
async def started(name: str) -> AsyncIterator[Subject]:
    async with AsyncExitStack() as stack:
        try:
            yield await stack.enter_async_context(SUBJECTS[name](1))
        except Missing as missing:
            pytest.skip(f"no {name}: {missing}")


class Client:
    """A subscriber, as the load generator is one, that keeps what it was told."""

    def __init__(self, connection: ClientConnection, audience: Audience) -> None:
        self._connection = connection
        self._audience = audience
        self.heard = b""

    async def hear(self, what: bytes, times: int = 1) -> None:
        """Waits until it was told this so many times."""
        async with asyncio.timeout(SECONDS):
            while self.heard.count(what) < times:
                message = await self._connection.recv(decode=False)
                self.heard += message
                if self._audience.heartbeat is not None and message == self._audience.heartbeat[0]:
                    await self._connection.send(self._audience.heartbeat[1], text=True)

    async def say(self, words: str) -> None:
        await self._connection.send(words)


@asynccontextmanager
async def joined(peer: Subject, audience: Audience, number: int = 0) -> AsyncIterator[Client]:
    address = f"ws://{peer.host}:{peer.port}{audience.path.replace('{n}', str(number))}"
    async with connect(address, compression=None, open_timeout=SECONDS) as connection:
        client = Client(connection, audience)
        for words in audience.opening:
            await client.say(words.replace("{n}", str(number)))
        await client.hear(audience.ready, times=1 if audience.ready else 0)
        yield client


def payload(number: int) -> bytes:
    return json.dumps({"t": number, "text": "x" * 170}, separators=(",", ":")).encode()


def numbers(heard: bytes) -> list[int]:
    """Of the publications, as the load generator finds them in whatever envelope."""
    return [int(number) for number in re.findall(rb'"t":(\d+)', heard)]


@pytest.mark.parametrize("name", [*PEERS, "nats-2-cores"])
async def test_every_subscriber_gets_what_is_published_in_order(name: str) -> None:
    async with started(name) as peer, AsyncExitStack() as stack:
        assert re.match(r"\d+\.\d+", peer.version)
        audience = await peer.audience(CHANNEL, SUBSCRIBERS)
        clients = [await stack.enter_async_context(joined(peer, audience)) for _ in range(SUBSCRIBERS)]
        await peer.publish(CHANNEL, payload(0))
        await peer.publish_batch([(CHANNEL, payload(number)) for number in range(1, 50)])
        for client in clients:
            await client.hear(b'"t":', times=50)
            assert numbers(client.heard) == list(range(50))


@pytest.mark.parametrize("name", PEERS)
async def test_a_subscriber_gets_only_what_is_on_its_channel(name: str) -> None:
    async with started(name) as peer, AsyncExitStack() as stack:
        audience = await peer.audience("room-{n}", 2)
        first, second = [await stack.enter_async_context(joined(peer, audience, number)) for number in (1, 2)]
        await peer.publish_batch([("room-2", payload(1)), ("room-1", payload(2)), ("room-2", payload(3))])
        await second.hear(b'"t":', times=2)
        await first.hear(b'"t":')
        assert (numbers(first.heard), numbers(second.heard)) == ([2], [1, 3])


@pytest.mark.parametrize("name", ["socketio", "python-socketio"])
async def test_messages_are_acknowledged_and_questions_answered_by_the_agent(name: str) -> None:
    async with started(name) as peer:
        assert isinstance(peer, SocketIO)
        for exchange in (await peer.acknowledged(1), await peer.conversation(1), await peer.conversation(1)):
            async with joined(peer, exchange) as client:
                for number in range(20):
                    await client.say(request(exchange, number))
                await client.hear(exchange.answer, times=20)
                assert client.heard.count(exchange.answer) == 20


def request(exchange: Exchange, number: int) -> str:
    return exchange.request.replace("{id}", str(number)).replace("{t}", "1")


@pytest.mark.parametrize("name", PEERS)
async def test_nothing_of_it_runs_any_more_once_it_is_left(name: str) -> None:
    async with started(name) as peer:
        server = (peer.host, peer.port)
    with pytest.raises(OSError):
        await asyncio.open_connection(*server)
