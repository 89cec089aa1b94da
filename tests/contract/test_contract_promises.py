"""Section 4, promises 1 to 3, under concurrency: in order, exactly once, and nothing skipped in silence."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import defaultdict
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from tests.contract.shapes import position
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.wire_client import WireClient

Frame = dict[str, Any]
SEED = 20261120


class Reader:
    """Reads one channel by the rule of section 4: my position is the last ack, reset or publication."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.position: Frame | None = None
        self.got: list[Frame] = []
        self.visits = 0

    async def visit(self, city: Instance, token: str, until: int, most: int) -> None:
        """Comes in and reads on; who is told to come back (1013), as by a busy machine, does so at the next visit."""
        try:
            await self._read_on(city, token, until, most)
        except ConnectionClosed as closed:
            if closed.rcvd is None or closed.rcvd.code != 1013:
                raise

    async def _read_on(self, city: Instance, token: str, until: int, most: int) -> None:
        """Connects, subscribes from where it stood, and reads: to an offset, or so many publications."""
        async with city.connected(token) as client:
            self.visits += 1
            ack = await client.ask(type="subscribe", channels={self.channel: self.position})
            outcome = ack["channels"][self.channel]
            if outcome.get("error", {}).get("code") == "unavailable":
                return  # a machine that is busy with fifty of us may say so; whoever hears it comes back
            if self.position is not None:
                assert outcome["recovered"] is True, outcome
                assert position(outcome) == self.position
            self.position = position(outcome)
            for _ in range(most):
                if self.position["offset"] >= until:
                    break
                self.take(await client.of("message", 20))
            client.socket.transport.abort()

    def take(self, frame: Frame) -> None:
        assert frame["channel"] == self.channel
        assert self.position is not None
        assert frame["offset"] == self.position["offset"] + 1, "a gap, a repetition or a step back"
        self.got.append(frame)
        self.position = position(frame)


async def write(client: WireClient, name: str, count: int, channel: str) -> list[Frame]:
    """Publishes without waiting for the acks, then gives them in order."""
    for n in range(count):
        await client.send(type="publish", channel=channel, payload={"from": name, "n": n}, id=f"{name}/{n}")
    acks = [await client.of("ack", 20) for _ in range(count)]
    assert [ack["id"] for ack in acks] == [f"{name}/{n}" for n in range(count)]
    return acks


async def test_twenty_writers_and_fifty_readers_who_come_and_go_on_two_instances(platform: Platform) -> None:
    cities = [await platform.start(), await platform.start()]
    chance = random.Random(SEED)  # noqa: S311 - the same visits in every run
    each, writers, readers = 25, 20, 50
    total = each * writers
    tokens = [await cities[0].session(unique(f"reader{n}")) for n in range(readers)]
    realm_token = await cities[0].service(unique("writers"), "post_office.publish")
    (first,) = [
        await cities[0].done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"first": True}})
    ]
    last = first["offset"] + total

    async def writer(number: int) -> list[Frame]:
        async with cities[number % 2].connected(realm_token) as client:
            return await write(client, f"w{number}", each, "guide")

    async def reader(number: int) -> Reader:
        one = Reader("guide")
        one.position = position(first)
        while one.position["offset"] < last:
            await one.visit(chance.choice(cities), tokens[number], last, chance.randint(1, 100))
        return one

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        reading = [group.create_task(reader(number)) for number in range(readers)]
        written = [group.create_task(writer(number)) for number in range(writers)]
    acks = [ack for task in written for ack in task.result()]
    told = {ack["offset"]: ack for ack in acks}
    assert sorted(told) == list(range(first["offset"] + 1, last + 1)), "each ack has a place of its own, without gaps"
    reference = [(frame["offset"], frame["message_id"]) for frame in reading[0].result().got]
    assert reference == [(offset, told[offset]["message_id"]) for offset in sorted(told)]
    for task in reading:
        got = task.result().got
        assert [(frame["offset"], frame["message_id"]) for frame in got] == reference
    order: dict[str, list[int]] = defaultdict(list)
    for frame in reading[0].result().got:
        order[frame["payload"]["from"]].append(frame["payload"]["n"])
    assert all(numbers == list(range(each)) for numbers in order.values()), "logged in the order sent"
    assert sum(task.result().visits for task in reading) > readers, "some came again"


