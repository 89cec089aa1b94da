"""The store of an inbox: order, fairness, bounds, idempotency, and the ends of deliveries."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from foundations.errors import Conflict, Overloaded, StaleDelivery, Unavailable, UnknownChannel
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.inbox import Delivery, Inbox, Queued
from smart_city.post_office.inbox.calls import InboxScripts
from smart_city.post_office.inbox.question_rounds import Asked, QuestionRound
from smart_city.post_office.inbox.questions import DeliveryId, Holder, Reclaimed, UnheardTake
from smart_city.post_office.keep import Held, Keep
from tests.support.inboxes import CHANNELS, LIMITS, a_question, an_inbox, holders, id_of, text_of, texts
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until


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

    async def test_questions_of_one_round_come_each_with_its_own_body_and_route(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        asked = [a_question("ä\u2028\0" * n, user=f"user{n % 3}", conversation=f"{n}") for n in range(7)]
        await asyncio.gather(*(inbox.send_now(question) for question in asked))
        taken = await inbox.take("guide", [Holder("one|a", 30, len(asked))])
        assert [(d.message_id, d.body, d.route) for _, d in taken.deliveries] == [
            (q.message_id, q.body, q.route) for q in asked
        ]

    async def test_one_lane_has_one_delivery_in_flight_and_keeps_its_order(self, valkey: Valkey, tasks: Tasks) -> None:
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

    async def test_conversations_of_one_user_are_lanes_of_their_own(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "x", conversation="x")
        await ask(inbox, "y", conversation="y")
        assert texts(await inbox.take("guide", holders("one|a") * 5)) == ["x", "y"]

    async def test_a_take_gives_one_message_to_each_holder_in_turn(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        for user in ("alice", "bob", "carol"):
            await ask(inbox, user, user=user)
        taken = await inbox.take("guide", holders("one|a", "one|b", "one|a", "one|b"))
        assert [(place, text_of(delivery)) for place, delivery in taken.deliveries] == [
            (0, "alice"), (1, "bob"), (2, "carol"),
        ]  # fmt: skip
        assert not taken.has_more

    async def test_nobody_is_given_more_than_it_takes_and_who_takes_more_gets_the_rest(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        for user in "abcdefg":
            await ask(inbox, user, user=user)
        taken = await inbox.take("guide", [Holder("one|a", 30, 1), Holder("one|b", 30, 3), Holder("one|c", 30, 2)])
        assert [place for place, _ in taken.deliveries] == [0, 1, 2, 1, 2, 1]
        assert texts(taken) == [*"abcdef"]
        assert taken.has_more

    async def test_a_take_stops_at_a_mebibyte_and_says_that_there_is_more(self, valkey: Valkey, tasks: Tasks) -> None:
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


class TestBounds:
    async def test_a_full_inbox_refuses_and_says_when_to_come_back(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, count=3)
        for user in ("alice", "bob", "carol"):
            await ask(inbox, "?", user=user)
        with pytest.raises(Overloaded) as refused:
            await ask(inbox, "?", user="dave")
        assert refused.value.retry_after is not None
        assert (await inbox.status("guide")).depth == 3

    async def test_what_is_settled_makes_room_again(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, count=1)
        await ask(inbox, "first")
        await finish(inbox, await take_one(inbox))
        await ask(inbox, "second", user="bob")
        assert text_of(await take_one(inbox)) == "second"

    async def test_bytes_are_bounded_too(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, bytes=1000)
        await ask(inbox, "x" * 700)
        with pytest.raises(Overloaded):
            await ask(inbox, "y" * 300, user="bob")

    async def test_no_user_fills_more_than_a_tenth(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, count=20)
        await ask(inbox, "1", conversation="a")
        await ask(inbox, "2", conversation="b")
        with pytest.raises(Overloaded):
            await ask(inbox, "3", conversation="c")
        await ask(inbox, "mine", user="bob")

    async def test_how_much_a_user_fills_can_be_set(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, count=4, user_share=0.75)
        for n in range(3):
            await ask(inbox, str(n), conversation=str(n))
        with pytest.raises(Overloaded):
            await ask(inbox, "3", conversation="3")

    async def test_a_tenth_of_the_bytes_is_a_users_share_but_one_message_always_fits(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks, bytes=4000)
        await ask(inbox, "x" * 1000)
        with pytest.raises(Overloaded):
            await ask(inbox, "y")
        await finish(inbox, await take_one(inbox))
        await ask(inbox, "z")

    async def test_a_full_store_refuses_questions_and_still_lets_answers_drain(self, tasks: Tasks) -> None:
        with ValkeyServer(maxmemory="12mb") as server:
            valkey = await Valkey.connect(server.url)
            inbox = an_inbox(valkey, tasks)
            with pytest.raises(Overloaded):
                for n in range(100):
                    await ask(inbox, "x" * 400_000, user=f"user{n}")
            depth = (await inbox.status("guide")).depth
            assert depth > 1
            await inbox.count_consumers("guide", "one", 1, 30)
            for expected in range(depth - 1, -1, -1):
                await finish(inbox, await take_one(inbox))
                assert (await inbox.status("guide")).depth == expected
            await ask(inbox, "room again")
            await valkey.close()


class TestKeys:
    async def test_a_key_used_again_with_the_same_body_names_the_first_message(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        first, again = (a_question(key="alice/k1", digest="d") for _ in range(2))
        assert await inbox.send_now(first) == Queued(first.message_id)
        await finish(inbox, await take_one(inbox))
        assert await inbox.send_now(again) == Queued(first.message_id, duplicate=True)
        assert (await inbox.status("guide")).depth == 0

    async def test_a_key_used_with_another_body_is_a_conflict(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await inbox.send_now(a_question(key="alice/k1", digest="d1"))
        with pytest.raises(Conflict):
            await inbox.send_now(a_question(key="alice/k1", digest="d2"))

    async def test_refusals_are_not_remembered(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, count=1)
        await ask(inbox, "in the way")
        refused = a_question(key="bob/k", digest="d", user="bob")
        with pytest.raises(Overloaded):
            await inbox.send_now(refused)
        await finish(inbox, await take_one(inbox))
        assert await inbox.send_now(refused) == Queued(refused.message_id)

    async def test_keys_are_forgotten_after_their_time(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, key_seconds=0.05)
        await inbox.send_now(a_question(key="alice/k1", digest="d1"))
        await eventually(lambda: is_empty(valkey, "inbox:{guide}:keys"), "the key is forgotten")
        second = a_question(key="alice/k1", digest="d2")
        assert await inbox.send_now(second) == Queued(second.message_id)

    async def test_a_message_id_that_is_there_is_not_queued_twice(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        question = a_question()
        await inbox.send_now(question)
        assert await inbox.send_now(question) == Queued(question.message_id, duplicate=True)
        assert (await inbox.status("guide")).depth == 1

    async def test_nor_is_it_within_one_round(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        question = a_question()
        told = await asyncio.gather(inbox.send_now(question), inbox.send_now(question))
        assert [each.duplicate for each in told] == [False, True]
        assert (await inbox.status("guide")).depth == 1


class TestRounds:
    async def test_questions_of_one_turn_are_told_once_each_and_in_order(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        told: list[object] = []
        questions = [a_question(user=f"user{n}") for n in range(1200)]
        for question in questions:
            inbox.send(question, told.append)
        await until(lambda: len(told) == 1200, "all are told")
        assert told == [Queued(question.message_id) for question in questions]

    async def test_an_unknown_channel_is_refused_at_once(self, valkey: Valkey, tasks: Tasks) -> None:
        with pytest.raises(UnknownChannel):
            await an_inbox(valkey, tasks).send_now(a_question(channel="pillar:nobody"))

    async def test_a_round_whose_answer_is_lost_is_sent_again_and_queued_once(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            inbox = an_inbox(valkey, tasks)
            await ask(inbox, "warm")
            server.hang()
            told: list[object] = []
            question = a_question(user="bob")
            inbox.send(question, told.append)
            after_the_first_try = 0.35  # which then lies in the server's socket, to be carried out late
            asyncio.get_running_loop().call_later(after_the_first_try, server.resume)
            await until(lambda: bool(told), "the second try is answered")
            assert told == [Queued(question.message_id)]
            assert (await inbox.status("guide")).depth == 2
            await valkey.close()

    async def test_a_round_that_a_later_one_overtook_tells_that_it_is_not_known_what_became_of_it(
        self, valkey: Valkey
    ) -> None:
        scripts = InboxScripts(valkey, LIMITS, CHANNELS)
        later, earlier = (
            QuestionRound(scripts, LIMITS, "guide", [Asked(a_question(), print)], "writer", iter([number]))
            for number in (2, 1)
        )
        assert [type(told) for told in await later.send()] == [Queued]
        with pytest.raises(Unavailable):
            await earlier.send()

    async def test_with_valkey_away_questions_are_held_for_so_long_and_no_longer(self, tasks: Tasks) -> None:
        with ValkeyServer() as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            inbox = an_inbox(valkey, tasks, keep=Keep(seconds=0.3, after=0.1))
            server.kill()
            assert isinstance(await inbox.send_or_hold(a_question("held")), Held)
            with pytest.raises(Unavailable):
                await ask(inbox, "anybody?")
            server.start()
            await ask(inbox, "back again")
            await valkey.close()

    async def test_what_waits_is_bounded(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        told: list[object] = []
        for n in range(40):
            inbox.send(a_question("x" * 1_000_000, user=f"user{n}"), told.append)
        assert told, "some are refused before anything is sent"
        assert all(isinstance(each, Overloaded) for each in told)
        await until(lambda: len(told) == 40, "the others are told")

    async def test_closing_tells_everybody_who_waits(self, valkey: Valkey) -> None:
        own = Tasks("closing")
        inbox = an_inbox(valkey, own)
        told: list[object] = []
        for n in range(3):
            inbox.send(a_question(user=f"user{n}"), told.append)
        stuck = asyncio.ensure_future(inbox.deliveries.done([DeliveryId("guide", "m", 1)]))
        await asyncio.sleep(0)
        await own.close()
        await until(lambda: len(told) == 3, "all are told")
        assert {type(each) for each in told} <= {Unavailable, Queued}
        with pytest.raises(Unavailable):
            await stuck
        inbox.send(a_question(), told.append)
        assert isinstance(told[-1], Unavailable)

    async def test_an_asker_that_fails_leaves_the_others_told(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        told: list[object] = []

        def fail(_: object) -> None:
            raise RuntimeError("the asker's own affair")

        inbox.send(a_question(user="alice"), fail)
        inbox.send(a_question(user="bob"), told.append)
        await until(lambda: len(told) == 1, "the second is told")


class TestDeliveries:
    async def test_a_settled_delivery_is_stale(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1")
        delivery = await take_one(inbox)
        await finish(inbox, delivery)
        settled = await inbox.deliveries.done([id_of(delivery)])
        assert settled.stale == [id_of(delivery)]
        with pytest.raises(StaleDelivery):
            await inbox.deliveries.extend(id_of(delivery))

    @pytest.mark.parametrize("text", ["", "guide", "guide/x", "guide/x/y", "a b/x/1", "guide/x/1/2", "guide/{}/1"])
    def test_what_never_was_a_delivery_id_is_stale(self, text: str) -> None:
        with pytest.raises(StaleDelivery):
            DeliveryId.parse(text)

    async def test_a_delivery_of_an_unknown_channel_is_stale(self, valkey: Valkey, tasks: Tasks) -> None:
        with pytest.raises(StaleDelivery):
            await an_inbox(valkey, tasks).deliveries.extend(DeliveryId("pillar:nobody", "m", 1))

    async def test_a_lease_that_lapsed_is_reclaimed_and_its_delivery_stale(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1")
        delivery = (await inbox.take("guide", holders("one|a", lease_seconds=0.05))).deliveries[0][1]
        reclaimed = await reaped(inbox)
        assert [str(each.delivery) for each in reclaimed] == [delivery.delivery_id]
        assert reclaimed[0].ending == "again"
        with pytest.raises(StaleDelivery):
            await inbox.deliveries.check(id_of(delivery))
        await inbox.deliveries.conclude(reclaimed[0])
        again = await take_one(inbox)
        assert (again.message_id, again.attempt) == (delivery.message_id, 2)

    async def test_more_time_keeps_a_lease_and_never_shortens_it(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1")
        delivery = await take_one(inbox)

        async def ends_at() -> float:
            leases = valkey.key("inbox:{guide}:leases")
            return float(await valkey.command("ZSCORE", leases, delivery.message_id))

        first = await ends_at()
        await inbox.deliveries.extend(id_of(delivery), 60)
        longer = await ends_at()
        assert longer - first > 25_000
        await inbox.deliveries.extend(id_of(delivery), 1)
        assert await ends_at() == longer

    async def test_the_first_redelivery_is_at_once_and_later_ones_wait_longer(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1")
        clock = asyncio.get_running_loop().time
        waits = []
        for _ in range(4):
            await fail(inbox, await take_one(inbox))
            began = clock()
            await eventually(lambda: is_takeable(inbox), "it is offered again")
            waits.append(clock() - began)
        assert waits[0] < 0.1
        assert 0.15 < waits[1] < 0.35
        assert 0.35 < waits[2] < 0.6
        assert 0.75 < waits[3] < 1.2

    async def test_a_delayed_lane_says_when_it_is_due(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, first_wait_seconds=30, longest_wait_seconds=30)
        await ask(inbox, "1")
        await fail(inbox, await take_one(inbox))
        await fail(inbox, await take_one(inbox))
        taken = await inbox.take("guide", holders("one|a"))
        assert not taken.deliveries
        assert taken.due_in is not None
        assert 25 < taken.due_in <= 30

    async def test_the_last_try_is_its_death_and_the_lane_goes_on(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, tries=2)
        await ask(inbox, "bad", "good")
        await fail(inbox, await take_one(inbox))
        reclaimed = await inbox.deliveries.take_back(id_of(await take_one(inbox)), "failed: no", "try")
        assert reclaimed.ending == "dead"
        await inbox.deliveries.conclude(reclaimed)
        status = await inbox.status("guide")
        assert (status.dead_letters, status.depth) == (1, 1)
        assert text_of(await take_one(inbox)) == "good"

    async def test_a_hand_back_that_is_no_try_does_not_wear_a_message_out(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, tries=2)
        await ask(inbox, "1")
        for attempt in range(1, 6):
            delivery = await take_one(inbox)
            assert delivery.attempt == attempt
            reclaimed = await inbox.deliveries.hand_back("guide", "one|a", counts=False)
            assert [each.ending for each in reclaimed] == ["free"]
            await inbox.deliveries.conclude(reclaimed[0])

    async def test_a_hand_back_concerns_one_consumer_only(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        for user in ("alice", "bob"):
            await ask(inbox, user, user=user)
        taken = await inbox.take("guide", holders("one|a", "one|b"))
        reclaimed = await inbox.deliveries.hand_back("guide", "one|b")
        assert [each.delivery for each in reclaimed] == [id_of(taken.deliveries[1][1])]
        await inbox.deliveries.check(id_of(taken.deliveries[0][1]))

    async def test_all_that_a_lost_instance_had_is_reclaimed_and_nothing_else(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks)
        for user in ("alice", "bob", "carol"):
            await ask(inbox, user, user=user)
        taken = await inbox.take("guide", holders("two|a", "two|b", "twofold|a"))
        reclaimed = await inbox.deliveries.lost("guide", "two")
        assert {each.delivery for each in reclaimed} == {id_of(taken.deliveries[n][1]) for n in (0, 1)}

    async def test_a_reaper_that_dies_is_reaped_and_comes_too_late(self, valkey: Valkey, tasks: Tasks) -> None:
        dying = an_inbox(valkey, tasks, reclaim_seconds=0.05)
        heir = an_inbox(valkey, tasks, instance_id="two", tries=1)
        await ask(dying, "1")
        await dying.take("guide", holders("one|a", lease_seconds=0.01))
        first = (await reaped(dying))[0]
        second = (await reaped(heir))[0]
        assert (second.delivery, second.ending) == (first.delivery, "again"), "what was decided stays"
        await dying.deliveries.conclude(first)
        assert not (await dying.take("guide", holders("one|a"))).deliveries
        await heir.deliveries.conclude(second)
        assert (await take_one(dying)).attempt == 2

    async def test_what_proves_answered_is_not_tried_again(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1", "2")
        reclaimed = await inbox.deliveries.take_back(id_of(await take_one(inbox)), "closed", "try")
        await inbox.deliveries.conclude(reclaimed, is_done=True)
        assert text_of(await take_one(inbox)) == "2"

    async def test_what_nobody_took_within_the_age_is_reclaimed_as_dead(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, age_seconds=0.1)
        await ask(inbox, "old")
        reclaimed = await reaped(inbox)
        assert [(each.ending, each.why) for each in reclaimed] == [("dead", "expired")]
        await ask(inbox, "new")
        assert texts(await inbox.take("guide", holders("one|a"))) == ["new"], "the lane does not wait for the end"
        await inbox.deliveries.conclude(reclaimed[0])
        status = await inbox.status("guide")
        assert (status.depth, status.dead_letters) == (1, 1)

    async def test_what_somebody_has_does_not_grow_old(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, age_seconds=0.1)
        await ask(inbox, "taken", "behind")
        await take_one(inbox)
        assert [each.why for each in await reaped(inbox)] == ["expired"], "only the one behind"
        assert not await inbox.deliveries.lapsed("guide")

    async def test_dead_letters_are_bounded_and_keep_the_newest(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, tries=1)
        inbox = Inbox(valkey, tasks, replace(inbox.limits, dead_count=2), channels=inbox.channels, instance_id="one")
        for text in ("1", "2", "3"):
            await ask(inbox, text)
            await fail(inbox, await take_one(inbox))
        letters = await inbox.letters.page("guide", limit=10, body_bytes=1000)
        assert [json.loads(letter.body)["payload"]["message"] for letter in letters] == ["3", "2"]
        newest = letters[0]
        assert (newest.why, newest.attempts, newest.user) == ("failed: it", 1, "alice")

    async def test_dead_letters_are_bounded_in_bytes(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, tries=1)
        inbox = Inbox(valkey, tasks, replace(inbox.limits, dead_bytes=3000), channels=inbox.channels, instance_id="one")
        for text in ("x" * 1000, "y" * 1000, "z" * 9000):
            await ask(inbox, text)
            await fail(inbox, await take_one(inbox))
        assert (await inbox.status("guide")).dead_letters == 1, "one is kept, however large"


class TestUnheardTakes:
    async def test_what_a_take_brought_that_nobody_heard_of_is_given_again(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "heard", user="alice")
        heard = await take_one(inbox)
        await ask(inbox, "unheard", user="bob")
        unheard = await take_one(inbox)
        (reclaimed,) = await inbox.deliveries.unheard("guide", await the_take_of(valkey, unheard))
        assert (reclaimed.delivery, reclaimed.ending) == (id_of(unheard), "free")
        await inbox.deliveries.check(id_of(heard))

    async def test_a_take_that_comes_after_it_was_given_up_takes_nothing(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            inbox = an_inbox(valkey, tasks)
            await ask(inbox, "1")
            server.hang()
            with pytest.raises(UnheardTake) as given_up:
                await inbox.take("guide", holders("one|a"))
            server.resume()
            for each in await inbox.deliveries.unheard("guide", given_up.value):
                await inbox.deliveries.conclude(each)
            assert text_of(await take_one(inbox)) == "1"
            await valkey.close()


async def the_take_of(valkey: Valkey, delivery: Delivery) -> UnheardTake:
    key = valkey.key(f"inbox:{{guide}}:message:{delivery.message_id}")
    taker, number = (await valkey.command("HGET", key, "take")).decode().split()
    return UnheardTake("unheard", taker=taker, number=int(number), holders=frozenset({"one|a"}))


class TestStatus:
    async def test_it_tells_depth_bytes_and_how_long_the_oldest_has_waited(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        empty = await inbox.status("guide")
        assert (empty.depth, empty.bytes, empty.oldest_age_seconds) == (0, 0, None)
        question = a_question()
        await inbox.send_now(question)
        status = await inbox.status("guide")
        assert (status.depth, status.bytes, status.capacity) == (1, len(question.body), 10_000)
        assert status.oldest_age_seconds is not None
        assert status.oldest_age_seconds < 5
        await take_one(inbox)
        taken = await inbox.status("guide")
        assert (taken.depth, taken.oldest_age_seconds) == (1, None)

    async def test_consumers_of_all_instances_are_counted_while_they_say_so(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await inbox.count_consumers("guide", "one", 2, 30)
        await inbox.count_consumers("guide", "two", 3, 0.05)
        await eventually(lambda: counts(inbox, 2), "the second instance's note ends")
        await inbox.count_consumers("guide", "one", 0, 30)
        assert (await inbox.status("guide")).consumers == 0


class TestWhatIsDue:
    """Which inboxes are looked after: it is asked for all of them each second."""

    async def test_nothing_is_where_all_is_as_it_should_be(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        assert not await inbox.due()
        await ask(inbox, "taken", user="alice")
        await ask(inbox, "waiting", user="bob")
        await take_one(inbox)
        assert not await inbox.due()
        await finish(inbox, await take_one(inbox))
        assert not await inbox.due()

    async def test_an_inbox_with_a_lease_that_lapsed_is(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks)
        await ask(inbox, "1")
        await inbox.take("guide", holders("one|a", lease_seconds=0.05))
        await eventually(lambda: is_due(inbox), "its lease lapses")

    async def test_an_inbox_in_which_something_grew_old_is(self, valkey: Valkey, tasks: Tasks) -> None:
        inbox = an_inbox(valkey, tasks, age_seconds=0.05)
        await ask(inbox, "1")
        await eventually(lambda: is_due(inbox), "nobody took it within the age")

    async def test_an_inbox_is_until_somebody_was_told_that_its_circuit_closed(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        inbox = an_inbox(valkey, tasks, count=1)
        await ask(inbox, "all it takes")
        with pytest.raises(Overloaded):
            await ask(inbox, "too much", user="bob")
        assert await is_due(inbox), "its circuit is open"
        assert await inbox.count_consumers("guide", "one", 0, 30) == ("open", "full")
        await finish(inbox, await take_one(inbox))
        await ask(inbox, "again")
        assert await is_due(inbox), "nobody knows that it is closed"
        assert await inbox.count_consumers("guide", "one", 0, 30) == ("closed", "")
        assert not await inbox.due()

    @pytest.mark.on_one_server
    async def test_it_is_asked_for_many_inboxes_of_a_slot_together(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url)
            channels = [f"pillar:p{number}" for number in range(600)]
            inbox = Inbox(valkey, tasks, an_inbox(valkey, tasks).limits, channels=channels, instance_id="one")
            await inbox.send_now(a_question(channel="pillar:p599"))
            await inbox.take("pillar:p599", holders("one|a", lease_seconds=0))
            await inbox.due()
            before = await calls_of_scripts(valkey)
            assert await inbox.due() == ["pillar:p599"]
            assert await calls_of_scripts(valkey) - before == 2
            await valkey.close()


async def is_due(inbox: Inbox) -> bool:
    return await inbox.due() == ["guide"]


async def calls_of_scripts(valkey: Valkey) -> int:
    return int((await valkey.command("INFO", "commandstats"))["cmdstat_evalsha"]["calls"])


async def fail(inbox: Inbox, delivery: Delivery) -> None:
    reclaimed = await inbox.deliveries.take_back(id_of(delivery), "failed: it", "try")
    await inbox.deliveries.conclude(reclaimed)


async def reaped(inbox: Inbox) -> Sequence[Reclaimed]:
    found: list[Reclaimed] = []

    async def look() -> bool:
        found.extend(await inbox.deliveries.lapsed("guide"))
        return bool(found)

    await eventually(look, "something lapses")
    return found


async def is_takeable(inbox: Inbox) -> bool:
    """Looks without taking: a lane is ready, or due."""
    taken = await inbox.take("guide", [])
    return taken.has_more


async def is_empty(valkey: Valkey, key: str) -> bool:
    return not await valkey.command("HLEN", valkey.key(key))


async def counts(inbox: Inbox, consumers: int) -> bool:
    return (await inbox.status("guide")).consumers == consumers
