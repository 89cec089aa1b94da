"""Who is served, in which order and how soon; what becomes of deliveries whose taker or instance went."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from foundations.errors import StaleDelivery, Unavailable
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.answers.askers import final_key
from smart_city.post_office.inbox.dispatch import Dispatcher
from smart_city.post_office.log import Entry
from tests.support.inboxes import a_question, holders, id_of, text_of
from tests.support.offices import Agent, Office, an_office, attached
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until

ALICE = "connection:c-alice"


@pytest.fixture
async def office(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Office]:
    async with an_office(valkey, tasks) as started:
        yield started


@pytest.mark.on_both_loops
class TestServing:
    async def test_what_waits_is_delivered_to_whoever_comes(self, office: Office) -> None:
        await office.ask("waiting")
        agent = attached(office)
        assert text_of(await agent.next()) == "waiting"
        assert office.counters.deliveries == 1

    async def test_a_question_wakes_a_waiting_taker_at_once(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, poll_seconds=30) as office:
            agent = attached(office)
            await office.ask("1")
            assert text_of(await agent.next()) == "1"

    async def test_a_question_on_another_instance_wakes_takers_here(self, valkey: Valkey, tasks: Tasks) -> None:
        async with (
            an_office(valkey, tasks, poll_seconds=30) as office,
            an_office(valkey, tasks, name="two") as two,
        ):
            agent = attached(office)
            await two.ask("from two")
            assert text_of(await agent.next()) == "from two"

    async def test_a_lost_wake_up_is_made_good_by_asking(self, office: Office) -> None:
        agent = attached(office)
        await office.ask("first")
        await agent.next()
        office.subscriptions.leave("inbox:{guide}")
        await office.ask("second", user="bob")
        assert text_of(await agent.next(2)) == "second"

    async def test_takers_are_served_in_turn(self, office: Office) -> None:
        first, second = attached(office, "a"), attached(office, "b")
        for n in range(10):
            await office.ask(user=f"user{n}")
        await until(lambda: len(first.given) + len(second.given) == 10, "all are delivered")
        assert abs(len(first.given) - len(second.given)) <= 2

    async def test_a_backlog_is_shared_out_evenly(self, office: Office) -> None:
        for n in range(40):
            await office.ask(user=f"user{n}")
        agents = [Agent(name) for name in "abcd"]
        for agent in agents:
            office.dispatcher.attach("guide", agent)
        await until(lambda: sum(len(agent.given) for agent in agents) == 40, "all are delivered")
        assert all(len(agent.given) >= 5 for agent in agents[1:])

    async def test_nobody_gets_more_than_there_is_room_for(self, office: Office) -> None:
        agent = attached(office, most=2)
        for n in range(5):
            await office.ask(user=f"user{n}")
        await agent.next(2)
        for served in (3, 4, 5):
            delivery = agent.given[0 if served == 3 else served - 3]
            agent.held.discard(delivery.delivery_id)
            await office.answers.done([delivery.delivery_id])
            office.dispatcher.has_room("guide")
            await agent.next(served)
            assert len(agent.held) == 2

    async def test_a_lane_goes_on_when_its_head_is_settled(self, office: Office) -> None:
        agent = attached(office)
        for text in ("1", "2", "3"):
            await office.ask(text)
        for n in range(1, 4):
            delivery = await agent.next(n)
            assert len(agent.given) == n, "one in flight"
            await office.answers.done([delivery.delivery_id])
        assert agent.heard == ["1", "2", "3"]

    async def test_channels_have_desks_of_their_own(self, office: Office) -> None:
        guide, content = attached(office), attached(office, "content", channel="pillar:content")
        await office.ask("to content", channel="pillar:content")
        await content.next()
        assert guide.given == []

    async def test_consumers_are_counted_on_all_instances(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks) as one, an_office(valkey, tasks, name="two") as two:
            agent = attached(one)
            attached(two, "b")
            attached(two, "c")
            assert (one.dispatcher.consumers(), two.dispatcher.consumers()) == ({"guide": 1}, {"guide": 2})
            await eventually(lambda: counts(one, 3), "all three are counted")
            one.dispatcher.detach("guide", agent)
            await eventually(lambda: counts(two, 2), "one has left")

    async def test_a_taker_may_have_a_lease_of_its_own(self, office: Office) -> None:
        attached(office, lease_seconds=300)
        question = await office.ask()
        leases = office.valkey.key("inbox:{guide}:leases")

        async def has_long_lease() -> bool:
            end = await office.valkey.command("ZSCORE", leases, question.message_id)
            seconds, _ = await office.valkey.command("TIME")
            return end is not None and end / 1000 - int(seconds) > 200

        await eventually(has_long_lease, "it is leased for long")


class TestGoneTakers:
    async def test_what_a_taker_leaves_behind_is_given_to_another_at_once(self, office: Office) -> None:
        leaving = attached(office, "leaving")
        await office.ask("1")
        first = await leaving.next()
        staying = attached(office, "staying")
        office.dispatcher.detach("guide", leaving)
        second = await staying.next()
        assert (second.message_id, second.attempt) == (first.message_id, 2)
        with pytest.raises(StaleDelivery):
            await office.answers.done([first.delivery_id])

    async def test_leaving_counts_as_a_try(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, tries=1) as office:
            agent = attached(office)
            await office.ask()
            await agent.next()
            office.dispatcher.detach("guide", agent)
            await eventually(lambda: is_dead(office), "the only try was it")
            (error,) = await office.logged(ALICE)
            assert (error["stream"], error["retrying"], error["error"]["code"]) == (
                "error",
                False,
                "unavailable",
            )

    async def test_leaving_a_drained_gateway_is_no_try(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, tries=1) as office:
            for n in range(1, 4):
                agent = attached(office, f"agent{n}")
                if n == 1:
                    await office.ask()
                assert (await agent.next()).attempt == n
                office.dispatcher.detach("guide", agent, counts=False)

    async def test_leaving_in_the_middle_of_an_answer_tells_the_asker(self, office: Office) -> None:
        leaving = attached(office, "leaving")
        await office.ask()
        first = await leaving.next()
        await office.answers.reply(first.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(first.delivery_id, "guide", {"message": "hal"}, stream="delta")
        staying = attached(office, "staying")
        office.dispatcher.detach("guide", leaving)
        second = await staying.next()
        await office.answers.reply(second.delivery_id, "guide", {"message": "whole"})
        start, error, answer = await office.logged(ALICE)
        assert (error["stream"], error["retrying"]) == ("error", True)
        assert error["message_id"] == start["message_id"] != answer["message_id"]
        assert await office.open_answers(ALICE) == []

    async def test_a_waiting_call_may_leave_and_keep_what_it_got(self, office: Office) -> None:
        call = attached(office, "consumer", most=1, stays=True)
        await office.ask()
        delivery = await call.next()
        office.dispatcher.detach("guide", call)
        office.dispatcher.lapsed("one")
        await office.ask("another", user="bob")
        await attached(office, "other").next()
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "kept"})

    async def test_a_taker_that_fails_gives_its_delivery_to_another(self, office: Office) -> None:
        broken = attached(office, "broken")
        broken.is_broken = True
        await office.ask("1")
        await until(lambda: broken.refused > 0, "it was offered")
        sound = attached(office, "sound")
        office.dispatcher.detach("guide", broken)
        assert text_of(await sound.next()) == "1"

    async def test_detaching_twice_does_nothing(self, office: Office) -> None:
        agent = attached(office)
        office.dispatcher.detach("guide", agent)
        office.dispatcher.detach("guide", agent)
        assert not office.dispatcher.consumers()

    async def test_closing_hands_everything_back_without_a_try(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, name="two", tries=1) as two:
            async with an_office(valkey, tasks, tries=1) as one:
                agent = attached(one)
                await one.ask("1")
                await agent.next()
            heir = attached(two)
            delivery = await heir.next()
            assert (text_of(delivery), delivery.attempt) == ("1", 2)
            await eventually(lambda: counts(two, 1), "only the heir is counted")

    async def test_what_sockets_gave_back_right_before_closing_is_not_lost(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, name="two", tries=1) as two:
            closing = Tasks("closing")
            async with an_office(valkey, closing, tries=1) as one:
                agents = [attached(one, f"agent{n}", most=1) for n in range(5)]
                for n in range(5):
                    await one.ask(user=f"user{n}")
                await until(lambda: all(agent.given for agent in agents), "each has one")
                for agent in agents:
                    one.dispatcher.detach("guide", agent, counts=False)
            await closing.close()
            heir = attached(two)
            await heir.next(5)
            assert {delivery.attempt for delivery in heir.given} == {2}


class TestReaping:
    async def test_a_taker_that_hangs_loses_its_delivery_after_the_lease(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, lease_seconds=0.1) as office:
            hanging = attached(office, "hanging", most=1)
            await office.ask()
            await hanging.next()
            other = attached(office, "other")
            assert (await other.next()).attempt == 2

    async def test_working_keeps_a_delivery(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, lease_seconds=0.6) as office:
            agent = attached(office)
            await office.ask()
            delivery = await agent.next()
            await office.answers.working(delivery.delivery_id, 30)
            ends_at = asyncio.get_running_loop().time() + 1.2
            await until(lambda: asyncio.get_running_loop().time() > ends_at, "two leases have passed")
            await office.answers.done([delivery.delivery_id])
            assert len(agent.given) == 1

    async def test_the_deliveries_of_a_lost_instance_are_given_to_others(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks) as office:
            for n in range(200):
                await office.ask(user=f"user{n}")
            taken = await office.inbox.take("guide", holders(*["lost#1|agent"] * 200))
            assert len(taken.deliveries) == 200
            agent = attached(office, most=500)
            office.dispatcher.lapsed("lost#1")
            await agent.next(200)
            assert {delivery.attempt for delivery in agent.given} == {2}

    async def test_a_lost_instances_open_answers_get_one_error_each(self, valkey: Valkey, tasks: Tasks) -> None:
        """Two instances notice it at the same moment."""
        async with an_office(valkey, tasks) as one, an_office(valkey, tasks, name="two") as two:
            await one.ask()
            first = (await one.inbox.take("guide", holders("lost#1|agent"))).deliveries[0][1]
            await one.answers.reply(first.delivery_id, "guide", {}, stream="start")
            one.dispatcher.lapsed("lost#1")
            two.dispatcher.lapsed("lost#1")
            second = await attached(one).next()
            await two.answers.reply(second.delivery_id, "guide", {}, stream="start")
            await two.answers.reply(second.delivery_id, "guide", {"message": "x"}, stream="end")
            assert [frame["stream"] for frame in await one.logged(ALICE)] == [
                "start",
                "error",
                "start",
                "end",
            ]

    async def test_what_is_answered_already_is_acknowledged_and_not_delivered_again(self, office: Office) -> None:
        """The answer was logged, and its gateway died before it could say so to the inbox."""
        await office.ask("answered")
        first = (await office.inbox.take("guide", holders("lost#1|agent"))).deliveries[0][1]
        reclaimed = await office.inbox.deliveries.take_back(id_of(first), "lapsed", "try")
        await office.inbox.deliveries.conclude(reclaimed)
        await log_answer(office, first.message_id)
        agent = attached(office)
        await eventually(lambda: has_depth(office, 0), "it is acknowledged")
        assert agent.given == []

    async def test_what_nobody_takes_dies_of_age_and_the_asker_is_told(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, age_seconds=0.2) as office:
            question = await office.ask()
            await eventually(lambda: is_dead(office), "it dies of age")
            (error,) = await office.logged(ALICE)
            assert (error["in_reply_to"], error["retrying"]) == (question.message_id, False)
            assert error["error"]["code"] == "deadline_exceeded"

    async def test_after_all_tries_the_asker_is_told(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, tries=3, first_wait_seconds=0.05) as office:
            agent = attached(office)
            await office.ask()
            for n in range(1, 4):
                delivery = await agent.next(n)
                assert delivery.attempt == n
                agent.held.clear()
                await office.answers.failed(delivery.delivery_id, "no")
            assert await is_dead(office)
            (error,) = await office.logged(ALICE)
            assert (error["stream"], error["retrying"]) == ("error", False)


class TestValkeyAway:
    async def test_takers_are_served_again_after_valkey_was_away(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks) as office:
                agent = attached(office)
                await office.ask("before")
                await agent.next()
                server.restart()
                await eventually(lambda: can_ask(office, "after"), "it takes questions again")
                assert text_of(await agent.next(2)) == "after"
            await valkey.close()

    async def test_what_a_taker_left_while_valkey_was_away_comes_home_later(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks) as office:
                leaving = attached(office, "leaving")
                await office.ask("1")
                await leaving.next()
                server.kill()
                office.dispatcher.detach("guide", leaving)
                staying = attached(office, "staying")
                server.start()
                assert (await staying.next()).attempt == 2
            await valkey.close()

    async def test_nothing_is_reaped_for_one_lease_so_that_the_living_come_first(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks, lease_seconds=1) as office:
                agent = attached(office)
                await office.ask()
                delivery = await agent.next()
                server.kill()
                out_for_a_lease = asyncio.get_running_loop().time() + 1.1
                await until(lambda: asyncio.get_running_loop().time() > out_for_a_lease, "the lease has ended")
                server.start()
                await eventually(lambda: can_answer(office, delivery.delivery_id), "the living answers")
                assert len(await office.logged(ALICE)) == 1
                assert len(agent.given) == 1
            await valkey.close()

    async def test_what_was_taken_for_nobody_while_valkey_hung_is_given_again_soon(self, tasks: Tasks) -> None:
        """A take that timed out is carried out when the store wakes up, and its answer goes nowhere."""
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks) as office:
                agent = attached(office)
                await office.ask("first")
                await agent.next()
                server.hang()
                office.dispatcher.has_room("guide")
                told: list[object] = []
                office.inbox.send(a_question("second", user="bob"), told.append)
                await until(lambda: bool(told), "the question gets no answer")
                asyncio.get_running_loop().call_later(0.3, server.resume)
                assert text_of(await agent.next(2)) == "second"
            await valkey.close()

    async def test_closing_without_valkey_does_not_hang(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks) as office:
                attached(office)
                server.kill()
            await valkey.close()


async def test_an_unknown_channel_has_no_desk(office: Office) -> None:
    assert isinstance(office.dispatcher, Dispatcher)
    with pytest.raises(KeyError):
        office.dispatcher.attach("pillar:nobody", Agent())


async def counts(office: Office, consumers: int) -> bool:
    return (await office.inbox.status("guide")).consumers == consumers


async def has_depth(office: Office, expected: int) -> bool:
    return (await office.inbox.status("guide")).depth == expected


async def is_dead(office: Office) -> bool:
    status = await office.inbox.status("guide")
    return status.dead_letters == 1 and status.depth == 0


async def can_ask(office: Office, text: str) -> bool:
    try:
        await office.inbox.send_now(a_question(text, user="bob"))
    except Unavailable:
        return False
    return True


async def can_answer(office: Office, delivery_id: str) -> bool:
    try:
        await office.answers.reply(delivery_id, "guide", {"message": "still here"})
    except Unavailable:
        return False
    return True


async def log_answer(office: Office, message_id: str) -> None:
    """The asker's log has the final word on a question."""
    entry = Entry(b'{"type":"chat_response"}', "answer", final_key(message_id))
    await office.log.append_now(ALICE, entry, owner="c-alice")
