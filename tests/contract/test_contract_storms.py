"""Section 4 under everything at once: agents that die, readers that dawdle, instances that leave, large messages."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.exceptions import ConnectionClosed

from tests.contract.agents import agent_on, asked, asker_of, is_error, reply
from tests.contract.shapes import position
from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE
from tests.support.wire_client import WireClient

Frame = dict[str, Any]
SEED = 20261120
MIB = 1 << 20


def narrow(url: str) -> socket.socket:
    """A connection whose reader takes little at a time."""
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    end.connect(("127.0.0.1", urlsplit(url).port))
    end.setblocking(False)
    return end


async def publish(city: Instance, message: Frame, channel: str = "guide") -> Frame:
    return await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": message})


async def test_each_question_has_one_last_word_and_each_start_one_end_though_agents_die(platform: Platform) -> None:
    cities = [await platform.start(), await platform.start()]
    chance = random.Random(SEED)  # noqa: S311 - the same accidents in every run
    askers, each = 12, 4
    over = asyncio.Event()

    async def agent(number: int) -> None:
        """Comes, answers a few in some way or breaks off in the middle, and comes again."""
        city = cities[number % 2]
        token = await city.service(f"agents{number}", "post_office.consume")
        while not over.is_set():
            async with city.connected(token) as client:
                await client.send(type="consume", channel="guide", max=2)
                for _ in range(chance.randint(2, 6)):
                    taking = asyncio.create_task(client.of("delivery", 30))
                    ending = asyncio.create_task(over.wait())
                    await asyncio.wait([taking, ending], return_when=asyncio.FIRST_COMPLETED)
                    ending.cancel()
                    if not taking.done():
                        taking.cancel()
                        await asyncio.gather(taking, return_exceptions=True)
                        return
                    if not await answer_somehow(client, taking.result(), chance):
                        break
                client.socket.transport.abort()

    async def asker(number: int) -> list[Frame]:
        city = cities[(number // 2) % 2]
        frames: list[Frame] = []
        async with asker_of(city) as client:
            questions = {await asked(client, "guide", f"c{n}") for n in range(each)}
            last: set[str] = set()
            while last != questions:
                frame = await client.next(30)
                frames.append(frame)
                is_last = frame.get("stream") in {None, "end"} or frame.get("retrying") is False
                if frame["type"] == "chat_response" and is_last:
                    assert frame["in_reply_to"] not in last, "a second last word"
                    last.add(frame["in_reply_to"])
            await client.nothing_but_pong()
        return frames

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        agents = [group.create_task(agent(number)) for number in range(4)]
        asking = [group.create_task(asker(number)) for number in range(askers)]
        await asyncio.wait(asking)
        over.set()
        await asyncio.wait(agents)
    for task in asking:
        starts = Counter(frame["message_id"] for frame in task.result() if frame.get("stream") == "start")
        ends = Counter(frame["message_id"] for frame in task.result() if frame.get("stream") in {"end", "error"})
        assert set(starts.values()) <= {1}
        assert set(ends.values()) <= {1}
        assert set(starts) <= set(ends)
        parts: dict[str, list[int]] = defaultdict(list)
        for frame in task.result():
            if frame.get("stream") == "delta":
                parts[frame["message_id"]].append(frame["part"])
        assert all(numbers == list(range(1, len(numbers) + 1)) for numbers in parts.values())
    for city in cities:
        await eventually(partial(depth, city), lambda waiting: waiting == 0, "all is settled")


async def depth(city: Instance) -> int:
    status = await city.done("post_office.get_queue_status", {"channel": "guide"})
    return int(status["channels"]["guide"]["depth"])


async def answer_somehow(client: WireClient, delivery: Frame, chance: random.Random) -> bool:
    """Whole, in parts, given back, or broken off by leaving; whether the agent is still there."""
    this = {"delivery_id": delivery["delivery_id"]}
    fate = chance.random() if delivery["attempt"] == 1 else 0.9
    if fate < 0.2:
        await client.send(type="failed", reason="busy", retry=True, **this)
    elif fate < 0.5:
        await client.send(type="reply", stream="start", payload={}, **this)
        await client.send(type="reply", stream="delta", payload={"message": "half"}, **this)
        if fate < 0.35:
            return False
        await client.send(type="reply", stream="end", payload={}, **this)
    else:
        await client.send(type="reply", payload={"message": "whole"}, **this)
    return True


async def test_an_instance_that_leaves_in_the_storm_costs_nobody_anything(platform: Platform) -> None:
    """Writers repeat under their keys, readers come back with their positions; all is there once."""
    stays = await platform.start()
    leaving = platform.instance()
    leaves = await leaving.__aenter__()
    each, writers, readers = 60, 4, 6
    tokens = [await stays.session(unique(f"reader{n}")) for n in range(readers)]
    writer_token = await stays.service(unique("writers"), "post_office.publish")
    start = position(await publish(stays, {"first": True}))
    gone = asyncio.Event()

    async def writer(number: int) -> int:
        city, n = leaves, 0
        while n < each:
            try:
                async with city.connected(writer_token) as client:
                    while n < each:
                        frame = {"channel": "guide", "payload": {"from": number, "n": n}, "key": f"{number}/{n}"}
                        if (await client.ask(type="publish", **frame))["type"] == "ack":
                            n += 1
                        if n == each // 2 and city is leaves:
                            gone.set()
            except (ConnectionClosed, OSError):
                city = stays
        return n

    async def reader(number: int) -> list[Frame]:
        city, reached, got = leaves, start, list[Frame]()
        while len(got) < each * writers:
            try:
                async with city.connected(tokens[number]) as client:
                    ack = await client.ask(type="subscribe", channels={"guide": reached})
                    assert ack["channels"]["guide"].get("recovered") is True, ack
                    while len(got) < each * writers:
                        frame = await client.of("message", 20)
                        assert frame["offset"] == reached["offset"] + 1
                        reached = position(frame)
                        got.append(frame["payload"])
            except (ConnectionClosed, OSError):
                city = stays
        return got

    async def leave() -> None:
        await gone.wait()
        await leaving.__aexit__(None, None, None)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(leave())
        reading = [group.create_task(reader(number)) for number in range(readers)]
        for number in range(writers):
            group.create_task(writer(number))
    first = reading[0].result()
    assert all(task.result() == first for task in reading)
    for number in range(writers):
        assert [payload["n"] for payload in first if payload["from"] == number] == list(range(each))


async def test_a_subscription_that_is_switched_on_and_off_in_the_storm_never_skips(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    total = 240
    chance = random.Random(SEED)  # noqa: S311
    async with asker_of(here) as alice, asyncio.TaskGroup() as group:
        reached = position((await alice.subscribe("guide"))["guide"])
        last = reached["offset"] + total

        async def write(city: Instance) -> None:
            for n in range(total // 2):
                await publish(city, {"n": n})

        for city in (here, there):
            group.create_task(write(city))
        while reached["offset"] < last:
            for _ in range(chance.randint(0, 12)):
                if reached["offset"] < last:
                    frame = await alice.of("message", 20)
                    assert frame["offset"] == reached["offset"] + 1
                    reached = position(frame)
            if chance.random() < 0.5:
                await alice.send(type="unsubscribe", channels=["guide"])
            await alice.send(type="subscribe", channels={"guide": reached}, id="again")
            while (frame := await alice.next(20)).get("id") != "again":
                assert frame["type"] == "message", "of the subscription before, and void"
            assert frame["channels"]["guide"]["recovered"] is True
            assert position(frame["channels"]["guide"]) == reached
        await alice.nothing_but_pong()


async def test_messages_of_all_sizes_keep_the_order_in_which_they_were_sent(city: Instance) -> None:
    sizes = [10, 3 * MIB, 10, 100_000, 1, 2 * MIB, 70_000, 10, 65_536, 1 * MIB, 5]
    token = await city.service(unique("writers"), "post_office.publish")
    async with asker_of(city) as reader, city.connected(token) as writer:
        await reader.subscribe("guide")
        for n, size in enumerate(sizes):
            await writer.send(type="publish", channel="guide", payload={"n": n, "m": "x" * size}, id=str(n))
        got = [(await reader.of("message", 20))["payload"] for _ in sizes]
        acks = [await writer.of("ack", 20) for _ in sizes]
    assert [(payload["n"], len(payload["m"])) for payload in got] == list(enumerate(sizes))
    assert [ack["id"] for ack in acks] == [str(n) for n in range(len(sizes))]


async def test_a_reader_that_is_slow_but_reads_recovers_far_more_than_may_be_unsent(platform: Platform) -> None:
    """Recovering goes at the reader's pace; what it has not taken yet is no reason to close."""
    city = await platform.start(max_unsent_bytes=1 << 17)
    for n in range(30):
        last = await publish(city, {"n": n, "m": "x" * 300_000})
    token = await city.session(unique("slow"))
    async with city.connected(token, sock=narrow(city.url), max_queue=1) as slow:
        ack = await slow.ask(type="subscribe", channels={"guide": {"offset": 0, "epoch": last["epoch"]}})
        assert ack["channels"]["guide"]["missed"] == 30
        got = [(await slow.of("message", 20))["payload"]["n"] for _ in range(30)]
    assert got == list(range(30))


