"""Section 6: how an agent that has tools alone lives on a channel, by its inbox or by its log."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.contract.agents import agent_on, asked, asker_of, is_error
from tests.contract.shapes import has_only, is_publication, problem, text_of
from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


async def consumer_of(city: Instance, channel: str, mode: str = "inbox", **more: Any) -> str:
    arguments = {"channel": channel, "mode": mode, **more}
    return str((await city.done("post_office.subscribe_to_channel", arguments))["consumer"])


async def receive(city: Instance, consumer: str, count: int = 10, wait_ms: int = 0, **more: Any) -> Frame:
    arguments = {"consumer": consumer, "max": count, "wait_ms": wait_ms, **more}
    return await city.done("post_office.receive_messages", arguments)


async def settled(city: Instance, operation: str, delivery: Frame, **arguments: Any) -> Frame:
    return await city.done(f"post_office.{operation}", {"delivery_id": delivery["delivery_id"], **arguments})


async def publish(city: Instance, channel: str, *numbers: int) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n}})
        for n in numbers
    ]


@in_town
class TestInbox:
    async def test_a_question_is_received_and_answered(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            question = await asked(alice, channel, "c-1")
            got = await receive(town, consumer)
            has_only(got, {"deliveries"})
            (delivery,) = got["deliveries"]
            has_only(delivery, {"delivery_id", "attempt", "message"}, {"channel", "type"})
            assert delivery["attempt"] == 1
            assert delivery["message"]["message_id"] == question
            assert delivery["message"]["conversation_id"] == "c-1"
            await settled(town, "reply", delivery, payload={"message": "yes"})
            answer = await alice.of("chat_response")
            assert (answer["in_reply_to"], answer["payload"]) == (question, {"message": "yes"})
            assert answer["agent"] == "operator"
            response = await town.call(
                "post_office.reply", {"delivery_id": delivery["delivery_id"], "payload": {"message": "again"}}
            )
            problem(response, 409, "stale_delivery")

    async def test_waiting_ends_as_soon_as_something_comes(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            waiting = asyncio.create_task(receive(town, consumer, wait_ms=20000))
            await eventually(
                lambda: town.done("post_office.get_queue_status", {"channel": channel}),
                lambda status: status["channels"][channel]["consumers"] == 1, "somebody waits",
            )  # fmt: skip
            began = time.monotonic()
            await asked(alice, channel)
            assert len((await waiting)["deliveries"]) == 1
            assert time.monotonic() - began < ROOM

    async def test_waiting_ends_after_its_time(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        began = time.monotonic()
        assert (await receive(town, consumer, wait_ms=300))["deliveries"] == []
        assert 0.25 < time.monotonic() - began < 0.3 + ROOM
        began = time.monotonic()
        assert (await receive(town, consumer, wait_ms=0))["deliveries"] == []
        assert time.monotonic() - began < ROOM

    async def test_no_more_than_max_are_given(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            wanted = [await asked(alice, channel, f"c{n}") for n in range(5)]
            got = []
            for size in (2, 2, 1, 0):
                deliveries = (await receive(town, consumer, 2))["deliveries"]
                assert len(deliveries) == size
                got += [delivery["message"]["message_id"] for delivery in deliveries]
            assert sorted(got) == sorted(wanted)

    async def test_acknowledging_settles_without_an_answer(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            for n in range(3):
                await asked(alice, channel, f"c{n}")
            ids = [delivery["delivery_id"] for delivery in (await receive(town, consumer))["deliveries"]]
            arguments = {"consumer": consumer, "delivery_ids": ids}
            await town.done("post_office.acknowledge_messages", arguments)
            status = await town.done("post_office.get_queue_status", {"channel": channel})
            assert status["channels"][channel]["depth"] == 0
            await alice.nothing_but_pong()

    async def test_failing_gives_back_or_tells_the_asker(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            question = await asked(alice, channel)
            (first,) = (await receive(town, consumer))["deliveries"]
            await settled(town, "fail_delivery", first, reason="busy", retry=True)
            (second,) = (await receive(town, consumer, wait_ms=15000))["deliveries"]
            assert (second["attempt"], second["message"]) == (2, first["message"])
            await settled(town, "fail_delivery", second, reason="no", retry=False)
            is_error(await alice.of("chat_response"), question, retrying=False)

    async def test_forwarding_hands_it_to_another_inbox(self, town: Instance, channel: str) -> None:
        here, there = await consumer_of(town, channel), await consumer_of(town, "pillar:insights")
        async with asker_of(town) as alice:
            question = await asked(alice, channel, "c-1")
            (delivery,) = (await receive(town, here))["deliveries"]
            await settled(town, "forward_delivery", delivery, channel="pillar:insights")
            (handed,) = (await receive(town, there, wait_ms=15000))["deliveries"]
            assert (handed["message"]["message_id"], handed["attempt"]) == (question, 1)
            await settled(town, "reply", handed, payload={"message": "from there"})
            assert (await alice.of("chat_response"))["conversation_id"] == "c-1"

    async def test_a_lease_may_be_short_and_may_be_extended(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            await asked(alice, channel)
            began = time.monotonic()
            (first,) = (await receive(town, consumer, lease_seconds=1))["deliveries"]
            await settled(town, "extend_delivery", first, lease_seconds=2)
            (second,) = (await receive(town, consumer, wait_ms=15000, lease_seconds=30))["deliveries"]
            assert 1.8 < time.monotonic() - began < 2 + ROOM
            assert second["attempt"] == 2
            stale = await town.call(
                "post_office.extend_delivery", {"delivery_id": first["delivery_id"], "lease_seconds": 5}
            )
            problem(stale, 409, "stale_delivery")
            await settled(town, "extend_delivery", second, lease_seconds=600)
            await settled(town, "reply", second, payload={})

    async def test_it_shares_an_inbox_with_an_agent_on_a_socket(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice, agent_on(town, channel, max=1) as agent:
            wanted = {await asked(alice, channel, f"c{n}") for n in range(3)}
            by_socket = await agent.of("delivery")
            got = {by_socket["message"]["message_id"]}
            while len(got) < 3:
                for delivery in (await receive(town, consumer, wait_ms=15000))["deliveries"]:
                    got.add(delivery["message"]["message_id"])
            assert got == wanted

    async def test_who_leaves_while_waiting_takes_nothing_with_it(self, town: Instance, channel: str) -> None:
        """The call's client is gone before the question comes: it is nobody's first attempt."""
        consumer = await consumer_of(town, channel)
        waiting = asyncio.create_task(receive(town, consumer, wait_ms=8000))
        await eventually(
            lambda: town.done("post_office.get_queue_status", {"channel": channel}),
            lambda status: status["channels"][channel]["consumers"] == 1, "somebody waits",
        )  # fmt: skip
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            question = await asked(alice, channel)
            delivery = await agent.of("delivery")
            assert (delivery["message"]["message_id"], delivery["attempt"]) == (question, 1)

    @pytest.mark.parametrize(
        ("field", "value"),
        [("wait_ms", 30001), ("wait_ms", -1), ("wait_ms", "5"), ("max", 0), ("max", -1), ("max", "5"),
         ("lease_seconds", 601), ("lease_seconds", 0), ("lease_seconds", -5), ("consumer", 7), ("other", 1)],
    )  # fmt: skip
    async def test_a_wrong_argument_is_named(self, town: Instance, channel: str, field: str, value: Any) -> None:
        arguments = {"consumer": await consumer_of(town, channel), "max": 1, "wait_ms": 0, field: value}
        refusal = problem(await town.call("post_office.receive_messages", arguments), 422, "invalid_argument")
        assert {error["field"] for error in refusal["errors"]} == {field}

    async def test_the_bounds_themselves_are_allowed(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        async with asker_of(town) as alice:
            await asked(alice, channel)
            (delivery,) = (await receive(town, consumer, 1, wait_ms=30000, lease_seconds=600))["deliveries"]
            await settled(town, "extend_delivery", delivery, lease_seconds=600)

    async def test_a_consumer_that_does_not_exist_is_not_found(self, town: Instance, channel: str) -> None:
        for operation, arguments in (
            ("receive_messages", {"consumer": "0" * 20, "wait_ms": 0}),
            ("acknowledge_messages", {"consumer": "0" * 20, "delivery_ids": ["x"]}),
        ):
            response = await town.call(f"post_office.{operation}", arguments)
            problem(response, 404, "not_found")

    async def test_one_realm_does_not_take_from_the_consumer_of_another(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel)
        stranger = f"Bearer {await town.service(unique('stranger'), 'post_office.consume')}"
        async with asker_of(town) as alice:
            await asked(alice, channel)
            arguments = {"consumer": consumer, "max": 1, "wait_ms": 0}
            response = await town.call("post_office.receive_messages", arguments, Authorization=stranger)
            assert response.status_code in {403, 404}, response.text

    @pytest.mark.parametrize("mode", ["both", "", 7, None])
    async def test_a_mode_that_does_not_exist_is_refused(self, town: Instance, mode: Any) -> None:
        arguments = {"channel": "guide", "mode": mode}
        problem(await town.call("post_office.subscribe_to_channel", arguments), 422, "invalid_argument")


@in_town
class TestLog:
    async def test_publications_come_from_where_it_stands(self, town: Instance, channel: str) -> None:
        await publish(town, channel, 0, 1)
        consumer = await consumer_of(town, channel, "log")
        assert (await receive(town, consumer))["publications"] == []
        said = await publish(town, channel, 2, 3)
        got = await receive(town, consumer)
        assert "deliveries" not in got
        for entry in got["publications"]:
            is_publication(entry)
        assert [entry["payload"]["n"] for entry in got["publications"]] == [2, 3]
        assert [entry["message_id"] for entry in got["publications"]] == [entry["message_id"] for entry in said]

    async def test_it_may_begin_at_a_position(self, town: Instance, channel: str) -> None:
        said = await publish(town, channel, *range(5))
        consumer = await consumer_of(town, channel, "log", since=text_of(said[1]))
        got = await receive(town, consumer, 2)
        assert [entry["payload"]["n"] for entry in got["publications"]] == [2, 3]

    async def test_what_is_not_acknowledged_comes_again_and_what_is_does_not(
        self, town: Instance, channel: str
    ) -> None:
        consumer = await consumer_of(town, channel, "log", since="0")
        await publish(town, channel, *range(5))
        first = (await receive(town, consumer, 3))["publications"]
        assert [entry["payload"]["n"] for entry in first] == [0, 1, 2]
        arguments = {"consumer": consumer, "position": text_of(first[1])}
        await town.done("post_office.acknowledge_messages", arguments)
        second = (await receive(town, consumer, 3))["publications"]
        assert [entry["payload"]["n"] for entry in second] == [2, 3, 4]

    async def test_waiting_ends_as_soon_as_something_is_said(self, town: Instance, channel: str) -> None:
        consumer = await consumer_of(town, channel, "log")
        waiting = asyncio.create_task(receive(town, consumer, wait_ms=20000))
        await asyncio.wait([waiting], timeout=0.2)
        assert not waiting.done()
        began = time.monotonic()
        await publish(town, channel, 7)
        assert [entry["payload"]["n"] for entry in (await waiting)["publications"]] == [7]
        assert time.monotonic() - began < ROOM

    async def test_what_does_not_belong_to_the_mode_is_refused(self, town: Instance, channel: str) -> None:
        log, inbox = await consumer_of(town, channel, "log"), await consumer_of(town, channel)
        for arguments in (
            {"consumer": log, "delivery_ids": ["x"]}, {"consumer": inbox, "position": "0"}, {"consumer": inbox},
            {"consumer": log, "position": "0", "delivery_ids": ["x"]},
        ):  # fmt: skip
            response = await town.call("post_office.acknowledge_messages", arguments)
            problem(response, 409, "conflict")
        response = await town.call("post_office.acknowledge_messages", {"consumer": log, "position": "nonsense"})
        problem(response, 422, "invalid_argument")


async def test_a_consumer_lives_on_any_instance(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    consumer = await consumer_of(here, "guide")
    async with asker_of(here) as alice:
        question = await asked(alice, "guide")
        (delivery,) = (await receive(there, consumer, wait_ms=15000))["deliveries"]
        assert delivery["message"]["message_id"] == question
        await settled(here, "extend_delivery", delivery, lease_seconds=30)
        await settled(here, "reply", delivery, payload={"message": "yes"})
        assert (await alice.of("chat_response"))["payload"] == {"message": "yes"}
        reader = await consumer_of(there, "guide", "log")
        await publish(here, "guide", 1)
        got = await eventually(
            lambda: receive(here, reader), lambda got: bool(got["publications"]), "the publication is there"
        )
        assert got["publications"][0]["payload"] == {"n": 1}


async def test_a_delivery_outlives_the_instance_that_gave_it_to_a_tool(platform: Platform) -> None:
    here = await platform.start()
    consumer = await consumer_of(here, "guide")
    async with asker_of(here) as alice:
        await asked(alice, "guide")
        async with platform.instance() as there:
            (delivery,) = (await receive(there, consumer, wait_ms=15000))["deliveries"]
        assert delivery["attempt"] == 1
        await settled(here, "reply", delivery, payload={"message": "yes"})
        assert (await alice.of("chat_response"))["payload"] == {"message": "yes"}
