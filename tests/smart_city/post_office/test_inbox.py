"""The store of an inbox: order, fairness, bounds, idempotency, and the ends of deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from foundations.errors import CityError, Conflict, Overloaded, StaleDelivery, Unavailable, UnknownChannel
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, Inbox, Queued
from tests.support.inboxes import a_question, an_inbox, holders, id_of, text_of, texts


async def ask(inbox: Inbox, *questions: str, user: str = "alice", conversation: str = "") -> None:
    for text in questions:
        await inbox.send_now(a_question(text, user=user, conversation=conversation))


async def take_one(inbox: Inbox, holder: str = "one|a") -> Delivery:
    taken = await inbox.take("guide", holders(holder))
    assert len(taken.deliveries) == 1
    return taken.deliveries[0][1]


async def finish(inbox: Inbox, *deliveries: Delivery) -> None:
    settled = await inbox.deliveries.done([id_of(delivery) for delivery in deliveries])
    assert not settled.open
    assert not settled.stale


class TestLanes:
    async def test_a_question_is_delivered_with_body_route_and_a_first_attempt(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        question = a_question("what is this?", conversation="c1")
        assert await inbox.send_now(question) == Queued(question.message_id)
        delivery = await take_one(inbox)
        assert delivery.delivery_id == f"guide/{question.message_id}/1"
        assert delivery.attempt == 1
        assert (delivery.body, delivery.route) == (question.body, question.route)

    async def test_one_lane_has_one_delivery_in_flight_and_keeps_its_order(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1", "2", "3")
        for expected in ("1", "2", "3"):
            taken = await inbox.take("guide", holders("one|a") * 5)
            assert texts(taken) == [expected]
            await finish(inbox, taken.deliveries[0][1])
        assert (await inbox.status("guide")).depth == 0

    async def test_lanes_are_served_in_turn(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "a1", "a2", "a3", user="alice")
        await ask(inbox, "b1", "b2", user="bob")
        await ask(inbox, "c1", user="carol")
        served = []
        while (taken := await inbox.take("guide", holders("one|a"))).deliveries:
            served += texts(taken)
            await finish(inbox, taken.deliveries[0][1])
        assert served == ["a1", "b1", "c1", "a2", "b2", "a3"]

    async def test_conversations_of_one_user_are_lanes_of_their_own(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "x", conversation="x")
        await ask(inbox, "y", conversation="y")
        assert texts(await inbox.take("guide", holders("one|a") * 5)) == ["x", "y"]

    async def test_a_take_gives_one_message_to_each_holder_in_turn(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        for user in ("alice", "bob", "carol"):
            await ask(inbox, user, user=user)
        taken = await inbox.take("guide", holders("one|a", "one|b", "one|a", "one|b"))
        assert [(place, text_of(delivery)) for place, delivery in taken.deliveries] == [
            (0, "alice"), (1, "bob"), (2, "carol"),
        ]  # fmt: skip
        assert not taken.has_more

    async def test_a_take_stops_at_a_mebibyte_and_says_that_there_is_more(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        for user in ("alice", "bob", "carol"):
            await inbox.send_now(a_question(user * 150_000, user=user))
        taken = await inbox.take("guide", holders("one|a") * 3)
        assert len(taken.deliveries) == 2
        assert taken.has_more

    async def test_two_instances_share_one_inbox(self, valkey: Valkey, tasks: Tasks) -> None:
        one, two = an_inbox(valkey, tasks), an_inbox(valkey, tasks, instance_id="two")
        await ask(one, "1", "2")
        first = await take_one(two, "two|a")
        assert not (await one.take("guide", holders("one|a"))).deliveries
        await finish(one, first)
        assert text_of(await take_one(one)) == "2"