async def test_a_message_larger_than_a_whole_log_is_refused_or_kept_but_not_acknowledged_and_gone(
    platform: Platform,
) -> None:
    """The contract has ``too_large`` for what is above a channel's own limit, and leaves open what that limit is."""
    city = await platform.start(history_bytes=MIB)
    token = await city.session(unique("alice"), channels={"guide": ["publish", "subscribe"]})
    async with city.connected(token) as alice:
        await alice.subscribe("guide")
        answer = await alice.ask(type="publish", channel="guide", payload={"m": "x" * (2 * MIB)})
        if answer["type"] == "error":
            assert (answer["code"], answer["retryable"]) == ("too_large", False)
            return
        (got,) = await alice.messages(1)
        assert position(got) == position(answer)
        kept = (await city.done("post_office.get_channel_history", {"channel": "guide"}))["publications"]
        assert [entry["message_id"] for entry in kept] == [answer["message_id"]]


async def test_a_log_is_bounded_in_bytes_and_says_so(platform: Platform) -> None:
    city = await platform.start(history_bytes=MIB)
    for n in range(40):
        last = await publish(city, {"n": n, "m": "x" * 100_000})
    async with asker_of(city) as alice:
        since = {"offset": 1, "epoch": last["epoch"]}
        outcome = (await alice.ask(type="subscribe", channels={"guide": since}))["channels"]["guide"]
        assert (outcome["recovered"], outcome["reason"]) == (False, "trimmed")
        assert position(outcome) == position(last)
        near = {"offset": last["offset"] - 2, "epoch": last["epoch"]}
        outcome = (await alice.ask(type="subscribe", channels={"guide": near}))["channels"]["guide"]
        assert (outcome["recovered"], outcome["missed"]) == (True, 2)
        await alice.messages(2)


