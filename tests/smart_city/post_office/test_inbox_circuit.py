"""The circuit of an inbox: what opens it, what does not, and how it closes again."""

from __future__ import annotations

from typing import Any

import pytest

from foundations.errors import Overloaded
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, Inbox, Queued
from smart_city.post_office.inbox.deliveries import How
from smart_city.post_office.keep import Held, Keep
from tests.support.inboxes import a_question, an_inbox, holders, id_of
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until


def quick(valkey: Valkey, tasks: Tasks, instance_id: str = "one", **more: Any) -> Inbox:
    """An inbox whose circuit opens when three people's questions failed."""
    rule = {"circuit_failures": 3, "circuit_cool_seconds": 60, "circuit_probes": 4, "first_wait_seconds": 0}
    return an_inbox(valkey, tasks, instance_id=instance_id, **rule | more)


async def taken(inbox: Inbox, user: str) -> Delivery:
    """A question of somebody, in an agent's hands."""
    question = a_question(user=user)
    await inbox.send_now(question)
    deliveries = (await inbox.take("guide", holders("one|a"))).deliveries
    assert [delivery.message_id for _, delivery in deliveries] == [question.message_id]
    return deliveries[0][1]


async def fail(inbox: Inbox, delivery: Delivery, why: str = "failed: it", *, retry: bool = False) -> None:
    how: How = "try" if retry else "dead"
    await inbox.deliveries.conclude(await inbox.deliveries.take_back(id_of(delivery), why, how))


async def fail_for(inbox: Inbox, *users: str) -> None:
    for user in users:
        await fail(inbox, await taken(inbox, user))


async def state(inbox: Inbox) -> str:
    return (await inbox.status("guide")).circuit


async def cool_down(inbox: Inbox, valkey: Valkey) -> None:
    """The circuit's time is over."""
    await valkey.command("HSET", valkey.key("inbox:{guide}:circuit"), "wait", 1)
    assert await state(inbox) == "half_open"


async def a_window_goes_by(valkey: Valkey) -> None:
    """The window that began now began 16 seconds ago."""
    await valkey.command("HINCRBY", valkey.key("inbox:{guide}:circuit"), "began", -16_000)


class TestOpening:
    async def test_it_opens_when_different_peoples_questions_fail_and_every_instance_knows(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        one, two = quick(valkey, tasks), quick(valkey, tasks, instance_id="two")
        await fail_for(one, "a", "b")
        assert await state(two) == "closed"
        await fail_for(one, "c")
        assert await state(two) == "open"
        with pytest.raises(Overloaded) as refused:
            await two.send_now(a_question(user="d"))
        assert 50 < (refused.value.retry_after or 0) <= 60

    async def test_what_is_in_the_inbox_goes_on_and_a_repeated_question_is_known(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = quick(valkey, tasks)
        waiting = a_question(user="early")
        failing = [await taken(inbox, user) for user in "abc"]
        await inbox.send_now(waiting)
        for delivery in failing:
            await fail(inbox, delivery)
        assert (await inbox.send_now(waiting)).duplicate
        ((_, delivery),) = (await inbox.take("guide", holders("one|a"))).deliveries
        assert not (await inbox.deliveries.done([id_of(delivery)])).stale
        assert await state(inbox) == "open", "it cools down first"

    async def test_one_persons_failures_do_not_open_it_however_many(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks)
        for _ in range(10):
            await fail_for(inbox, "mallory")
        assert await state(inbox) == "closed"

    async def test_nobody_counts_twice_though_a_window_goes_on_meanwhile(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks)
        for _ in range(3):
            await fail_for(inbox, "a", "b")
            await a_window_goes_by(valkey)
        assert await state(inbox) == "closed"
        await fail_for(inbox, "a", "b", "c")
        assert await state(inbox) == "open"

    async def test_a_lane_that_fails_for_ever_does_not_open_it(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks, tries=20)
        delivery = await taken(inbox, "poisoned")
        for _ in range(10):
            await fail(inbox, delivery, "lapsed", retry=True)
            ((_, delivery),) = (await inbox.take("guide", holders("one|a"))).deliveries
        assert await state(inbox) == "closed"

    async def test_failures_that_are_few_beside_what_succeeds_do_not_open_it(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = quick(valkey, tasks)
        for n in range(5):
            await inbox.deliveries.done([id_of(await taken(inbox, f"happy{n}"))])
        await fail_for(inbox, "a", "b", "c", "d")
        assert await state(inbox) == "closed"
        await fail_for(inbox, "e")
        assert await state(inbox) == "open"

    @pytest.mark.parametrize("why", ["closed", "lost"])
    async def test_agents_that_come_and_go_do_not_open_it(self, valkey: Valkey, tasks: Tasks, why: str) -> None:
        inbox = quick(valkey, tasks)
        for delivery in [await taken(inbox, user) for user in "abcdef"]:
            await fail(inbox, delivery, why, retry=True)
        assert await state(inbox) == "closed"

    async def test_an_inbox_without_agents_waits_and_does_not_open(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks, age_seconds=0.05)
        for user in "abcdef":
            await inbox.send_now(a_question(user=user))

        async def expired() -> bool:
            for reclaimed in await inbox.deliveries.lapsed("guide"):
                await inbox.deliveries.conclude(reclaimed)
            return (await inbox.status("guide")).dead_letters == 6

        await eventually(expired, "all are too old")
        assert await state(inbox) == "closed"

    async def test_old_failures_are_forgotten(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks, circuit_window_seconds=0.05)
        await fail_for(inbox, "a", "b")
        circuit = valkey.key("inbox:{guide}:circuit")
        began = int(await valkey.command("HGET", circuit, "began"))
        await valkey.command("HSET", circuit, "began", began - 1000)
        await fail_for(inbox, "c")
        assert await state(inbox) == "closed"

    async def test_stopping_and_answering_speak_not_against_the_agents(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks)
        for user in "abcdef":
            stopped = await inbox.deliveries.stop("guide", (await taken(inbox, user)).message_id, user)
            assert not isinstance(stopped, str)
            await inbox.deliveries.conclude(stopped)
        assert await state(inbox) == "closed"


class TestFull:
    async def test_a_full_inbox_opens_it_and_room_closes_it_at_once(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks, count=10)
        deliveries = [await taken(inbox, f"user{n}") for n in range(10)]
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="late"))
        assert await state(inbox) == "open"
        await inbox.deliveries.done([id_of(deliveries[0])])
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="late"))
        await inbox.deliveries.done([id_of(deliveries[1])])
        assert await state(inbox) == "closed"
        await inbox.send_now(a_question(user="late"))

    async def test_a_user_with_a_tenth_of_it_is_refused_alone(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks, count=20)
        for _ in range(2):
            await inbox.send_now(a_question(user="greedy"))
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="greedy"))
        assert await state(inbox) == "closed"

    async def test_a_message_that_never_fits_does_not_open_it(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks, bytes=2000)
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question("x" * 3000, user="large"))
        assert await state(inbox) == "closed"


