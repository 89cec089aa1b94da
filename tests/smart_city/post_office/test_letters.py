"""Dead letters: looked at in pages, put back once, dropped; and what their askers hear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from uuid import UUID

import pytest

from foundations.errors import InvalidArgument, NotFound, Overloaded, StaleDelivery
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, Question, Queued
from smart_city.post_office.inbox.letters import Cursor, DeadLetter
from tests.support.inboxes import id_of
from tests.support.offices import Agent, Office, an_office, attached
from tests.support.waiting import eventually

ALICE = "connection:c-alice"


@pytest.fixture
async def office(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Office]:
    async with an_office(valkey, tasks) as started:
        yield started


async def dead(office: Office, agent: Agent, text: str = "why?", **more: object) -> Question:
    """A question that an agent gave up."""
    question = await office.ask(text, **more)
    delivery = await agent.next(len(agent.given) + 1)
    assert delivery.message_id == question.message_id
    await office.answers.failed(delivery.delivery_id, "no idea", retry=False)
    agent.held.clear()
    return question


async def letters(office: Office, **more: object) -> list[DeadLetter]:
    return list(await office.inbox.letters.page("guide", **{"limit": 10, "body_bytes": 10_000} | more))  # type: ignore[arg-type]


class TestLooking:
    async def test_a_letter_tells_why_when_how_often_and_whose(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent, "why?", conversation="c1")
        (letter,) = await letters(office)
        assert (letter.message_id, letter.user, letter.route.conversation_id) == (question.message_id, "alice", "c1")
        assert (letter.why, letter.attempts, letter.hops) == ("failed: no idea", 1, 0)
        assert 0 <= letter.died_at - letter.asked_at < 60
        assert (letter.body, letter.size) == (question.body, len(question.body))

    async def test_pages_go_on_where_the_one_before_ended(self, office: Office) -> None:
        agent = attached(office)
        asked = [(await dead(office, agent, user=f"user{n}")).message_id for n in range(7)]
        found: list[str] = []
        after = None
        while page := await letters(office, limit=3, after=after):
            found += [letter.message_id for letter in page]
            after = Cursor.parse(str(page[-1].cursor))
            if len(found) == 3:
                await office.inbox.letters.drop("guide", found[-1])
        assert found == asked[::-1]

    async def test_large_bodies_are_left_out(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent, "x" * 5000)
        (letter,) = await letters(office, body_bytes=4096)
        assert (letter.body, letter.size) == (b"", len(question.body))

    def test_a_cursor_that_never_was_one_is_refused(self) -> None:
        for text in ("", "1", ".x", "x.y", "1."):
            with pytest.raises(InvalidArgument):
                Cursor.parse(text)


class TestReapersThatDie:
    """The asker's log knows the last error already when another reaper comes: it is no answer."""

    @pytest.mark.parametrize("parts", [[], ["ha", "lf"]])
    async def test_a_letter_is_written_though_its_reaper_died_once_the_asker_was_told(
        self, valkey: Valkey, tasks: Tasks, parts: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with an_office(valkey, tasks, reclaim_seconds=0.1) as office:
            agent = attached(office)
            question = await office.ask()
            delivery = await agent.next()
            for stream, payload in [("start", {}), *(("delta", {"message": part}) for part in parts)] if parts else []:
                await office.answers.reply(delivery.delivery_id, "guide", payload, stream=stream)  # type: ignore[arg-type]
            with monkeypatch.context() as killed:
                killed.setattr(office.inbox.deliveries, "conclude", _dies)
                with pytest.raises(MemoryError):
                    await office.answers.failed(delivery.delivery_id, "no idea", retry=False)
            await eventually(lambda: is_dead(office), "another reaper ends it")
            (letter,) = await letters(office)
            assert (letter.message_id, letter.why) == (question.message_id, "failed: no idea")
            (error,) = [frame for frame in await office.logged(ALICE) if frame["stream"] == "error"]
            assert (error["retrying"], UUID(error["message_id"]).version) == (False, 7)

    async def test_what_was_answered_meanwhile_leaves_no_letter(
        self, valkey: Valkey, tasks: Tasks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with an_office(valkey, tasks, reclaim_seconds=0.1) as office:
            agent = attached(office)
            await office.ask()
            delivery = await agent.next()
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            with monkeypatch.context() as killed:
                killed.setattr(office.inbox.deliveries, "close", _dies)
                with pytest.raises(MemoryError):
                    await office.answers.reply(delivery.delivery_id, "guide", {"message": "because"}, stream="end")
            await eventually(lambda: _is_forgotten(office), "nothing is kept of the answer in parts")
            for _ in range(2):
                with suppress(MemoryError, StaleDelivery), monkeypatch.context() as killed:
                    killed.setattr(office.inbox.deliveries, "conclude", _dies)
                    await office.answers.failed(delivery.delivery_id, "too late", retry=False)
            await eventually(lambda: _is_empty(office), "another reaper ends it")
            assert await letters(office) == []
            assert [frame["stream"] for frame in await office.logged(ALICE)] == ["start", "end"]


async def _dies(*_: object, **__: object) -> bool:
    raise MemoryError("this instance dies here")


async def is_dead(office: Office) -> bool:
    return (await office.inbox.status("guide")).dead_letters == 1


async def _is_empty(office: Office) -> bool:
    return (await office.inbox.status("guide")).depth == 0


async def _is_forgotten(office: Office) -> bool:
    return not await office.valkey.command("HLEN", office.valkey.key(f"log:{{{ALICE}}}:drafts"))


class TestPuttingBack:
    async def test_its_attempts_begin_again_and_its_delivery_ids_do_not(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent, conversation="c1")
        first = agent.given[0]
        assert await office.inbox.letters.requeue("guide", question.message_id) == Queued(question.message_id)
        again = await agent.next(2)
        assert (again.message_id, again.attempt, again.body) == (question.message_id, 1, question.body)
        assert id_of(again).serial > id_of(first).serial
        assert await letters(office) == []

    async def test_the_answer_reaches_an_asker_who_was_told_of_an_error(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent)
        await office.inbox.letters.requeue("guide", question.message_id)
        again = await agent.next(2)
        await office.answers.reply(again.delivery_id, "guide", {"message": "because"})
        error, answer = await office.logged(ALICE)
        assert (error["stream"], error["error"]["code"], error["retrying"]) == ("error", "internal", False)
        assert answer["payload"] == {"message": "because"}
        assert error["in_reply_to"] == answer["in_reply_to"] == question.message_id

    async def test_a_further_attempt_of_its_new_life_is_not_taken_for_answered(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent)
        await office.inbox.letters.requeue("guide", question.message_id)
        await office.answers.failed((await agent.next(2)).delivery_id, "once more")
        third = await agent.next(3)
        assert third.attempt == 2
        await office.answers.reply(third.delivery_id, "guide", {"message": "because"})
        assert [frame["payload"] for frame in await office.logged(ALICE)][-1] == {"message": "because"}

    async def test_twice_is_once_also_when_it_is_answered_already(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent)
        requeue = office.inbox.letters.requeue
        assert await requeue("guide", question.message_id) == Queued(question.message_id)
        assert await requeue("guide", question.message_id) == Queued(question.message_id, duplicate=True)
        await office.answers.reply((await agent.next(2)).delivery_id, "guide", {"message": "because"})
        assert await requeue("guide", question.message_id) == Queued(question.message_id, duplicate=True)
        assert len(agent.given) == 2

    async def test_it_may_die_again_and_be_put_back_again(self, office: Office) -> None:
        agent = attached(office)
        question = await dead(office, agent)
        for life in (1, 2):
            await office.inbox.letters.requeue("guide", question.message_id)
            delivery: Delivery = await agent.next(1 + life)
            await office.answers.failed(delivery.delivery_id, "still not", retry=False)
            (letter,) = await letters(office)
            assert (letter.route.life, letter.attempts) == (life, 1)
        codes = [frame["error"]["code"] for frame in await office.logged(ALICE)]
        assert codes == ["internal"] * 3

    async def test_it_may_be_handed_on_as_often_as_any(self, office: Office) -> None:
        agent, other = attached(office), attached(office, "other", channel="pillar:content")
        question = await office.ask()
        await office.answers.forward((await agent.next()).delivery_id, "pillar:content")
        await office.answers.forward((await other.next()).delivery_id, "guide")
        await office.answers.failed((await agent.next(2)).delivery_id, "no", retry=False)
        await office.inbox.letters.requeue("guide", question.message_id)
        await office.answers.forward((await agent.next(3)).delivery_id, "pillar:content")
        assert (await other.next(2)).message_id == question.message_id

    async def test_an_expired_question_goes_back_into_its_lane(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, age_seconds=0.05) as office:
            question = await office.ask(conversation="c1")
            agent = Agent()
            while not (found := await letters(office)):
                pass
            assert found[0].why == "expired"
            office.dispatcher.attach("guide", agent)
            await office.inbox.letters.requeue("guide", question.message_id)
            assert (await agent.next()).message_id == question.message_id
            lane = valkey.key("inbox:{guide}:lane:alice/c1")
            assert await valkey.command("LLEN", lane) == 1

    async def test_a_full_inbox_takes_none_back_and_the_letter_stays(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, count=1) as office:
            agent = attached(office)
            question = await dead(office, agent)
            await office.ask("in between", user="bob")
            with pytest.raises(Overloaded):
                await office.inbox.letters.requeue("guide", question.message_id)
            assert len(await letters(office)) == 1

    async def test_what_there_is_not_cannot_be_put_back_or_dropped(self, office: Office) -> None:
        for act in (office.inbox.letters.requeue, office.inbox.letters.drop):
            with pytest.raises(NotFound):
                await act("guide", "nothing")


async def test_a_dropped_letter_is_gone_and_its_bytes_are(office: Office, valkey: Valkey) -> None:
    agent = attached(office)
    question = await dead(office, agent)
    await office.inbox.letters.drop("guide", question.message_id)
    assert await letters(office) == []
    assert await valkey.command("HGET", valkey.key("inbox:{guide}:meta"), "dead_bytes") == b"0"
    with pytest.raises(NotFound):
        await office.inbox.letters.drop("guide", question.message_id)