@pytest.mark.parametrize("size", [3, 6])
async def test_an_answer_whose_parts_add_up_to_a_great_deal_still_ends_once(city: Instance, size: int) -> None:
    """As a whole below the message limit, and as an error above it, for the asker has to be told either way."""
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        question = await asked(alice, "guide")
        this = {"delivery_id": (await agent.of("delivery"))["delivery_id"]}
        await agent.ask(type="reply", stream="start", payload={}, **this)
        codes = [await insist(agent, stream="delta", payload={"message": "x" * MIB}, **this) for _ in range(size)]
        codes.append(await insist(agent, stream="end", payload={}, **this))
        assert codes == [""] * 4 if size < 4 else set(codes) <= {"", "too_large", "stale_delivery"}
        if size > 4 and "too_large" not in codes:
            assert (await insist(agent, stream="end", payload={"message": "short"}, **this)) == "stale_delivery"
        closing = await alice.until(lambda frame: frame.get("stream") in {"end", "error"}, 20)
        assert closing["in_reply_to"] == question
        if size < 4:
            assert closing["payload"]["message"] == "x" * (size * MIB)
        elif closing["stream"] == "error":
            is_error(closing, question, retrying=False)
        await alice.send(type="ping", id="rest")
        while (frame := await alice.next()).get("id") != "rest":
            assert frame["stream"] in {"start", "delta"}, "a second end"


async def insist(agent: WireClient, **part: Any) -> str:
    """Replies until it is no longer too much at once; the code of the refusal, or nothing."""
    async with asyncio.timeout(PATIENCE):
        while (answer := await agent.ask(type="reply", **part)).get("code") == "overloaded":
            assert answer["retryable"] is True
            await asyncio.sleep(0.02)  # as a client does that was told to come again
    return str(answer.get("code", ""))


async def test_an_agent_that_never_reads_is_closed_and_its_deliveries_go_to_another(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=1 << 17, close_seconds=0.5, stall_seconds=0.5)
    token = await city.service(unique("agents"), "post_office.consume")
    async with AsyncExitStack() as stack:
        wanted = set()
        for n in range(30):
            client = await stack.enter_async_context(asker_of(city, unique(f"user{n}")))
            wanted.add(await asked(client, "guide", m="x" * 300_000))
        stuck = await stack.enter_async_context(city.connected(token, sock=narrow(city.url), max_queue=1))
        await stuck.send(type="consume", channel="guide", max=64)

        async def is_gone() -> str:
            response = await city.call("post_office.get_connection", {"connection_id": stuck.id})
            return str(response.json().get("code"))

        await eventually(is_gone, lambda code: code == "not_found", "it is closed", 10)
        agent = await stack.enter_async_context(agent_on(city, "guide", max=64))
        got: set[str] = set()
        while got != wanted:
            delivery = await agent.of("delivery", 10)
            got.add(delivery["message"]["message_id"])
            await agent.send(type="done", delivery_ids=[delivery["delivery_id"]])
        stuck.socket.transport.abort()


