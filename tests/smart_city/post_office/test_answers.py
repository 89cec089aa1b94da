"""What agents say: answers at once and in parts, where they go, and one final word for each question."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from msgspec import Raw

from foundations.errors import (
    Conflict,
    InvalidMessage,
    Overloaded,
    StaleDelivery,
    TooLarge,
    UnknownChannel,
)
from foundations.supervision import Tasks
from foundations.telemetry import Counters, Traces
from foundations.valkey.client import Valkey
from smart_city.post_office.answers import Answers
from smart_city.post_office.answers.askers import FinalWord, start_key
from smart_city.post_office.answers.open_answers import FORGOTTEN_MS, End, OpenAnswers, Part
from smart_city.post_office.inbox import Delivery, Question, Route
from smart_city.post_office.inbox.questions import handed_on
from smart_city.post_office.log import Appended, ChannelLog, Entry
from tests.support.inboxes import a_question, an_inbox, holders, id_of
from tests.support.logs import ROOMY
from tests.support.offices import Office, an_office
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until

ALICE = "connection:c-alice"


@pytest.fixture
async def office(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Office]:
    async with an_office(valkey, tasks) as started:
        yield started


async def asked(office: Office, text: str = "", **more: Any) -> Delivery:
    """A question that an agent has taken."""
    question = await office.ask(text, **more)
    return await taken(office, question)


async def taken(office: Office, question: Question) -> Delivery:
    found = await office.inbox.take(question.channel, holders("one|test"))
    assert [delivery.message_id for _, delivery in found.deliveries] == [question.message_id]
    return found.deliveries[0][1]


async def bytes_written(valkey: Valkey) -> int:
    """What the servers of the store have written to their disks so far."""
    told = await valkey.store.ask_each(("INFO", "persistence"))
    return sum(int(size) for each in told for size in re.findall(r"aof_current_size:(\d+)", bytes(each).decode()))


async def depth(office: Office, channel: str = "guide") -> int:
    return (await office.inbox.status(channel)).depth


class TestAnswersAtOnce:
    async def test_an_answer_is_logged_for_the_asker_and_acknowledged(self, office: Office) -> None:
        delivery = await asked(office, conversation="c1")
        await office.answers.reply(delivery.delivery_id, "guide-agent", {"message": "hello"})
        (frame,) = await office.logged(ALICE)
        assert frame["type"] == "chat_response"
        assert (frame["channel"], frame["agent"], frame["log"]) == ("guide", "guide-agent", ALICE)
        assert (frame["in_reply_to"], frame["conversation_id"]) == (delivery.message_id, "c1")
        assert frame["payload"] == {"message": "hello"}
        assert "stream" not in frame
        assert frame["message_id"] != delivery.message_id
        assert await depth(office) == 0
        assert office.counters.answers == 1

    async def test_an_answer_to_a_connection_that_has_gone_goes_to_its_user(self, office: Office) -> None:
        delivery = await asked(office)
        await office.disconnect("c-alice")
        await office.answers.reply(delivery.delivery_id, "guide", b'{"message":"late"}')
        assert await office.logged(ALICE) == []
        (frame,) = await office.logged("user:alice")
        assert (frame["log"], frame["payload"]) == ("user:alice", {"message": "late"})

    async def test_an_answer_to_a_channel_is_a_message_of_the_agent(self, office: Office) -> None:
        route = Route(channel="pillar:content")
        delivery = await asked(office, user="~backend", route=route)
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "for all"}, intent="query")
        (frame,) = await office.logged("pillar:content")
        assert (frame["type"], frame["channel"], frame["intent"]) == ("message", "pillar:content", "query")
        assert frame["sender"] == {"kind": "agent", "id": "guide"}
        assert frame["in_reply_to"] == delivery.message_id

    async def test_a_second_answer_is_stale_and_does_nothing(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "1"})
        with pytest.raises(StaleDelivery):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "2"})
        assert len(await office.logged(ALICE)) == 1

    async def test_an_answer_after_the_lease_lapsed_is_stale_and_does_nothing(self, office: Office) -> None:
        question = await office.ask()
        found = await office.inbox.take("guide", holders("one|test", lease_seconds=0.01))
        delivery = found.deliveries[0][1]

        async def is_offered_again() -> bool:
            return (await office.inbox.take("guide", [])).has_more

        await eventually(is_offered_again, "the reaper brings it back")
        with pytest.raises(StaleDelivery):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "too late"})
        assert await office.logged(ALICE) == []
        assert (await taken(office, question)).attempt == 2

    @pytest.mark.parametrize("payload", [b"[]", b'"text"', b"{", b""])
    async def test_a_payload_that_is_no_object_is_refused(self, office: Office, payload: bytes) -> None:
        delivery = await asked(office)
        with pytest.raises(InvalidMessage):
            await office.answers.reply(delivery.delivery_id, "guide", payload)
        assert await depth(office) == 1

    async def test_an_answer_too_long_is_refused_and_may_be_said_shorter(self, office: Office) -> None:
        delivery = await asked(office)
        with pytest.raises(TooLarge):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "x" * 100_001})
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"})
        assert await depth(office) == 0

    async def test_many_answers_at_once_reach_their_askers(self, office: Office) -> None:
        deliveries = [await asked(office, user=f"user{n}") for n in range(50)]
        await asyncio.gather(*[office.answers.reply(d.delivery_id, "guide", {"message": "hi"}) for d in deliveries])
        for n in range(50):
            assert len(await office.logged(f"connection:c-user{n}")) == 1
        assert await depth(office) == 0


@pytest.mark.on_both_loops
class TestAnswersInParts:
    async def test_start_deltas_and_end_under_one_message_id(self, office: Office) -> None:
        parts = await office.listen(ALICE)
        delivery = await asked(office, conversation="c1")
        reply = office.answers.reply
        await reply(delivery.delivery_id, "guide", {}, stream="start")
        await reply(delivery.delivery_id, "guide", {"message": "Hel"}, stream="delta")
        await reply(delivery.delivery_id, "guide", {"message": 'lo "you"\n'}, stream="delta")
        await until(lambda: bool(parts), "a part is heard")
        await reply(delivery.delivery_id, "guide", {"message": "!"}, stream="delta")
        await reply(delivery.delivery_id, "guide", {}, stream="end")
        start, end = await office.logged(ALICE)
        assert (start["stream"], start["part"], end["stream"]) == ("start", 0, "end")
        assert end["payload"] == {"message": 'Hello "you"\n!'}
        await until(lambda: "".join(p["payload"]["message"] for p in parts) == 'Hello "you"\n!', "all are heard")
        assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
        frames = [start, end, *parts]
        assert {frame["message_id"] for frame in frames} == {start["message_id"]}
        assert {frame["in_reply_to"] for frame in frames} == {delivery.message_id}
        assert {frame["conversation_id"] for frame in frames} == {"c1"}
        assert {part["stream"] for part in parts} == {"delta"}
        assert await depth(office) == 0

    async def test_deltas_of_a_moment_are_one_part(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, gather_seconds=0.2) as office:
            parts = await office.listen(ALICE)
            delivery = await asked(office)
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            for letter in "abcdefgh":
                await office.answers.reply(delivery.delivery_id, "guide", {"message": letter}, stream="delta")
            await until(lambda: text_of_parts(parts) == "abcdefgh", "all is heard")
            assert len(parts) <= 2

    async def test_an_end_of_its_own_words_is_kept_with_its_other_fields(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "draft"}, stream="delta")
        whole = {"message": "final", "sources": [1]}
        await office.answers.reply(delivery.delivery_id, "guide", whole, stream="end")
        assert (await office.logged(ALICE))[-1]["payload"] == whole

    async def test_an_end_without_message_keeps_its_fields_beside_the_text(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "a"}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "b"}, stream="delta")
        await office.answers.reply(delivery.delivery_id, "guide", {"sources": [1]}, stream="end")
        assert (await office.logged(ALICE))[-1]["payload"] == {"message": "ab", "sources": [1]}

    async def test_a_joiner_gets_the_text_so_far_with_the_part_that_it_reaches(self, office: Office) -> None:
        parts = await office.listen(ALICE)
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        (empty,) = await office.open_answers(ALICE)
        assert (empty["part"], empty["payload"]) == (0, {"message": ""})
        for text, whole in (("one ", "one "), ("two ", "one two ")):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": text}, stream="delta")
            await until(partial(is_told, parts, whole), "it is told")
        (snapshot,) = await office.open_answers(ALICE)
        assert snapshot["snapshot"] is True
        assert (snapshot["stream"], snapshot["part"]) == ("delta", 2)
        assert snapshot["payload"] == {"message": "one two "}
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
        assert await office.open_answers(ALICE) == []
        assert not await office.valkey.command("EXISTS", office.valkey.key(f"log:{{{ALICE}}}:drafts"))

    async def test_a_part_is_written_once_however_long_the_answer_is(self, office: Office) -> None:
        answers = OpenAnswers(office.valkey, office.tasks, most_bytes=1_000_000)
        await answers.open(ALICE, "m1", b'{"payload":{"message":"', b"", is_hidden=False)
        before = await bytes_written(office.valkey)
        for number in range(1, 201):
            await answers.append(ALICE, "m1", Part(number, b'{"payload":{"message":"', b"x" * 1000))
        assert await bytes_written(office.valkey) - before < 200 * 2000
        (snapshot,) = await office.open_answers(ALICE)
        assert (len(snapshot["payload"]["message"]), snapshot["part"]) == (200_000, 200)

    @pytest.mark.parametrize("is_hidden", [True, False])
    async def test_who_opens_a_log_looks_for_answers_in_parts_only_where_joiners_see_some(
        self, office: Office, is_hidden: bool
    ) -> None:
        answers = OpenAnswers(office.valkey, office.tasks, most_bytes=1000)
        assert not (await office.log.opened([ALICE]))[ALICE].has_streams
        await answers.open(ALICE, "m1", b'{"payload":{"message":"', b"one", is_hidden=is_hidden)
        assert (await office.log.opened([ALICE]))[ALICE].has_streams is not is_hidden

    async def test_the_text_of_an_answer_is_kept_as_long_as_the_answer_and_no_longer(self, office: Office) -> None:
        answers = OpenAnswers(office.valkey, office.tasks, most_bytes=1000)
        text = office.valkey.key(f"log:{{{ALICE}}}:open:m1")
        await answers.open(ALICE, "m1", b'{"payload":{"message":"', b"one", is_hidden=False)
        await office.valkey.command("PERSIST", text)
        await answers.append(ALICE, "m1", Part(1, b'{"payload":{"message":"', b"two"))
        assert 0 < await office.valkey.command("PTTL", text) <= FORGOTTEN_MS
        await answers.fail(ALICE, "m1")
        assert not await office.valkey.command("EXISTS", text)

    @pytest.mark.parametrize("kept_among", ["streams", "drafts"])
    async def test_an_answer_that_the_release_before_this_one_began_goes_on(
        self, office: Office, kept_among: str
    ) -> None:
        answers = OpenAnswers(office.valkey, office.tasks, most_bytes=1000)
        frame = b'{"message_id":"m1","payload":{"message":"one "},"part":1}'
        await office.valkey.command("HSET", office.valkey.key(f"log:{{{ALICE}}}:{kept_among}"), "m1", frame)
        assert await answers.append(ALICE, "m1", Part(2, b'{"payload":{"message":"', b"two")) == 2
        is_shown = kept_among == "streams"
        assert [each["payload"] for each in await office.open_answers(ALICE)] == [{"message": "one two"}] * is_shown
        assert await answers.fail(ALICE, "m1") == b"one two"

    @pytest.mark.parametrize("verb", ["append", "close", "fail"])
    async def test_what_the_release_before_this_one_broke_off_neither_goes_on_nor_ends(
        self, office: Office, verb: str
    ) -> None:
        """It does not know where the text is, and leaves it lying."""
        answers = OpenAnswers(office.valkey, office.tasks, most_bytes=1000)
        head, end = b'{"payload":{"message":"', End(agent="guide", intent="", payload=Raw(b"{}"))
        await answers.open(ALICE, "m1", head, b"one", is_hidden=False)
        await office.valkey.command("HSET", office.valkey.key(f"log:{{{ALICE}}}:drafts"), "m1/end", "-")
        if verb == "append":
            assert await answers.append(ALICE, "m1", Part(1, head, b"two")) is None
        elif verb == "close":
            assert await answers.close(ALICE, "m1", Part(1, head, b"two"), end) is None
        assert await answers.fail(ALICE, "m1") == b"one"
        assert await office.open_answers(ALICE) == []

    async def test_an_answer_begun_by_the_release_before_this_one_and_begun_again_is_shown_once(
        self, office: Office
    ) -> None:
        answers = OpenAnswers(office.valkey, office.tasks, most_bytes=1000)
        frame = b'{"message_id":"m1","payload":{"message":"one"},"part":0}'
        await office.valkey.command("HSET", office.valkey.key(f"log:{{{ALICE}}}:streams"), "m1", frame)
        assert await answers.open(ALICE, "m1", b'{"payload":{"message":"', b"one", is_hidden=False)
        assert [each["payload"] for each in await office.open_answers(ALICE)] == [{"message": "one"}]

    async def test_a_plain_answer_ends_the_one_in_parts(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "all"})
        start, end = await office.logged(ALICE)
        assert (end["stream"], end["message_id"]) == ("end", start["message_id"])
        assert await depth(office) == 0

    async def test_done_ends_an_open_answer_with_the_text_it_has(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "so far"}, stream="delta")
        await office.answers.done([delivery.delivery_id])
        end = (await office.logged(ALICE))[-1]
        assert (end["stream"], end["payload"]) == ("end", {"message": "so far"})

    @pytest.mark.parametrize("stream", ["delta", "end"])
    async def test_a_part_without_a_start_is_refused(self, office: Office, stream: Any) -> None:
        delivery = await asked(office)
        with pytest.raises(InvalidMessage):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream=stream)
        assert await depth(office) == 1

    async def test_a_second_start_is_a_conflict(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        with pytest.raises(Conflict):
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")

    @pytest.mark.parametrize("payload", [{}, {"message": 1}, {"text": "x"}])
    async def test_a_delta_without_text_is_refused(self, office: Office, payload: dict[str, Any]) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        with pytest.raises(InvalidMessage):
            await office.answers.reply(delivery.delivery_id, "guide", payload, stream="delta")

    async def test_a_delta_whose_text_is_no_utf_8_is_refused(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        with pytest.raises(InvalidMessage):
            await office.answers.reply(delivery.delivery_id, "guide", b'{"message":"\xff"}', stream="delta")

    async def test_frames_sent_at_once_are_carried_out_in_their_order(self, office: Office) -> None:
        delivery = await asked(office)
        reply = office.answers.reply
        await asyncio.gather(
            reply(delivery.delivery_id, "guide", {}, stream="start"),
            *[reply(delivery.delivery_id, "guide", {"message": f"{n} "}, stream="delta") for n in range(20)],
            reply(delivery.delivery_id, "guide", {}, stream="end"),
        )
        end = (await office.logged(ALICE))[-1]
        assert end["payload"]["message"] == "".join(f"{n} " for n in range(20))

    async def test_done_sent_at_once_with_an_answer_in_parts_comes_after_it(self, office: Office) -> None:
        delivery = await asked(office)
        reply = office.answers.reply
        await asyncio.gather(
            reply(delivery.delivery_id, "guide", {}, stream="start"),
            reply(delivery.delivery_id, "guide", {"message": "all"}, stream="delta"),
            office.answers.done([delivery.delivery_id]),
        )
        end = (await office.logged(ALICE))[-1]
        assert (end["stream"], end["payload"]) == ("end", {"message": "all"})

    async def test_an_answer_that_grows_too_long_ends_with_an_error(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, most_bytes=1000) as office:
            delivery = await asked(office)
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            with pytest.raises(TooLarge):
                while True:
                    await office.answers.reply(delivery.delivery_id, "guide", {"message": "x" * 99}, stream="delta")
                    await asyncio.sleep(0.002)
            await eventually(lambda: is_ended(office, ALICE), "the error is logged")
            error = (await office.logged(ALICE))[-1]
            assert (error["stream"], error["error"]["code"], error["retrying"]) == (
                "error",
                "too_large",
                False,
            )
            await eventually(lambda: is_dead(office), "the question is a dead letter")
            assert await office.open_answers(ALICE) == []

    async def test_an_answer_in_parts_to_a_channel_is_one_message_in_the_end(self, office: Office) -> None:
        parts = await office.listen("pillar:content")
        delivery = await asked(office, user="~backend", route=Route(channel="pillar:content"))
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "who"}, stream="delta")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "le"}, stream="delta")
        assert await office.open_answers("pillar:content") == []
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
        (message,) = await office.logged("pillar:content")
        assert (message["type"], message["payload"]) == ("message", {"message": "whole"})
        assert parts == []

    async def test_another_instance_may_go_on_with_an_answer(
        self, valkey: Valkey, tasks: Tasks, office: Office
    ) -> None:
        async with an_office(valkey, tasks, name="two") as other:
            delivery = await asked(office)
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "here "}, stream="delta")
            await eventually(lambda: reads(office, ALICE, "here "), "the first part is told")
            await other.answers.reply(delivery.delivery_id, "guide", {"message": "there"}, stream="delta")
            await other.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
            assert (await office.logged(ALICE))[-1]["payload"] == {"message": "here there"}

    async def test_without_its_connection_an_answer_in_parts_goes_to_the_user(self, office: Office) -> None:
        parts = await office.listen("user:alice")
        delivery = await asked(office)
        await office.disconnect("c-alice")
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="delta")
        await until(lambda: bool(parts), "the part is heard")
        assert parts[0]["log"] == "user:alice"
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
        assert [frame["stream"] for frame in await office.logged("user:alice")] == ["start", "end"]

    async def test_the_end_may_stand_in_another_log_than_the_start(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="delta")
        await office.disconnect("c-alice")
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
        (start,), (end,) = await office.logged(ALICE), await office.logged("user:alice")
        assert (end["stream"], end["message_id"]) == ("end", start["message_id"])
        assert end["payload"] == {"message": "x"}
        assert await office.open_answers(ALICE) == []

    async def test_parts_keep_the_lease(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, lease_seconds=1, answer_seconds=1) as office:
            question = await office.ask()
            found = await office.inbox.take("guide", holders("one|test", lease_seconds=1))
            delivery = found.deliveries[0][1]
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            ends_at = asyncio.get_running_loop().time() + 1.8
            while asyncio.get_running_loop().time() < ends_at:
                await office.answers.reply(delivery.delivery_id, "guide", {"message": "."}, stream="delta")
                await asyncio.sleep(0.05)  # the pace of a model
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
            end = (await office.logged(ALICE))[-1]
            assert (end["stream"], end["in_reply_to"]) == ("end", question.message_id)


class TestValkeyAway:
    async def test_parts_survive_a_store_that_hangs_for_a_moment(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks) as office:
                parts = await office.listen(ALICE)
                delivery = await asked(office)
                await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
                server.hang()
                asyncio.get_running_loop().call_later(0.5, server.resume)
                for word in ("a ", "b ", "c "):
                    await office.answers.reply(delivery.delivery_id, "guide", {"message": word}, stream="delta")
                await until(partial(is_told, parts, "a b c "), "all parts are told, each once")
                assert [part["part"] for part in parts] == list(range(1, len(parts) + 1))
                await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
                assert (await office.logged(ALICE))[-1]["payload"] == {"message": "a b c "}
            await valkey.close()

    async def test_an_end_that_gets_no_answer_waits_and_is_said_once(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks) as office:
                delivery = await asked(office)
                await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
                await office.answers.reply(delivery.delivery_id, "guide", {"message": "text"}, stream="delta")
                server.hang()
                asyncio.get_running_loop().call_later(0.5, server.resume)
                await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
                assert [frame["stream"] for frame in await office.logged(ALICE)] == ["start", "end"]
                assert (await office.logged(ALICE))[-1]["payload"] == {"message": "text"}
            await valkey.close()

    async def test_what_waits_of_one_answer_is_bounded(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks, gather_seconds=30, most_bytes=10_000_000) as office:
                delivery = await asked(office)
                await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
                piece = {"message": "x" * 300_000}
                with pytest.raises(Overloaded):
                    for _ in range(5):
                        await office.answers.reply(delivery.delivery_id, "guide", piece, stream="delta")
            await valkey.close()

    async def test_a_start_that_got_no_answer_may_be_said_again(self, office: Office) -> None:
        """The inbox and the log heard of the first one, but its gateway could not say so."""
        delivery = await asked(office)
        await office.inbox.deliveries.open(id_of(delivery), "stream-1", "guide")
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="end")
        assert {frame["message_id"] for frame in await office.logged(ALICE)} == {"stream-1"}

    async def test_what_cannot_be_ended_now_is_reaped_again(self, tasks: Tasks) -> None:
        with ValkeyServer(appendfsync="no") as server:
            valkey = await Valkey.connect(server.url, timeout=0.5)
            async with an_office(valkey, tasks, reclaim_seconds=0.3) as office:
                question = await office.ask()
                delivery = await taken(office, question)
                reclaimed = await office.inbox.deliveries.take_back(id_of(delivery), "closed", "try")
                server.kill()
                await office.answers.returns.end_all([reclaimed])
                server.start()

                async def is_offered() -> bool:
                    return (await office.inbox.take("guide", [])).has_more

                await eventually(is_offered, "another reaper ends it")
            await valkey.close()


class WhenLogged(ChannelLog):
    """A log in whose turn something happens to the store of the inboxes."""

    happens: Callable[[], None]

    async def append_now(self, channel: str, entry: Entry, *, owner: str = "") -> Appended:
        appended = await super().append_now(channel, entry, owner=owner)
        self.happens()
        return appended


class TestSettling:
    async def test_an_answer_whose_delivery_cannot_be_settled_is_settled_later(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        """Log and inboxes lie on two stores here, so that one may die between the answer and its settling."""
        with ValkeyServer(appendfsync="no") as server:
            other = await Valkey.connect(server.url, timeout=0.5)
            inbox = an_inbox(other, tasks)
            log = WhenLogged(valkey, tasks, ROOMY, lambda _: None)
            log.happens = server.kill
            answers = Answers(valkey, tasks, log, inbox, Counters(), Traces(), gather_seconds=0.01, most_bytes=1000)
            for user in ("alice", "bob"):
                await inbox.send_now(a_question(user=user, route=Route(user_id=user)))
            first, second = (each for _, each in (await inbox.take("guide", holders("one|a", "one|a"))).deliveries)
            await answers.reply(first.delivery_id, "guide", {"message": "1"})
            log.happens = lambda: None
            server.start()

            async def is_settled(depth: int) -> bool:
                return (await inbox.status("guide")).depth == depth

            await eventually(partial(is_settled, 1), "the first is settled without being said again")
            await answers.reply(second.delivery_id, "guide", {"message": "2"})
            assert await is_settled(0)
            await other.close()


class TestForgetting:
    async def test_an_answer_nobody_goes_on_with_is_forgotten_here(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, lease_seconds=0.05, poll_seconds=30) as office:
            delivery = await asked(office)
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            assert office.answers.under_way == 1
            await until(lambda: office.answers.under_way == 0, "it is forgotten")
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "late"}, stream="delta")
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
            assert (await office.logged(ALICE))[-1]["payload"] == {"message": "late"}
            assert office.answers.under_way == 0

    async def test_an_answer_to_nobody_settles_the_delivery(self, office: Office) -> None:
        delivery = await asked(office, route=Route())
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="delta")
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
        assert await depth(office) == 0


class TestGivenBack:
    async def test_a_failed_delivery_is_tried_again(self, office: Office) -> None:
        question = await office.ask()
        delivery = await taken(office, question)
        await office.answers.failed(delivery.delivery_id, "busy")
        assert (await taken(office, question)).attempt == 2
        assert await office.logged(ALICE) == []

    async def test_a_failure_for_good_tells_the_asker_but_not_the_reason(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.failed(delivery.delivery_id, "secret stack trace", retry=False)
        (error,) = await office.logged(ALICE)
        assert (error["type"], error["stream"], error["retrying"]) == ("chat_response", "error", False)
        assert error["error"]["code"] == "internal"
        assert "secret" not in str(error)
        assert await is_dead(office)
        assert office.counters.dead_letters == 1

    async def test_a_channel_hears_of_a_failure_in_a_message(self, office: Office) -> None:
        delivery = await asked(office, user="~backend", route=Route(channel="pillar:content"))
        await office.answers.failed(delivery.delivery_id, "no", retry=False)
        (message,) = await office.logged("pillar:content")
        assert (message["type"], message["payload"]["error"]["code"]) == ("message", "internal")
        assert message["in_reply_to"] == delivery.message_id

    async def test_failing_in_the_middle_ends_the_answer_and_a_new_one_begins(self, office: Office) -> None:
        question = await office.ask()
        for expected in ("error", "end"):
            delivery = await taken(office, question)
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="delta")
            if expected == "error":
                await office.answers.failed(delivery.delivery_id, "oops")
            else:
                await office.answers.reply(delivery.delivery_id, "guide", {}, stream="end")
        frames = await office.logged(ALICE)
        assert [frame["stream"] for frame in frames] == ["start", "error", "start", "end"]
        first, broken, second, end = frames
        assert (broken["message_id"], broken["retrying"]) == (first["message_id"], True)
        assert end["message_id"] == second["message_id"] != first["message_id"]
        assert {frame["in_reply_to"] for frame in frames} == {question.message_id}
        assert await office.open_answers(ALICE) == []

    async def test_the_last_try_in_parts_ends_with_the_text_so_far(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, tries=1) as office:
            delivery = await asked(office)
            await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "half"}, stream="delta")
            await eventually(lambda: reads(office, ALICE, "half"), "the part is told")
            await office.answers.failed(delivery.delivery_id, "oops")
            start, error = await office.logged(ALICE)
            assert (error["stream"], error["retrying"]) == ("error", False)
            assert (error["message_id"], error["payload"]) == (start["message_id"], {"message": "half"})
            assert await is_dead(office)

    async def test_what_was_said_after_giving_back_is_stale(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.failed(delivery.delivery_id, "oops")
        with pytest.raises(StaleDelivery):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="delta")
        with pytest.raises(StaleDelivery):
            await office.answers.failed(delivery.delivery_id, "again")
        with pytest.raises(StaleDelivery):
            await office.answers.working(delivery.delivery_id)

    async def test_done_names_those_that_were_stale_and_settles_the_others(self, office: Office) -> None:
        one, two = await asked(office, user="alice"), await asked(office, user="bob")
        with pytest.raises(StaleDelivery, match=r"nonsense, guide/never/1$"):
            await office.answers.done([one.delivery_id, "guide/never/1", two.delivery_id, "nonsense"])
        assert await depth(office) == 0

    async def test_an_answer_from_elsewhere_makes_a_reclaimed_delivery_done(self, office: Office) -> None:
        """A gateway logged the answer and died before it could acknowledge it."""
        delivery = await asked(office)
        await office.answers.askers.answer(
            FinalWord(id_of(delivery), delivery.route, "guide", "m-answer", b'{"message":"logged"}')
        )
        reclaimed = await office.inbox.deliveries.take_back(id_of(delivery), "lapsed", "dead")
        await office.answers.returns.end(reclaimed)
        assert await depth(office) == 0
        assert len(await office.logged(ALICE)) == 1

    async def test_an_end_that_was_decided_is_logged_by_whoever_comes(self, office: Office) -> None:
        """Its gateway died before it could log it."""
        question = await office.ask()
        first = (await office.inbox.take("guide", holders("dead|a"))).deliveries[0][1]
        reply = office.answers.reply
        await reply(first.delivery_id, "guide", {}, stream="start")
        await reply(first.delivery_id, "guide", {"message": "all of it"}, stream="delta")
        await eventually(lambda: reads(office, ALICE, "all of it"), "the part is told")
        standing = await office.inbox.deliveries.check(id_of(first))
        end = End(agent="guide", intent="", payload=Raw(b'{"sources":[1]}'))
        await OpenAnswers(office.valkey, office.tasks, most_bytes=1000).close(ALICE, standing.stream, Part(0), end)
        office.dispatcher.lapsed("dead")
        await eventually(lambda: has_depth(office, "guide", 0), "it is done")
        start, ending = await office.logged(ALICE)
        assert (ending["stream"], ending["message_id"]) == ("end", start["message_id"])
        assert ending["payload"] == {"message": "all of it", "sources": [1]}
        assert ending["in_reply_to"] == question.message_id

    async def test_an_end_is_stale_once_it_was_decided_that_the_answer_breaks_off(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        standing = await office.inbox.deliveries.check(id_of(delivery))
        await OpenAnswers(office.valkey, office.tasks, most_bytes=1000).fail(ALICE, standing.stream)
        with pytest.raises(StaleDelivery):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"}, stream="end")
        assert [frame["stream"] for frame in await office.logged(ALICE)] == ["start"]

    async def test_a_start_that_comes_after_its_delivery_was_given_back_is_not_logged(self, office: Office) -> None:
        """The gateway had noted it in the inbox, hung, and goes on when its delivery is reclaimed already."""
        delivery = await asked(office)
        await office.inbox.deliveries.open(id_of(delivery), "stream-1", "guide")
        reclaimed = await office.inbox.deliveries.take_back(id_of(delivery), "lapsed", "try")
        await office.answers.returns.end(reclaimed)
        late = Entry(b'{"stream":"start"}', "stream-1", start_key(id_of(delivery)))
        await office.log.append_now(ALICE, late, owner="c-alice")
        (error,) = await office.logged(ALICE)
        assert (error["stream"], error["retrying"]) == ("error", True)

    async def test_an_answer_in_parts_that_comes_too_late_is_ended_by_an_error(self, office: Office) -> None:
        """An earlier attempt, thought lost, has answered meanwhile."""
        question = await office.ask()
        first = await taken(office, question)
        await office.answers.failed(first.delivery_id, "")
        second = await taken(office, question)
        await office.answers.reply(second.delivery_id, "guide", {}, stream="start")
        await office.answers.askers.answer(FinalWord(id_of(first), first.route, "guide", "m", b'{"message":"1"}'))
        await office.answers.reply(second.delivery_id, "guide", {"message": "2"}, stream="end")
        start, answer, error = await office.logged(ALICE)
        assert (start["stream"], answer["message_id"]) == ("start", "m")
        assert (error["message_id"], error["error"]["code"]) == (start["message_id"], "conflict")
        assert error["retrying"] is False
        assert await depth(office) == 0

    async def test_a_reclaimed_answer_in_parts_to_an_answered_question_is_ended_by_an_error(
        self, office: Office
    ) -> None:
        question = await office.ask()
        first = await taken(office, question)
        await office.answers.failed(first.delivery_id, "")
        second = await taken(office, question)
        await office.answers.reply(second.delivery_id, "guide", {}, stream="start")
        await office.answers.askers.answer(FinalWord(id_of(first), first.route, "guide", "m", b'{"message":"1"}'))
        await office.answers.failed(second.delivery_id, "")
        assert [frame.get("stream") for frame in await office.logged(ALICE)] == ["start", None, "error"]
        assert await depth(office) == 0


class TestHandedOn:
    async def test_a_forwarded_question_keeps_id_asker_and_lane(self, office: Office) -> None:
        question = await office.ask("to content", conversation="c1")
        delivery = await taken(office, question)
        await office.answers.forward(delivery.delivery_id, "pillar:content")
        assert (await depth(office), await depth(office, "pillar:content")) == (0, 1)
        found = await office.inbox.take("pillar:content", holders("one|content"))
        other = found.deliveries[0][1]
        assert (other.message_id, other.route, other.body) == (
            question.message_id,
            question.route,
            question.body,
        )
        assert other.attempt == 1
        await office.answers.reply(other.delivery_id, "content", {"message": "mine"})
        (answer,) = await office.logged(ALICE)
        assert (answer["channel"], answer["in_reply_to"]) == ("pillar:content", question.message_id)

    async def test_after_forwarding_the_first_agent_has_nothing_more_to_say(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.forward(delivery.delivery_id, "pillar:content")
        with pytest.raises(StaleDelivery):
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "x"})

    async def test_an_open_answer_is_broken_off_before_another_begins_elsewhere(self, office: Office) -> None:
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {}, stream="start")
        await office.answers.forward(delivery.delivery_id, "pillar:content")
        other = (await office.inbox.take("pillar:content", holders("one|c"))).deliveries[0][1]
        await office.answers.reply(other.delivery_id, "content", {}, stream="start")
        await office.answers.reply(other.delivery_id, "content", {"message": "x"}, stream="end")
        frames = await office.logged(ALICE)
        assert [frame["stream"] for frame in frames] == ["start", "error", "start", "end"]
        assert frames[1]["retrying"] is True

    async def test_a_question_may_come_back_to_where_it_was(self, office: Office) -> None:
        question = await office.ask()
        delivery = await taken(office, question)
        await office.answers.forward(delivery.delivery_id, "pillar:content")
        other = (await office.inbox.take("pillar:content", holders("one|c"))).deliveries[0][1]
        await office.answers.forward(other.delivery_id, "guide")
        again = await taken(office, question)
        assert again.attempt == 1
        assert again.delivery_id != delivery.delivery_id, "no delivery id is used twice"
        await office.answers.reply(again.delivery_id, "guide", {"message": "x"})
        assert (await depth(office), await depth(office, "pillar:content")) == (0, 0)

    async def test_a_question_may_be_forwarded_to_the_inbox_it_is_in(self, office: Office) -> None:
        question = await office.ask()
        delivery = await taken(office, question)
        await office.answers.forward(delivery.delivery_id, "guide")
        again = await taken(office, question)
        await office.answers.done([again.delivery_id])
        assert await depth(office) == 0

    async def test_the_ninth_hop_is_its_death(self, office: Office) -> None:
        question = await office.ask()
        channels = ["guide", "pillar:content"] * 5
        for here, there in itertools.pairwise(channels):
            found = await office.inbox.take(here, holders("one|a"))
            if not found.deliveries:
                break
            await office.answers.forward(found.deliveries[0][1].delivery_id, there)
        (error,) = await office.logged(ALICE)
        assert (error["stream"], error["in_reply_to"]) == ("error", question.message_id)
        statuses = [await office.inbox.status(channel) for channel in ("guide", "pillar:content")]
        assert [status.depth for status in statuses] == [0, 0]
        assert sum(status.dead_letters for status in statuses) == 1

    async def test_what_proves_answered_is_not_handed_on(self, office: Office) -> None:
        """Another instance has decided that the open answer ends."""
        delivery = await asked(office)
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "all"}, stream="start")
        standing = await office.inbox.deliveries.check(id_of(delivery))
        end = End(agent="guide", intent="", payload=Raw(b"{}"))
        await OpenAnswers(office.valkey, office.tasks, most_bytes=1000).close(ALICE, standing.stream, Part(0), end)
        with pytest.raises(StaleDelivery):
            await office.answers.forward(delivery.delivery_id, "pillar:content")
        assert [frame["stream"] for frame in await office.logged(ALICE)] == ["start", "end"]
        assert (await depth(office), await depth(office, "pillar:content")) == (0, 0)

    async def test_an_unknown_inbox_is_refused_and_the_delivery_stays(self, office: Office) -> None:
        delivery = await asked(office)
        with pytest.raises(UnknownChannel):
            await office.answers.forward(delivery.delivery_id, "pillar:nobody")
        await office.answers.reply(delivery.delivery_id, "guide", {"message": "mine"})

    async def test_a_full_inbox_refuses_and_the_delivery_stays(self, valkey: Valkey, tasks: Tasks) -> None:
        async with an_office(valkey, tasks, count=1) as office:
            await office.ask(user="bob", channel="pillar:content")
            delivery = await asked(office)
            with pytest.raises(Overloaded):
                await office.answers.forward(delivery.delivery_id, "pillar:content")
            await office.answers.reply(delivery.delivery_id, "guide", {"message": "mine then"})
            assert await depth(office) == 0

    async def test_a_forward_whose_gateway_died_is_finished_by_the_reaper(self, office: Office) -> None:
        question = await office.ask()
        found = await office.inbox.take("guide", holders("dead|a"))
        await office.inbox.deliveries.leave(id_of(found.deliveries[0][1]), "pillar:content")
        office.dispatcher.lapsed("dead")
        await eventually(lambda: has_depth(office, "pillar:content", 1), "it arrives")
        await eventually(lambda: has_depth(office, "guide", 0), "it has left")
        other = (await office.inbox.take("pillar:content", holders("one|c"))).deliveries[0][1]
        assert other.message_id == question.message_id

    async def test_a_forward_that_arrived_before_its_gateway_died_arrives_once(self, office: Office) -> None:
        question = await office.ask()
        found = await office.inbox.take("guide", holders("dead|a"))
        leaving = await office.inbox.deliveries.leave(id_of(found.deliveries[0][1]), "pillar:content")
        await office.inbox.send_now(handed_on(leaving, "pillar:content"))
        other = (await office.inbox.take("pillar:content", holders("one|c"))).deliveries[0][1]
        await office.answers.reply(other.delivery_id, "content", {"message": "done"})
        office.dispatcher.lapsed("dead")
        await eventually(lambda: has_depth(office, "guide", 0), "it has left")
        assert await depth(office, "pillar:content") == 0
        assert len(await office.logged(ALICE)) == 1
        assert question.message_id == other.message_id

    async def test_a_forward_that_nobody_takes_in_is_tried_again_where_it_was(
        self, valkey: Valkey, tasks: Tasks
    ) -> None:
        async with an_office(valkey, tasks, count=1) as office:
            await office.ask(user="bob", channel="pillar:content")
            question = await office.ask()
            found = await office.inbox.take("guide", holders("dead|a"))
            await office.inbox.deliveries.leave(id_of(found.deliveries[0][1]), "pillar:content")
            office.dispatcher.lapsed("dead")

            async def is_offered() -> bool:
                return (await office.inbox.take("guide", [])).has_more

            await eventually(is_offered, "it is offered again")
            assert (await taken(office, question)).attempt == 2


async def is_ended(office: Office, log: str) -> bool:
    frames = await office.logged(log)
    return bool(frames) and frames[-1].get("stream") in {"end", "error"}


async def is_dead(office: Office) -> bool:
    status = await office.inbox.status("guide")
    return status.dead_letters == 1 and status.depth == 0


async def reads(office: Office, log: str, text: str) -> bool:
    return [frame["payload"]["message"] for frame in await office.open_answers(log)] == [text]


async def has_depth(office: Office, channel: str, expected: int) -> bool:
    return await depth(office, channel) == expected


def text_of_parts(parts: list[dict[str, Any]]) -> str:
    return "".join(part["payload"]["message"] for part in parts)


def is_told(parts: list[dict[str, Any]], whole: str) -> bool:
    return text_of_parts(parts) == whole
