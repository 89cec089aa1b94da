"""Two workers of one platform, as it is started: events, changes, positions and figures are the same at both."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import Subscription

from tests.contract.packed import PackedClient
from tests.contract.raw import dialled
from tests.contract.shapes import text_of
from tests.contract.streams import Stream, events_of, get, is_published
from tests.contract.watching import eventually
from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, unique
from tests.support.serving import Serving
from tests.support.waiting import PATIENCE
from tests.support.wire_client import WireClient

Frame = dict[str, Any]
BEARER = f"Bearer {OPERATOR_TOKEN}"


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One platform of two workers, with a Valkey of its own."""
    settings = {
        "OPERATOR_TOKEN": OPERATOR_TOKEN, "TRAFFIC_SECONDS": "1", "INSTANCE_LEASE_SECONDS": "2",
        "MAX_CONNECTIONS_PER_USER": "200",  # tests connect until both workers have some
        "VALKEY_TIMEOUT_SECONDS": "15", "HELD_AFTER_SECONDS": "15",  # and the store may take its time
        "OPERATION_RATES": "traffic_cop.get_traffic_analytics=1000/10000",  # and look until all is counted
    }  # fmt: skip
    data_dir = tmp_path_factory.mktemp("pair") / "data"
    with Serving(data_dir, "--port", "0", "--workers", "2", "--no-demo", settings=settings) as serving:
        yield serving.opened()


async def call(pair: Serving, operation: str, **arguments: Any) -> Frame:
    """Over a connection of its own, so that either worker may answer."""
    service, _, name = operation.partition(".")
    async with plain_client(pair.url, Authorization=BEARER) as http:
        response = await http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments)
    assert response.status_code == 200, response.text
    answer: Frame = response.json()
    return answer


async def say(pair: Serving, channel: str, *numbers: int) -> list[Frame]:
    publish = "post_office.publish_to_agent_channel"
    return [await call(pair, publish, channel=channel, message={"n": n}) for n in numbers]


@asynccontextmanager
async def following(pair: Serving, channel: str, last_id: str = "") -> AsyncIterator[Stream]:
    async with dialled(pair.url) as raw:
        await raw.send(get(events_of(channel), OPERATOR_TOKEN, Last_Event_ID=last_id))
        stream = Stream(raw, *await raw.response())
        stream.ack = (await stream.next()).value
        yield stream


@asynccontextmanager
async def told_of(pair: Serving, channel: str) -> AsyncIterator[Subscription]:
    async with (
        plain_client(pair.url, Authorization=BEARER) as http,
        Client(streamable_http_client(f"{pair.url}/mcp", http_client=http)) as client,
        client.listen(resource_subscriptions=[f"channel://{channel}"]) as heard,
    ):
        yield heard


def connecting(pair: Serving, count: int) -> Iterator[AbstractAsyncContextManager[WireClient]]:
    """Clients of both encodings in turn."""
    for n in range(count):
        if n % 2:
            yield PackedClient.connected(pair.ws_url, OPERATOR_TOKEN, subprotocols=["smart-city.v1.msgpack"])
        else:
            yield WireClient.connected(pair.ws_url, OPERATOR_TOKEN)


async def test_readers_on_both_hear_what_is_said_to_either(pair: Serving) -> None:
    async with AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(following(pair, "guide")) for _ in range(8)]
        clients = [await stack.enter_async_context(client) for client in connecting(pair, 8)]
        while len({client.welcome["instance_id"] for client in clients}) < 2:  # the kernel gives sockets by chance
            assert len(clients) < 64, "both take some"
            clients += [await stack.enter_async_context(client) for client in connecting(pair, 2)]
        for client in clients:
            await client.subscribe("guide")
        said = [text_of(told) for told in await say(pair, "guide", *range(20))]
        for stream in streams:
            assert [event.id for event in await stream.many(20)] == said
        for client in clients:
            assert [text_of(message) for message in await client.messages(20, "guide")] == said