async def test_an_asker_that_never_reads_loses_its_socket_and_not_its_answer(platform: Platform) -> None:
    city = await platform.start(max_unsent_bytes=1 << 17, close_seconds=0.5, stall_seconds=0.5)
    user = unique("alice")
    token = await city.session(user)
    async with city.connected(token) as other, agent_on(city, "guide", max=64) as agent:
        async with city.connected(token, sock=narrow(city.url), max_queue=1) as stuck:
            questions = [await asked(stuck, "guide", f"c{n}") for n in range(40)]
            answered = 0
            while answered < 40:
                delivery = await agent.of("delivery")
                await reply(agent, delivery, payload={"message": "x" * 300_000})
                answered += 1
            stuck.socket.transport.abort()
        late = await answers_until_quiet(other)
        await eventually(partial(depth, city), lambda waiting: waiting == 0, "all is settled")
    assert set(late) <= set(questions)
    assert len(late) == len(set(late))


async def answers_until_quiet(client: WireClient) -> list[str]:
    """Which questions were answered to this connection by now."""
    await client.send(type="ping", id="quiet")
    got: list[str] = []
    while (frame := await client.next(20)).get("id") != "quiet":
        assert frame["type"] == "chat_response"
        assert frame["log"].startswith("user:")
        got.append(frame["in_reply_to"])
    return got


@pytest.mark.parametrize("count", [8, 40])
async def test_what_an_agent_answered_before_it_closed_counts(city: Instance, count: int) -> None:
    """It answers and leaves in good order; nobody else is there who could do its work again."""
    async with asker_of(city) as alice:
        async with agent_on(city, "guide", max=64) as agent:
            questions = [await asked(alice, "guide", f"c{n}") for n in range(count)]
            deliveries = [await agent.of("delivery") for _ in questions]
            for delivery in deliveries:
                await agent.send(type="reply", delivery_id=delivery["delivery_id"], payload={"message": "yes"})
        answered = {(await alice.of("chat_response"))["in_reply_to"] for _ in questions}
        assert answered == set(questions)
        await eventually(partial(depth, city), lambda waiting: waiting == 0, "all is settled")


async def test_of_two_who_settle_one_delivery_at_once_one_does(city: Instance) -> None:
    consumer = (await city.done("post_office.subscribe_to_channel", {"channel": "guide", "mode": "inbox"}))["consumer"]
    async with asker_of(city) as alice:
        for n in range(10):
            await asked(alice, "guide", f"c{n}")
            arguments = {"consumer": consumer, "max": 1, "wait_ms": 2000}
            (delivery,) = (await city.done("post_office.receive_messages", arguments))["deliveries"]
            this = {"delivery_id": delivery["delivery_id"]}
            responses = await asyncio.gather(
                *(city.call("post_office.reply", {**this, "payload": {"message": str(i)}}) for i in range(4)),
                city.call("post_office.fail_delivery", {**this, "reason": "no", "retry": False}),
                city.call("post_office.forward_delivery", {**this, "channel": "pillar:content"}),
            )
            good = [index for index, response in enumerate(responses) if response.status_code == 200]
            assert len(good) == 1, [response.text for response in responses]
            for index, response in enumerate(responses):
                if index not in good:
                    assert (response.status_code, response.json()["code"]) == (409, "stale_delivery")
            if good[0] < 4:
                assert (await alice.of("chat_response"))["payload"] == {"message": str(good[0])}
            elif good[0] == 4:
                is_error(await alice.of("chat_response"), delivery["message"]["message_id"], retrying=False)
            await alice.nothing_but_pong()


async def test_acknowledging_some_that_are_stale_settles_the_others(city: Instance) -> None:
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        for n in range(3):
            await asked(alice, "guide", f"c{n}")
        deliveries = [await agent.of("delivery") for _ in range(3)]
        await reply(agent, deliveries[1], payload={})
        await alice.of("chat_response")
        ids = [delivery["delivery_id"] for delivery in deliveries]
        answer = await agent.ask(type="done", delivery_ids=ids)
        assert answer["type"] == "ack" or answer["code"] == "stale_delivery"
        again = await agent.ask(type="done", delivery_ids=[ids[0], ids[2]])
        assert again["type"] == "ack" or again["code"] == "stale_delivery"
        status = await city.done("post_office.get_queue_status", {"channel": "guide"})
        assert status["channels"]["guide"]["depth"] == 0
