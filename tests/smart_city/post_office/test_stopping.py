"""Askers who want no answer any more: wherever the question is, it ends once, and its agent hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from foundations.errors import StaleDelivery, Unavailable
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, Question
from smart_city.post_office.inbox.questions import handed_on
from smart_city.post_office.inbox.store import Taken
from tests.support.inboxes import id_of
from tests.support.offices import Agent, Office, an_office, attached
from tests.support.waiting import eventually, until

ALICE = "connection:c-alice"


@pytest.fixture
async def office(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Office]:
    async with an_office(valkey, tasks) as started:
        yield started


async def alices_logs() -> Iterable[str]:
    return [ALICE, "user:alice"]


async def stop(office: Office, question: Question | Delivery, user: str = "alice") -> str:
    return await office.answers.stopping.stop(user, question.message_id, alices_logs)


async def said(office: Office) -> list[tuple[str, str]]:
    """What Alice was told: streams, and codes of errors."""
    frames = await office.logged(ALICE)
    return [(frame.get("stream", ""), frame.get("error", {}).get("code", "")) for frame in frames]


async def depth(office: Office) -> int:
    return (await office.inbox.status("guide")).depth


class TestWhereverItIs:
    async def test_a_question_that_waits_is_taken_out_and_its_lane_goes_on(self, office: Office) -> None:
        first, second = await office.ask("1"), await office.ask("2")
        assert await stop(office, first) == "stopped"
        assert await said(office) == [("error", "stopped")]
        (frame,) = await office.logged(ALICE)
        assert (frame["in_reply_to"], frame["retrying"]) == (first.message_id, False)
        agent = attached(office)
        assert (await agent.next()).message_id == second.message_id

    async def test_one_in_the_middle_of_its_lane_leaves_the_others_as_they_are(self, office: Office) -> None:
        _, second, _ = [await office.ask(text) for text in "123"]
        assert await stop(office, second) == "stopped"
        agent = attached(office)
        for n in (1, 2):
            await office.answers.done([(await agent.next(n)).delivery_id])
        assert agent.heard == ["1", "3"]

    @pytest.mark.parametrize("word", ["reply", "working", "failed", "forward", "done"])
    async def test_the_agent_hears_of_it_and_has_nothing_more_to_say(self, office: Office, word: str) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        assert await stop(office, delivery) == "stopped"
        await until(lambda: agent.stopped == [delivery.delivery_id], "the agent hears of it")
        words = {
            "reply": lambda: office.answers.reply(delivery.delivery_id, "guide", {"message": "late"}),
            "working": lambda: office.answers.working(delivery.delivery_id),
            "failed": lambda: office.answers.failed(delivery.delivery_id, "late"),
            "forward": lambda: office.answers.forward(delivery.delivery_id, "pillar:content"),
            "done": lambda: office.answers.done([delivery.delivery_id]),
        }
        with pytest.raises(StaleDelivery):
            await words[word]()
        assert await said(office) == [("error", "stopped")]
        assert await depth(office) == 0
        assert office.counters.dead_letters == (await office.inbox.status("guide")).dead_letters == 0

    async def test_an_agent_on_another_instance_hears_of_it(self, valkey: Valkey, tasks: Tasks, office: Office) -> None:
        async with an_office(valkey, tasks, name="two") as two:
            agent = attached(two)
            await office.ask()
            delivery = await agent.next()
            assert await stop(office, delivery) == "stopped"
            await until(lambda: agent.stopped == [delivery.delivery_id], "the agent hears of it")

    async def test_one_on_its_way_to_an_agent_reaches_it_no_more(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        take, watching = office.inbox.take, attached(office, "watching", most=0)

        async def take_slowly(*args: Any, **how: Any) -> Taken:
            taken = await take(*args, **how)
            for _, delivery in taken.deliveries:
                assert await stop(office, delivery) == "stopped"
                await until(lambda: delivery.delivery_id in watching.stopped, "the stop overtakes the delivery")  # noqa: B023
            return taken

        with monkeypatch.context() as slow:
            slow.setattr(office.inbox, "take", take_slowly)
            agent = attached(office)
            await office.ask()
            await until(lambda: bool(watching.stopped), "it was taken and stopped")
        question = await office.ask()
        assert (await agent.next()).message_id == question.message_id

    async def test_a_stop_that_the_bus_loses_meets_the_next_word_of_the_agent(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        office.subscriptions.leave("inbox:{guide}")
        await stop(office, delivery)
        with pytest.raises(StaleDelivery):
            await office.answers.working(delivery.delivery_id)
        assert agent.stopped == []

    async def test_an_answer_in_parts_ends_with_the_text_so_far(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "once upon"}, stream="delta")

        async def is_shown() -> bool:
            return any(frame["payload"]["message"] for frame in await office.open_answers(ALICE))

        await eventually(is_shown, "the part is told")
        assert await stop(office, delivery) == "stopped"
        start, end = await office.logged(ALICE)
        assert (start["stream"], end["stream"], end["error"]["code"]) == ("start", "error", "stopped")
        assert start["message_id"] == end["message_id"]
        assert end["payload"] == {"message": "once upon"}
        assert await office.open_answers(ALICE) == []
        with pytest.raises(StaleDelivery):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": " a time"}, stream="delta")
        assert office.answers.under_way == 0

    async def test_one_between_two_attempts_gets_no_further_one(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        for n in (1, 2):
            await office.answers.failed((await agent.next(n)).delivery_id, "not now")
        delivery = agent.given[0]  # the third waits for 0.2 s
        assert await stop(office, delivery) == "stopped"
        assert await depth(office) == 0

    async def test_one_that_is_just_given_back_ends_stopped_and_not_again(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        reclaimed = await office.inbox.deliveries.take_back(id_of(delivery), "failed: it", "try")
        assert await stop(office, delivery) == "stopped"
        await office.answers.returns.end(reclaimed)
        assert await said(office) == [("start", ""), ("error", "internal"), ("error", "stopped")]
        first, last = (await office.logged(ALICE))[1:]
        assert (first["retrying"], last["retrying"]) == (True, False)
        assert first["message_id"] != last["message_id"], "each start has one end"
        assert await depth(office) == 0

    async def test_one_on_its_way_to_another_inbox_is_found_there(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        leaving = await office.inbox.deliveries.leave(id_of(delivery), "pillar:content")
        stopping = asyncio.create_task(stop(office, delivery))
        await office.inbox.send_now(handed_on(leaving, "pillar:content"))
        await office.inbox.deliveries.close(id_of(delivery))
        assert await stopping == "stopped"
        assert (await office.inbox.status("pillar:content")).depth == 0

    async def test_one_that_stays_on_its_way_is_to_be_stopped_again(
        self, office: Office, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("smart_city.post_office.answers.stopping.LOOK_SECONDS", 0.001)
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        await office.inbox.deliveries.leave(id_of(delivery), "pillar:content")
        with pytest.raises(Unavailable):
            await stop(office, delivery)


class TestOutcomes:
    async def test_only_who_asked_may_stop(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        assert await stop(office, delivery, user="mallory") == "unknown"
        await office.answers.working(delivery.delivery_id)

    async def test_stopping_twice_is_stopping_once(self, office: Office) -> None:
        question = await office.ask()
        assert [await stop(office, question) for _ in range(2)] == ["stopped", "stopped"]
        assert await said(office) == [("error", "stopped")]

    async def test_what_is_answered_is_finished(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "done"})
        assert await stop(office, delivery) == "finished"

    async def test_what_proves_answered_is_finished(self, office: Office) -> None:
        agent = attached(office)
        await office.ask()
        delivery = await agent.next()
        standing = await office.inbox.deliveries.check(id_of(delivery))
        office.answers.close()
        await office.answers._answer(standing, "guide", b'{"message":"done"}', "")
        assert await stop(office, delivery) == "finished"
        assert await said(office) == [("", "")]

    async def test_what_never_was_is_unknown(self, office: Office) -> None:
        assert await office.answers.stopping.stop("alice", "01938f3a", alices_logs) == "unknown"

    async def test_an_answer_and_a_stop_at_once_are_one_final_word(self, office: Office) -> None:
        agent = Agent(most=100)
        office.dispatcher.attach("guide", agent)
        for n in range(20):
            await office.ask(conversation=f"c{n}")
        await agent.next(20)
        replies = [office.answers.reply(each.delivery_id, "guide", {"message": "!"}) for each in agent.given]
        stops = [stop(office, each) for each in agent.given]
        outcomes = await asyncio.gather(*replies, *stops, return_exceptions=True)
        told = await office.logged(ALICE)
        assert len({frame["in_reply_to"] for frame in told}) == len(told) == 20
        stopped = sum(frame.get("error", {}).get("code") == "stopped" for frame in told)
        assert outcomes[20:].count("stopped") == stopped
        assert await depth(office) == 0
