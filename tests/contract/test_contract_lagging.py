"""Slow consumers lag: nothing is lost to them, they are fed from the log, and nobody else waits for them."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest

from tests.contract.agents import agent_on, asked, reply
from tests.contract.packed import PROTOCOL, PackedClient
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import ROOM, eventually
from tests.support.wire_client import Frame, WireClient

COUNT = 150
FILL = "x" * 50_000
"""Together 7.5 MB, far beyond what may be unsent and what the system takes ahead of a reader."""


@pytest.fixture
async def city(platform: Platform) -> Instance:
    return await platform.start(max_unsent_bytes=128 << 10)


@asynccontextmanager
async def stalled(city: Instance, token: str, packed: bool = False) -> AsyncIterator[WireClient]:
    """A subscriber of the guide who reads no more than its ack, and whose system takes little for it."""
    parts = urlsplit(city.url)
    peer = socket.socket()
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    peer.connect((parts.hostname, parts.port))
    options = {"sock": peer, "max_queue": 1, "ping_interval": None, "compression": None}
    kind = PackedClient if packed else WireClient
    offered = {"subprotocols": [PROTOCOL]} if packed else {}
    async with kind.connected(city.ws_url, token, **options, **offered) as client:
        await client.subscribe("guide")
        yield client


async def published(city: Instance, count: int = COUNT) -> list[int]:
    """Large publications; their offsets."""
    offsets = []
    for start in range(0, count, 10):
        items = [{"channel": "guide", "message": {"n": n, "fill": FILL}} for n in range(start, start + 10)]
        results = (await city.done("post_office.publish_batch", {"items": items}))["results"]
        offsets += [result["offset"] for result in results]
    return offsets


@pytest.mark.parametrize("packed", [False, True], ids=["JSON", "MessagePack"])
async def test_a_reader_that_stalls_and_reads_on_gets_everything_in_order(city: Instance, packed: bool) -> None:
    async with stalled(city, await city.session(unique("slow")), packed) as slow:
        offsets = await published(city)
        heard = await slow.messages(COUNT, "guide")
        assert [frame["offset"] for frame in heard] == offsets
        assert [frame["payload"]["n"] for frame in heard] == list(range(COUNT))
        live = await published(city, 10)
        assert [frame["offset"] for frame in await slow.messages(10, "guide")] == live
        assert not [frame for frame in await slow.left() if frame["type"] == "reset"]


async def test_nobody_waits_for_it(city: Instance) -> None:
    """Beside three who stall a fourth hears everything while it is published."""
    token = await city.session(unique("slow"))
    async with (
        stalled(city, token),
        stalled(city, token),
        stalled(city, token),
        city.connected(await city.session(unique("fast"))) as fast,
    ):
        await fast.subscribe("guide")
        for n in range(COUNT // 2):
            await city.done(
                "post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": n, "fill": FILL}}
            )
            began = time.monotonic()
            (frame,) = await fast.messages(1, "guide")
            assert frame["payload"]["n"] == n
            assert time.monotonic() - began < ROOM, "those who stall are closed after ten seconds"


async def test_answers_to_its_own_frames_are_never_left_out(city: Instance) -> None:
    token = await city.session(unique("slow"), channels={"guide": ["subscribe", "publish"]})
    async with stalled(city, token) as slow:
        await published(city)
        for n in range(20):
            await slow.send(type="ping", id=f"p{n}")
            await slow.send(type="publish", channel="guide", payload={"own": n}, id=f"w{n}")
        wanted = {f"{kind}{n}" for n in range(20) for kind in "pw"}
        own: list[int] = []
        answered: set[str] = set()
        async with asyncio.timeout(20):
            while answered != wanted or len(own) < 20:
                frame = await slow.next(20)
                assert frame["type"] in {"pong", "ack", "message"}, frame
                if frame["type"] == "message":
                    own += [frame["payload"]["own"]] if "own" in frame["payload"] else []
                else:
                    assert frame["id"] not in answered
                    answered.add(frame["id"])
        assert own == list(range(20))


async def test_an_answer_in_parts_is_whole_for_one_that_lags(city: Instance) -> None:
    """Deltas that it missed come as one, with the text so far, or not at all before an end that has everything."""
    async with (
        stalled(city, await city.session(unique("slow"))) as slow,
        agent_on(city, "guide") as agent,
    ):
        question = await asked(slow, "guide")
        delivery = await agent.of("delivery")
        await reply(agent, delivery, stream="start", payload={})
        await published(city)
        words = [f"{n} " for n in range(20)]
        for word in words:
            await reply(agent, delivery, stream="delta", payload={"message": word})
        await reply(agent, delivery, stream="end", payload={})
        text, end = "", Frame()
        while not end:
            frame = await slow.until(lambda f: f.get("in_reply_to") == question, 20)
            if frame["stream"] == "delta":
                text = frame["payload"]["message"] if frame.get("snapshot") else text + frame["payload"]["message"]
                assert "".join(words).startswith(text), "no part is skipped in silence"
            end = frame if frame["stream"] == "end" else {}
        assert end["payload"]["message"] == "".join(words)


async def test_trimmed_while_it_lags_it_is_told_by_a_reset(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=128 << 10, history_count=20)
    async with stalled(city, await city.session(unique("slow"))) as slow:
        offsets = await published(city)
        seen: list[Frame] = []
        at = offsets[0] - 1
        while at < offsets[-1]:
            frame = await slow.until(lambda f: f["type"] in {"message", "reset"}, 20)
            if frame["type"] == "message":
                assert frame["offset"] == at + 1, "nothing is skipped in silence"
            else:
                assert frame["offset"] > at
                seen.append(frame)
            at = frame["offset"]
        assert seen, "some of it was trimmed before it read"


async def test_who_takes_nothing_for_ten_seconds_is_closed_with_4009_and_loses_nothing(city: Instance) -> None:
    user = unique("slow")
    async with stalled(city, await city.session(user)) as slow:
        began = time.monotonic()
        offsets = await published(city)
        epoch = (await city.done("post_office.get_channel_history", {"channel": "guide", "limit": 1}))["epoch"]

        async def is_gone() -> bool:
            known = await city.call("post_office.get_connection", {"connection_id": slow.id})
            return known.status_code == 404

        await eventually(is_gone, "it is closed", 30)
        assert time.monotonic() - began > 8, "it had ten seconds"
        assert await slow.close_code() in {4009, 1006}
    async with city.connected(await city.session(user)) as again:
        outcome = (await again.subscribe("guide", offset=offsets[0] - 1, epoch=epoch))["guide"]
        assert (outcome["recovered"], outcome["missed"]) == (True, COUNT)
        assert [frame["offset"] for frame in await again.messages(COUNT, "guide")] == offsets