async def test_several_channels_on_one_connection_are_each_in_order(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    channels = ("guide", "pillar:content", "pillar:insights", "pillar:operations")
    token = await here.service(unique("writers"), "post_office.publish")
    async with (
        here.connected(await here.session(unique("alice"))) as alice,
        here.connected(token) as one,
        there.connected(token) as two,
    ):
        began = await alice.subscribe(*channels)

        async def write_all(client: WireClient, name: str) -> None:
            for n in range(30):
                for channel in channels:
                    await client.send(type="publish", channel=channel, payload={"from": name, "n": n})
            await client.nothing_but_pong()

        got: dict[str, list[Frame]] = defaultdict(list)
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            group.create_task(write_all(one, "one"))
            group.create_task(write_all(two, "two"))
            for _ in range(2 * 30 * len(channels)):
                frame = await alice.of("message", 10)
                got[frame["channel"]].append(frame)
        await alice.nothing_but_pong()
    for channel in channels:
        offsets = [frame["offset"] for frame in got[channel]]
        assert offsets == list(range(began[channel]["offset"] + 1, began[channel]["offset"] + 61))
        for name in ("one", "two"):
            assert [f["payload"]["n"] for f in got[channel] if f["payload"]["from"] == name] == list(range(30))


async def test_frames_and_calls_of_one_channel_share_one_row_of_offsets(city: Instance) -> None:
    token = await city.service(unique("writers"), "post_office.publish")

    async def call(n: int) -> int:
        told = await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": n}})
        return int(told["offset"])

    async def batch(n: int) -> list[int]:
        items = [{"channel": "guide", "message": {"batch": n, "i": i}} for i in range(10)]
        results = (await city.done("post_office.publish_batch", {"items": items}))["results"]
        return [int(result["offset"]) for result in results]

    async with city.connected(token) as writer:
        calls, batches, acks = await asyncio.gather(
            asyncio.gather(*(call(n) for n in range(20))),
            asyncio.gather(*(batch(n) for n in range(5))),
            write(writer, "w", 50, "guide"),
        )
    offsets = [*calls, *(offset for batch in batches for offset in batch), *(ack["offset"] for ack in acks)]
    assert sorted(offsets) == list(range(min(offsets), min(offsets) + 120))
    assert all(batch == sorted(batch) for batch in batches)


async def test_what_was_acknowledged_is_there_although_the_writer_is_cut_off(city: Instance) -> None:
    token = await city.service(unique("writers"), "post_office.publish")
    acknowledged: list[Frame] = []
    for visit in range(5):
        async with city.connected(token) as writer:
            for n in range(100):
                await writer.send(type="publish", channel="guide", payload={"visit": visit, "n": n}, id=str(n))
            acknowledged += [await writer.of("ack") for _ in range(10 * visit)]
            writer.socket.transport.abort()
    publications: list[Frame] = []
    while True:
        arguments = {"channel": "guide", "since": str(len(publications)), "limit": 200}
        page = (await city.done("post_office.get_channel_history", arguments))["publications"]
        if not page:
            break
        publications += page
    logged = {entry["offset"]: entry["message_id"] for entry in publications}
    for ack in acknowledged:
        assert logged[ack["offset"]] == ack["message_id"]
    for visit in range(5):
        numbers = [e["payload"]["n"] for e in publications if e["payload"]["visit"] == visit]
        assert numbers == list(range(len(numbers))), "a beginning of what was sent, in its order"


def narrow(url: str) -> socket.socket:
    """A connection whose reader takes little: what it does not read soon waits at the sender."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.connect(("127.0.0.1", urlsplit(url).port))
    end.setblocking(False)
    return end


async def test_a_reader_that_cannot_keep_up_is_fed_at_its_own_pace_and_misses_nothing(platform: Platform) -> None:
    """Past half of the unsent limit a connection lags; nobody else waits, and nothing inside retention is lost."""
    city = await platform.start(max_unsent_bytes=1 << 17)
    token, bystander_token = await city.session(unique("slow")), await city.session(unique("bystander"))
    said: list[Frame] = []
    async with city.connected(bystander_token) as bystander:
        await bystander.subscribe("guide")
        async with city.connected(token, sock=narrow(city.url), max_queue=1) as slow:
            start = (await slow.subscribe("guide"))["guide"]
            for _ in range(40):  # more than what the kernel takes from a sender, and the limit
                said.append(await publish(city, "guide", {"m": "x" * 200_000}))
                (seen,) = await bystander.messages(1, "guide")
                assert seen["offset"] == said[-1]["offset"], "others do not wait for it"
            reader = Reader("guide")
            reader.position = position(start)
            for _ in said:
                reader.take(await slow.of("message", 10))
            await slow.nothing_but_pong()
    assert [frame["message_id"] for frame in reader.got] == [told["message_id"] for told in said]


async def test_a_reader_that_takes_nothing_while_it_lags_is_closed_and_recovers_everything(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=1 << 17, stall_seconds=0.5, close_seconds=30)
    token = await city.session(unique("slow"))
    async with city.connected(token, sock=narrow(city.url), max_queue=1) as slow:
        start = (await slow.subscribe("guide"))["guide"]
        said = [await publish(city, "guide", {"m": "x" * 200_000}) for _ in range(40)]
        await asyncio.sleep(2)  # so long the socket takes nothing
        reader = Reader("guide")
        reader.position = position(start)
        assert await read_until_closed(slow, reader) == 4009
    assert reader.position["offset"] < said[-1]["offset"]
    await reader.visit(city, token, said[-1]["offset"], len(said))
    assert [frame["message_id"] for frame in reader.got] == [told["message_id"] for told in said]


async def read_until_closed(client: WireClient, reader: Reader) -> int:
    try:
        while True:
            frame = await client.next(10)
            if frame["type"] == "message":
                reader.take(frame)
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd else 1006


async def publish(city: Instance, channel: str, message: Frame) -> Frame:
    return await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": message})


async def test_a_subscriber_that_is_behind_while_the_log_is_trimmed_is_told(platform: Platform) -> None:
    """It asked for all that is kept, and more than is kept is written before it has read it."""
    city = await platform.start(history_count=50, max_unsent_bytes=1 << 20)
    token = await city.session(unique("slow"))
    for n in range(50):
        last = await publish(city, "guide", {"n": n, "m": "x" * 2000})
    async with city.connected(token, max_queue=1) as slow:
        await slow.send(type="subscribe", channels={"guide": {"offset": 0, "epoch": last["epoch"]}}, id="s")
        items = [{"channel": "guide", "message": {"n": n, "m": "y" * 2000}} for n in range(50, 250)]
        results = (await city.done("post_office.publish_batch", {"items": items}))["results"]
        newest = results[-1]["offset"]
        reached: Frame | None = None
        while reached is None or reached["offset"] < newest:
            frame = await slow.next(10)
            if frame["type"] == "ack":
                reached = position(frame["channels"]["guide"])
            elif frame["type"] == "reset":
                assert frame["channel"] == "guide"
                reached = position(frame)
            else:
                assert reached is not None
                assert frame["offset"] == reached["offset"] + 1, "skipped in silence"
                reached = position(frame)
        await slow.nothing_but_pong()


@pytest.mark.parametrize("size", [100, 20_000, 300_000])
async def test_recovering_while_others_write_brings_all_of_it_in_order(platform: Platform, size: int) -> None:
    """From small messages, of which many fit into a read, to some that fill one alone."""
    here, there = await platform.start(), await platform.start()
    count = 30 if size > 100_000 else 80
    token = await here.session(unique("alice"))
    first = await publish(here, "guide", {})
    done = asyncio.Event()

    async def keep_writing() -> int:
        for n in range(count):
            await publish((here, there)[n % 2], "guide", {"n": n, "m": "x" * size})
        done.set()
        return count

    async def keep_recovering(city: Instance) -> int:
        rounds = 0
        while not done.is_set():
            reader = Reader("guide")
            reader.position = position(first)
            newest = (await city.done("post_office.get_channel_history", {"channel": "guide", "limit": 1}))["offset"]
            await reader.visit(city, token, newest, count + 1)
            assert len(reader.got) == newest - first["offset"]
            rounds += 1
        return rounds

    async with asyncio.timeout(50), asyncio.TaskGroup() as group:
        group.create_task(keep_writing())
        rounds = [group.create_task(keep_recovering(city)) for city in (here, there)]
    assert all(task.result() > 0 for task in rounds)


async def test_a_restart_of_the_store_begins_a_new_epoch_at_the_next_offset() -> None:
    """Here with a store that keeps all; see the subscriptions for one that loses its end."""
    with ValkeyServer() as server:
        async with AsyncExitStack() as stack:
            city = await Platform(server, stack).start()
            token = await city.session(unique("alice"))
            alice = await stack.enter_async_context(city.connected(token))
            await alice.subscribe("guide")
            before = [await publish(city, "guide", {"n": n}) for n in range(3)]
            await alice.messages(3, "guide")
            server.restart()
            after = await published_again(city)
            assert after["offset"] == before[-1]["offset"] + 1
            assert after["epoch"] != before[-1]["epoch"]
            (got,) = [await alice.until(lambda frame: frame["type"] in {"message", "reset"}, 15)]
            if got["type"] == "message":
                assert position(got) == position(after)
            ack = await alice.ask(type="subscribe", channels={"guide": position(before[0])})
            assert ack["channels"]["guide"]["recovered"] is True
            recovered = await alice.messages(3, "guide")
            assert [frame["payload"]["n"] for frame in recovered] == [1, 2, 99]
            assert [frame["epoch"] for frame in recovered][:2] == [before[0]["epoch"]] * 2
            assert (await alice.ask(type="ping"))["type"] == "pong"


async def published_again(city: Instance) -> Frame:
    """Publishes as soon as the store is back."""
    async with asyncio.timeout(15):
        while True:
            arguments = {"channel": "guide", "message": {"n": 99}, "key": "again"}
            response = await city.call("post_office.publish_to_agent_channel", arguments)
            if response.status_code == 200:
                answer: Frame = response.json()
                return answer
            assert response.json()["code"] == "unavailable"
