"""Who takes what where several agents on several instances wait: shares, and other takers for further attempts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, Inbox
from smart_city.post_office.inbox.desks import LEFT_SECONDS, Desk
from smart_city.post_office.inbox.questions import DeliveryId
from smart_city.post_office.inbox.store import Taken
from tests.support.inboxes import a_question, an_inbox, holders, text_of, texts
from tests.support.offices import Agent, Office, an_office, attached
from tests.support.waiting import eventually, until


async def counted(office: Office, consumers: int) -> None:
    """Waits until all instances know how many consumers there are."""

    async def known() -> bool:
        return (await office.inbox.status("guide")).consumers == consumers

    await eventually(known, f"{consumers} consumers are counted")


async def given_back(office: Office, agent: Agent, delivery: Delivery) -> None:
    agent.held.discard(delivery.delivery_id)
    await office.answers.failed(delivery.delivery_id, "not me")


class TestShares:
    async def test_two_idle_agents_on_two_instances_share_a_burst(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks) as one, an_office(valkey, tasks, name="two") as two:
            agents = [attached(one, "a"), attached(two, "b")]
            await counted(one, 2)
            questions = [a_question(user=f"user{n}") for n in range(40)]
            await asyncio.gather(*(one.inbox.send_now(question) for question in questions))
            await until(lambda: sum(len(agent.given) for agent in agents) == 40, "all are taken")
            assert min(len(agent.given) for agent in agents) >= 8

    async def test_an_instance_takes_by_how_many_agents_it_has(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await inbox.count_consumers("guide", "one", 3, 60)
        await inbox.count_consumers("guide", "two", 1, 60)
        for n in range(8):
            await inbox.send_now(a_question(user=f"user{n}"))
        taken = await inbox.take("guide", holders("two|a") * 20)
        assert (len(taken.deliveries), taken.has_more, taken.is_left) == (2, False, True)
        taken = await inbox.take("guide", holders("one|a") * 20, consumers=3)
        assert len(taken.deliveries) == 5
        taken = await inbox.take("guide", holders("two|a") * 20, is_eager=True)
        assert (len(taken.deliveries), taken.has_more, taken.is_left) == (1, False, False)

    async def test_what_nobody_else_has_room_for_is_taken_all_the_same(self, valkey: Valkey, tasks: Tasks) -> None:
        async with (
            an_office(valkey, tasks, poll_seconds=30) as one,
            an_office(valkey, tasks, name="two", poll_seconds=30) as two,
        ):
            await one.inbox.count_consumers("guide", "one", 1, 60)
            await one.inbox.count_consumers("guide", "two", 1, 60)
            attached(two, "busy", most=0)
            agent = attached(one)
            questions = [a_question(user=f"user{n}") for n in range(30)]
            await asyncio.gather(*(one.inbox.send_now(question) for question in questions))
            await agent.next(30)

    async def test_an_instance_on_its_own_leaves_nothing_to_agents_without_room(
        self, valkey: Valkey, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with an_office(valkey, tasks) as office:
            for n in range(8):
                attached(office, f"busy {n}", most=0)
            agent, take, takes = attached(office), office.inbox.take, list[Taken]()
            await counted(office, 9)

            async def remembered(*args: Any, **how: Any) -> Taken:
                takes.append(await take(*args, **how))
                return takes[-1]

            monkeypatch.setattr(office.inbox, "take", remembered)
            questions = [a_question(user=f"user{n}") for n in range(8)]
            await asyncio.gather(*(office.inbox.send_now(question) for question in questions))
            await agent.next(8)
            assert not any(taken.is_left for taken in takes)

    async def test_an_agent_that_pauses_is_left_nothing(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks) as one, an_office(valkey, tasks, name="two") as two:
            attached(one)
            pausing = attached(two, "pausing")
            await counted(one, 2)
            pausing.is_paused = True
            await counted(one, 1)

    async def test_takes_that_bring_nothing_change_no_turn(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, poll_seconds=30) as office:
            agents = [attached(office, name) for name in "ab"]
            for n in range(1, 9):
                await office.ask(user=f"user{n}")
                await until(lambda n=n: sum(len(agent.given) for agent in agents) == n, "it is taken")  # type: ignore[misc]
                office.dispatcher.has_room("guide")
                await asyncio.sleep(0.02)
            assert [len(agent.given) for agent in agents] == [4, 4]

    def test_what_was_left_once_gives_nobody_more_than_a_share_later(self) -> None:
        desk = Desk("guide")
        assert 0 < desk.leaves() <= LEFT_SECONDS
        desk.leaves_nothing()
        assert desk.rest_at is None
        assert not desk.may_have_the_rest()


class TestOtherTakers:
    async def test_a_further_attempt_goes_to_another_agent_on_another_instance(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        async with an_office(valkey, tasks) as one, an_office(valkey, tasks, name="two") as two:
            first = attached(one, "first")
            await one.ask("hard")
            delivery = await first.next()
            second = attached(two, "second")
            await counted(one, 2)
            await given_back(one, first, delivery)
            assert (await second.next()).attempt == 2
            assert len(first.given) == 1

    async def test_on_one_instance_too(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, first_wait_seconds=0.01) as office:
            await self._pass_to_and_fro(office, [attached(office, name) for name in "ab"])

    async def _pass_to_and_fro(self, office: Office, agents: list[Agent]) -> None:
        await counted(office, 2)
        question = await office.ask("hard")
        await until(lambda: any(agent.given for agent in agents), "somebody has it")
        last = next(agent for agent in agents if agent.given)
        other = next(agent for agent in agents if agent is not last)
        await given_back(office, last, last.given[0])
        assert (await other.next()).message_id == question.message_id
        await given_back(office, other, other.given[0])
        assert (await last.next(2)).attempt == 3

    async def test_an_agent_that_hangs_does_not_get_it_again(self, valkey: Valkey, tasks: Tasks) -> None:
        async with (
            an_office(valkey, tasks, lease_seconds=0.2) as one,
            an_office(valkey, tasks, name="two", lease_seconds=0.2) as two,
        ):
            hung = attached(one, "hung", most=1000)
            await one.ask("hard")
            await hung.next()
            other = attached(two, "other")
            await counted(one, 2)
            await other.next()
            assert [text_of(delivery) for delivery in hung.given] == ["hard"]

    async def test_others_do_not_wait_behind_it(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, other_taker_seconds=60)
        await inbox.count_consumers("guide", "one", 2, 60)
        await self._fail_first(inbox)
        await inbox.send_now(a_question("easy", user="bob"))
        taken = await inbox.take("guide", holders("one|a", "one|a"), is_eager=True)
        assert texts(taken) == ["easy"]
        assert not taken.has_more
        assert taken.due_in is not None
        assert 50 < taken.due_in <= 60
        assert texts(await inbox.take("guide", holders("one|a", "one|b"), is_eager=True)) == ["hard"]

    async def test_without_another_agent_it_is_tried_again_at_once(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, other_taker_seconds=60)
        await inbox.count_consumers("guide", "one", 1, 60)
        await self._fail_first(inbox)
        assert texts(await inbox.take("guide", holders("one|a"))) == ["hard"]

    async def test_if_no_other_agent_has_room_the_last_one_gets_it_after_a_moment(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        async with an_office(valkey, tasks, other_taker_seconds=0.3) as office:
            agent, busy = attached(office), Agent("busy", most=0)
            office.dispatcher.attach("guide", busy)
            await counted(office, 2)
            await office.ask("hard")
            await given_back(office, agent, await agent.next())
            assert (await agent.next(2)).attempt == 2

    async def test_many_that_are_passed_over_do_not_make_anybody_spin(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, other_taker_seconds=60, circuit_failures=1000)
        await inbox.count_consumers("guide", "one", 2, 60)
        for n in range(100):
            await self._fail_first(inbox, user=f"user{n}")
        for _ in range(3):
            taken = await inbox.take("guide", holders("one|a") * 128, is_eager=True)
            assert (taken.deliveries, taken.has_more) == ([], False)
        others = await inbox.take("guide", holders("one|b") * 128, is_eager=True)
        assert texts(others) == ["hard"] * 100

    async def _fail_first(self, inbox: Inbox, user: str = "alice") -> None:
        await inbox.send_now(a_question("hard", user=user))
        while not (taken := await inbox.take("guide", holders("one|a"), is_eager=True)).deliveries:
            assert taken.is_left, "only so many are passed over at once"
        ((_, delivery),) = taken.deliveries
        reclaimed = await inbox.deliveries.take_back(DeliveryId.parse(delivery.delivery_id), "failed: it", "try")
        await inbox.deliveries.conclude(reclaimed)