class TestHalfOpen:
    async def test_after_the_cool_down_a_few_come_in_one_of_each_asker(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks)
        await fail_for(inbox, "a", "b", "c")
        await cool_down(inbox, valkey)
        await inbox.send_now(a_question(user="mallory"))
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="mallory"))
        for user in ("x", "y", "z"):
            await inbox.send_now(a_question(user=user))
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="one too many"))
        assert await state(inbox) == "half_open"
        await cool_down(inbox, valkey)
        await inbox.send_now(a_question(user="in the next round"))

    async def test_a_success_closes_it(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks)
        await fail_for(inbox, "a", "b", "c")
        await cool_down(inbox, valkey)
        await inbox.deliveries.done([id_of(await taken(inbox, "x"))])
        assert await state(inbox) == "closed"
        await fail_for(inbox, "d", "e")
        assert await state(inbox) == "closed", "it begins to count again"

    async def test_failures_of_half_of_those_let_in_open_it_again(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = quick(valkey, tasks)
        await fail_for(inbox, "a", "b", "c")
        await cool_down(inbox, valkey)
        await fail_for(inbox, "mallory")
        assert await state(inbox) == "half_open", "one person's bad question keeps nobody out"
        await fail_for(inbox, "x")
        assert await state(inbox) == "open"
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="y"))


async def test_each_change_is_told_to_one_instance(valkey: Valkey, tasks: Tasks) -> None:
    one, two = quick(valkey, tasks), quick(valkey, tasks, instance_id="two")

    async def told(inbox: Inbox, name: str) -> tuple[str, str] | None:
        return await inbox.count_consumers("guide", name, 1, 60)

    assert await told(one, "one") is None
    await fail_for(one, "a", "b", "c")
    assert await told(two, "two") == ("open", "failing")
    assert await told(one, "one") is None
    await cool_down(one, valkey)
    assert await told(one, "one") == ("half_open", "failing")
    await one.deliveries.done([id_of(await taken(one, "x"))])
    assert await told(one, "one") == ("closed", "")
    assert await told(two, "two") is None


async def test_what_was_acknowledged_as_held_is_refused_by_no_circuit(tasks: Tasks) -> None:
    with ValkeyServer() as server:
        valkey = await Valkey.connect(server.url, timeout=0.5)
        inbox = quick(valkey, tasks, keep=Keep(after=0.1))
        await fail_for(inbox, "a", "b", "c")
        server.hang()
        told: list[object] = []
        inbox.send(a_question(user="d"), told.append)
        await until(lambda: len(told) == 1, "it is told to be held")
        server.resume()
        await until(lambda: len(told) == 2, "it is queued", 10)
        assert [type(word) for word in told] == [Held, Queued]
        assert await state(inbox) == "open"
        with pytest.raises(Overloaded):
            await inbox.send_now(a_question(user="e"))
        await valkey.close()