async def test_a_reader_that_comes_back_wherever_it_falls_misses_nothing(pair: Serving) -> None:
    channel = "pillar:content"
    async with following(pair, channel) as stream:
        last = stream.last_id
    talking = asyncio.create_task(say(pair, channel, *range(60)))
    heard: list[int] = []
    async with asyncio.timeout(60):
        while len(heard) < 60:
            async with following(pair, channel, last) as stream:
                assert stream.ack["recovered"] is True
                events = await stream.many(min(4, 60 - len(heard)), 20)
                heard += [is_published(event, channel)["payload"]["n"] for event in events]
                last = stream.last_id
    await talking
    assert heard == list(range(60))


async def test_listeners_on_both_are_told_of_changes(pair: Serving) -> None:
    channel = "pillar:insights"
    async with AsyncExitStack() as stack:
        listening = [await stack.enter_async_context(told_of(pair, channel)) for _ in range(6)]
        await say(pair, channel, 1)
        for heard in listening:
            async with asyncio.timeout(PATIENCE):
                assert str(getattr(await anext(heard), "uri", "")) == f"channel://{channel}"


async def test_figures_are_those_of_both(pair: Serving) -> None:
    channel = "pillar:operations"
    await say(pair, channel, *range(24))

    async def look() -> int:
        found = await call(pair, "traffic_cop.get_traffic_analytics")
        return int(found["channels"].get(channel, {"total": {"count": 0}})["total"]["count"])

    assert await eventually(look, lambda count: count >= 24, "all of them are counted") == 24


async def test_a_revoked_session_ends_its_streams_on_both(pair: Serving) -> None:
    made = await call(pair, "traffic_cop.create_session", user_id=unique("alice"))
    async with AsyncExitStack() as stack:
        streams = []
        for _ in range(6):
            raw = await stack.enter_async_context(dialled(pair.url))
            await raw.send(get(events_of("guide"), made["session_token"]))
            streams.append(Stream(raw, *await raw.response()))
        await call(pair, "traffic_cop.revoke_session", session_id=made["session_id"])
        for stream in streams:
            assert (await stream.rest())[-1].value["code"] == 4501
            assert stream.is_whole


async def test_a_worker_that_is_killed_costs_its_readers_nothing_but_a_return(pair: Serving) -> None:
    channel = "pillar:business_outcomes"
    async with AsyncExitStack() as stack:
        before = {worker: open_files_of(worker) for worker in workers(pair)}
        streams = [await stack.enter_async_context(following(pair, channel)) for _ in range(8)]
        killed = max(before, key=lambda worker: open_files_of(worker) - before[worker])  # it has most of them
        said = await say(pair, channel, 1)
        for stream in streams:
            assert (await stream.next()).id == text_of(said[0])
        os.kill(killed, signal.SIGKILL)
        after = await eventually(lambda: said_again(pair, channel), bool, "the other goes on")
        cut = 0
        for stream in streams:
            try:
                event = await stream.next()
            except AssertionError:
                cut += 1
                async with following(pair, channel, stream.last_id) as again:
                    event = await again.next()
            assert event.id == after
        assert cut >= 1

    async def count() -> int:
        return len(workers(pair))

    await eventually(count, lambda living: living == 2, "it was replaced")


def open_files_of(process: int) -> int:
    return len(list(Path(f"/proc/{process}/fd").iterdir()))


async def said_again(pair: Serving, channel: str) -> str:
    """The position of a second publication; empty while nobody takes it."""
    try:
        message = {"channel": channel, "message": {"n": 2}, "key": "again"}
        return text_of(await call(pair, "post_office.publish_to_agent_channel", **message))
    except (OSError, AssertionError):
        return ""
    except Exception as error:
        assert "httpx" in type(error).__module__, error
        return ""


def workers(pair: Serving) -> list[int]:
    """The processes that the supervisor has started and that serve."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == pair.process.pid and fields[0] != "Z" and b"valkey" not in command:
            found.append(int(folder.name))
    return sorted(found)
