"""Three workers of one platform: what is said to any is heard at all, once a connection, in the order of the log."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from tests.contract.packed import PackedClient
from tests.contract.raw import dialled
from tests.contract.streams import Stream, events_of, get, is_published
from tests.support.parity import plain_client
from tests.support.platform import OPERATOR_TOKEN, unique
from tests.support.serving import Serving
from tests.support.waiting import PATIENCE, ROOM, eventually
from tests.support.wire_client import PACKED, Frame, WireClient

BEARER = f"Bearer {OPERATOR_TOKEN}"
WORKERS = 3


@pytest.fixture(scope="module")
def trio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """One platform of three workers, with a Valkey of its own."""
    settings = {
        "OPERATOR_TOKEN": OPERATOR_TOKEN, "ADDRESS_HANDSHAKES_PER_SECOND": "1000", "MAX_CONNECTIONS_PER_USER": "200",
        "VALKEY_TIMEOUT_SECONDS": "15", "HELD_AFTER_SECONDS": "15",  # on a busy machine the store may take its time
    }  # fmt: skip
    options = ("--port", "0", "--workers", str(WORKERS), "--no-demo")
    with Serving(tmp_path_factory.mktemp("trio") / "data", *options, settings=settings) as serving:
        yield serving.opened()


async def call(trio: Serving, operation: str, **arguments: Any) -> Frame:
    """Over a connection of its own, so that any worker may answer."""
    service, _, name = operation.partition(".")
    async with plain_client(trio.url, Authorization=BEARER) as http:
        response = await http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments)
    assert response.status_code == 200, response.text
    answer: Frame = response.json()
    return answer


async def one_at_each(trio: Serving, stack: AsyncExitStack, token: str, **options: Any) -> list[WireClient]:
    """A connection to each of the workers; which one takes a socket is the system's choice."""
    kind = PackedClient if options else WireClient
    found: dict[str, WireClient] = {}

    async def are_all() -> bool:
        client = await stack.enter_async_context(kind.connected(trio.ws_url, token, **options))
        if client.welcome["instance_id"] in found:
            await client.socket.close()
        else:
            found[client.welcome["instance_id"]] = client
        return len(found) == WORKERS

    await eventually(are_all, "every worker has taken one", PATIENCE)
    return list(found.values())


@asynccontextmanager
async def following(trio: Serving, channel: str) -> AsyncIterator[Stream]:
    async with dialled(trio.url) as raw:
        await raw.send(get(events_of(channel), OPERATOR_TOKEN))
        stream = Stream(raw, *await raw.response())
        stream.ack = (await stream.next()).value
        yield stream


async def test_publishers_and_subscribers_on_every_worker_share_one_row_of_offsets(trio: Serving) -> None:
    channel, each = "pillar:content", 40
    async with AsyncExitStack() as stack:
        writers = await one_at_each(trio, stack, OPERATOR_TOKEN)
        readers = await one_at_each(trio, stack, OPERATOR_TOKEN)
        readers += await one_at_each(trio, stack, OPERATOR_TOKEN, subprotocols=[PACKED])
        streams = [await stack.enter_async_context(following(trio, channel)) for _ in range(4)]
        for reader in readers:
            await reader.subscribe(channel)

        async def write(writer: WireClient, name: int) -> list[Frame]:
            frames = [{"type": "publish", "channel": channel, "payload": {"w": name, "n": n}} for n in range(each)]
            return [await writer.ask(**frame) for frame in frames]

        async def post() -> list[Frame]:
            publish = "post_office.publish_to_agent_channel"
            return [await call(trio, publish, channel=channel, message={"w": 9, "n": n}) for n in range(each)]

        told = await asyncio.gather(*(write(writer, n) for n, writer in enumerate(writers)), post())
        acks = sorted((ack for one in told for ack in one), key=lambda ack: int(ack["offset"]))
        assert [ack["offset"] for ack in acks] == list(range(1, (WORKERS + 1) * each + 1))
        row = [ack["message_id"] for ack in acks]
        for reader in readers:
            heard = await reader.messages(len(row), channel)
            assert [frame["message_id"] for frame in heard] == row
            await reader.nothing_but_pong()
        for name in {frame["payload"]["w"] for frame in heard}:
            assert [f["payload"]["n"] for f in heard if f["payload"]["w"] == name] == list(range(each))
        for stream in streams:
            events = [is_published(event, channel) for event in await stream.many(len(row), PATIENCE)]
            assert [event["message_id"] for event in events] == row


async def test_questions_of_all_are_shared_by_agents_on_all_and_answered_once(trio: Serving) -> None:
    channel, each = "pillar:insights", 30
    async with AsyncExitStack() as stack:
        agents = await one_at_each(trio, stack, OPERATOR_TOKEN)
        token = (await call(trio, "traffic_cop.create_session", user_id=unique("alice")))["session_token"]
        askers = await one_at_each(trio, stack, token)
        for agent in agents:
            await agent.ask(type="consume", channel=channel, max=4)

        async def serve(agent: WireClient) -> None:
            while True:
                delivery = await agent.until(lambda frame: frame["type"] == "delivery", 60)
                payload = delivery["message"]["payload"]
                await agent.send(type="reply", delivery_id=delivery["delivery_id"], payload=payload)

        async def ask(asker: WireClient) -> Counter[str]:
            asked = [await asker.ask(channel=channel, payload={"n": n}) for n in range(each)]
            answers = [await asker.until(lambda f: f["type"] == "chat_response", PATIENCE) for _ in range(each)]
            assert {answer["in_reply_to"] for answer in answers} == {ack["message_id"] for ack in asked}
            await asker.nothing_but_pong()
            return Counter(answer["log"] for answer in answers)

        serving = [asyncio.create_task(serve(agent)) for agent in agents]
        try:
            logs = await asyncio.gather(*(ask(asker) for asker in askers))
        finally:
            for task in serving:
                task.cancel()
            await asyncio.wait(serving)
        assert [dict(found) for found in logs] == [{f"connection:{asker.id}": each} for asker in askers]


async def test_what_is_for_a_user_or_a_connection_finds_it_wherever_it_is(trio: Serving) -> None:
    user = unique("alice")
    token = (await call(trio, "traffic_cop.create_session", user_id=user))["session_token"]
    async with AsyncExitStack() as stack:
        tabs = await one_at_each(trio, stack, token)
        for n in range(10):
            await call(trio, "post_office.send_to_user", user_id=user, message={"n": n})
        for tab in tabs:
            heard = await tab.messages(10, f"user:{user}")
            assert [frame["payload"]["n"] for frame in heard] == list(range(10))
        for tab in tabs:
            await call(trio, "post_office.send_to_connection", connection_id=tab.id, message={"for": tab.id})
        for tab in tabs:
            (only,) = await tab.messages(1, f"connection:{tab.id}")
            assert only["payload"] == {"for": tab.id}
            await tab.nothing_but_pong()


async def test_a_revocation_closes_the_sockets_of_every_worker_within_a_second(trio: Serving) -> None:
    user = unique("alice")
    made = await call(trio, "traffic_cop.create_session", user_id=user)
    async with AsyncExitStack() as stack:
        tabs = await one_at_each(trio, stack, made["session_token"])
        others = await one_at_each(trio, stack, OPERATOR_TOKEN)
        await call(trio, "traffic_cop.revoke_session", session_id=made["session_id"])
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert await asyncio.gather(*(tab.close_code() for tab in tabs)) == [4501] * WORKERS
        assert loop.time() - began < 1 + ROOM
        for other in others:
            await other.nothing_but_pong()
