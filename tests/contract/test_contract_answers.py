"""Section 4, answers: whole and in parts, to whom they go, and that whatever begins also ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.contract.agents import agent_on, asked, asker_of, is_answer, is_error, reply
from tests.contract.shapes import UUID7, is_publication
from tests.contract.watching import eventually
from tests.support.platform import Instance, unique
from tests.support.waiting import PATIENCE
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


class TestAnswers:
    async def test_an_answer_reaches_the_connection_that_asked_and_no_other(self, town: Instance, channel: str) -> None:
        user, realm = unique("alice"), unique("agents")
        token = await town.session(user)
        async with town.connected(token) as alice, town.connected(token) as other, asker_of(town) as bob:
            await bob.subscribe(channel)
            async with agent_on(town, channel, realm) as agent:
                question = await asked(alice, channel, "c-1")
                await reply(agent, await agent.of("delivery"), payload={"message": "yes"}, intent="chat")
                answer = await alice.of("chat_response")
                await agent.nothing_but_pong()
            is_answer(answer)
            assert (answer["channel"], answer["agent"]) == (channel, realm)
            assert answer["in_reply_to"] == question
            assert answer["conversation_id"] == "c-1"
            assert answer["payload"] == {"message": "yes"}
            assert answer["log"] == f"connection:{alice.id}"
            assert answer["offset"] == alice.welcome["channels"][answer["log"]]["offset"] + 1
            for client in (alice, other, bob):
                await client.nothing_but_pong()

    async def test_an_answered_question_is_settled(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            await reply(agent, delivery, payload={})
            for frame in (
                {"type": "reply", "payload": {}}, {"type": "working"},
                {"type": "failed", "reason": "x", "retry": True}, {"type": "forward", "channel": "guide"},
            ):  # fmt: skip
                refused = await agent.ask(delivery_id=delivery["delivery_id"], **frame)
                assert refused["code"] == "stale_delivery", frame
                assert refused["delivery_id"] == delivery["delivery_id"]
            await alice.of("chat_response")
            await alice.nothing_but_pong()
        status = await town.done("post_office.get_queue_status", {"channel": channel})
        assert status["channels"][channel]["depth"] == 0

    async def test_done_acknowledges_without_an_answer(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            for n in range(3):
                await asked(alice, channel, f"c{n}")
            ids = [(await agent.of("delivery"))["delivery_id"] for _ in range(3)]
            assert (await agent.ask(type="done", delivery_ids=ids))["type"] == "ack"
            await agent.nothing_but_pong()
            await alice.nothing_but_pong()
        status = await town.done("post_office.get_queue_status", {"channel": channel})
        assert status["channels"][channel]["depth"] == 0

    async def test_an_answer_whose_socket_is_gone_goes_to_the_user(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"))
        async with agent_on(town, channel) as agent:
            async with town.connected(token) as first:
                question = await asked(first, channel)
            delivery = await agent.of("delivery")
            async with town.connected(token) as second:
                log = f"user:{second.welcome['user_id']}"

                async def is_gone() -> str:
                    response = await town.call("post_office.get_connection", {"connection_id": first.id})
                    return str(response.json().get("code"))

                await eventually(is_gone, lambda code: code == "not_found", "the first connection is gone")
                await reply(agent, delivery, payload={"message": "late"})
                answer = await second.of("chat_response")
                is_answer(answer)
                assert answer["log"] == log
                assert answer["in_reply_to"] == question
                assert answer["offset"] == second.welcome["channels"][log]["offset"] + 1

    async def test_a_failed_try_without_retry_tells_the_asker_at_once(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            question = await asked(alice, channel)
            delivery = await agent.of("delivery")
            frame = {"type": "failed", "delivery_id": delivery["delivery_id"], "reason": "no idea", "retry": False}
            assert (await agent.ask(**frame))["type"] == "ack"
            error = await alice.of("chat_response")
            is_error(error, question, retrying=False)
            await agent.nothing_but_pong()

    async def test_a_failed_try_is_given_back_as_the_next_attempt(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            first = await agent.of("delivery")
            await agent.ask(type="failed", delivery_id=first["delivery_id"], reason="busy", retry=True)
            second = await agent.of("delivery")
            assert (first["attempt"], second["attempt"]) == (1, 2)
            assert second["message"] == first["message"]
            assert second["delivery_id"] != first["delivery_id"]
            stale = await agent.ask(type="reply", delivery_id=first["delivery_id"], payload={"message": "old"})
            assert stale["code"] == "stale_delivery"
            await reply(agent, second, payload={"message": "new"})
            assert (await alice.of("chat_response"))["payload"] == {"message": "new"}
            await alice.nothing_but_pong()

    async def test_forwarding_keeps_the_question_its_asker_and_its_conversation(
        self, town: Instance, channel: str
    ) -> None:
        other = "pillar:content"
        async with (
            asker_of(town) as alice,
            agent_on(town, channel) as first,
            agent_on(town, other, "content") as second,
        ):
            question = await asked(alice, channel, "c-1")
            delivery = await first.of("delivery")
            answer = await first.ask(type="forward", delivery_id=delivery["delivery_id"], channel=other)
            assert answer["type"] == "ack"
            handed = await second.of("delivery")
            assert (handed["channel"], handed["attempt"]) == (other, 1)
            assert handed["message"]["message_id"] == question
            for name in ("sender", "payload", "conversation_id", "context", "intent"):
                assert handed["message"][name] == delivery["message"][name]
            stale = await first.ask(type="reply", delivery_id=delivery["delivery_id"], payload={})
            assert stale["code"] == "stale_delivery"
            await reply(second, handed, payload={"message": "from there"})
            got = await alice.of("chat_response")
            assert (got["in_reply_to"], got["conversation_id"]) == (question, "c-1")
            assert (got["agent"], got["channel"]) == ("content", other)
            await alice.nothing_but_pong()

    @pytest.mark.parametrize("to", ["nowhere", "pillar:nobody", "user:alice", "connection:c1"])
    async def test_forwarding_to_no_inbox_is_refused_and_the_delivery_stays(
        self, town: Instance, channel: str, to: str
    ) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            refused = await agent.ask(type="forward", delivery_id=delivery["delivery_id"], channel=to)
            assert refused["type"] == "error"
            assert refused["code"] != "internal"
            await reply(agent, delivery, payload={"message": "still mine"})
            assert (await alice.of("chat_response"))["payload"] == {"message": "still mine"}

    async def test_a_ninth_hop_is_a_dead_letter_and_the_asker_is_told(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            question = await asked(alice, channel)
            for hop in range(1, 10):
                delivery = await agent.of("delivery")
                answer = await agent.ask(type="forward", delivery_id=delivery["delivery_id"], channel=channel)
                assert answer["type"] == "ack" or hop == 9, (hop, answer)
            is_error(await alice.of("chat_response"), question, retrying=False)
            await agent.nothing_but_pong()
        status = await town.done("post_office.get_queue_status", {"channel": channel})
        assert status["channels"][channel]["depth"] == 0

    async def test_eight_hops_are_allowed(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            for _ in range(8):
                delivery = await agent.of("delivery")
                await agent.ask(type="forward", delivery_id=delivery["delivery_id"], channel=channel)
            await reply(agent, await agent.of("delivery"), payload={"message": "at last"})
            assert (await alice.of("chat_response"))["payload"] == {"message": "at last"}


class TestAnswersInParts:
    async def test_parts_join_into_the_whole(self, town: Instance, channel: str) -> None:
        words = [f"word {n} " for n in range(30)]
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            question = await asked(alice, channel, "c-1")
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={})
            start = await alice.of("chat_response")
            for word in words:
                await agent.send(
                    type="reply", delivery_id=delivery["delivery_id"], stream="delta", payload={"message": word}
                )
            await reply(agent, delivery, stream="end", payload={})
            parts = [start]
            while parts[-1]["stream"] != "end":
                parts.append(await alice.of("chat_response"))
            await alice.nothing_but_pong()
        for part in parts:
            is_answer(part, parts=True)
            assert part["message_id"] == start["message_id"]
            assert (part["in_reply_to"], part["conversation_id"]) == (question, "c-1")
            assert part["log"] == f"connection:{alice.id}"
        assert (start["stream"], start["part"]) == ("start", 0)
        deltas = parts[1:-1]
        assert {part["stream"] for part in deltas} == {"delta"}
        assert [part["part"] for part in deltas] == list(range(1, len(deltas) + 1))
        assert "".join(part["payload"]["message"] for part in deltas) == "".join(words)
        assert parts[-1]["payload"]["message"] == "".join(words), "the end carries the whole, filled in"
        assert parts[-1]["offset"] == start["offset"] + 1, "start and end are in the log, deltas are not"

    async def test_an_end_that_the_agent_wrote_is_left_as_it_is(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={"message": ""})
            await reply(agent, delivery, stream="delta", payload={"message": "draft"})
            await reply(agent, delivery, stream="end", payload={"message": "final", "sources": [1]})
            end = await alice.until(lambda frame: frame.get("stream") == "end")
        assert end["payload"] == {"message": "final", "sources": [1]}

    async def test_a_delta_is_there_long_before_the_end(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={})
            for n in range(3):
                await reply(agent, delivery, stream="delta", payload={"message": str(n)})
                delta = await alice.until(lambda frame: frame.get("stream") == "delta")
                assert (delta["part"], delta["payload"]) == (n + 1, {"message": str(n)})
            await reply(agent, delivery, stream="end", payload={})

    async def test_who_joins_in_the_middle_gets_the_text_so_far_as_one_delta(
        self, town: Instance, channel: str
    ) -> None:
        """The asker subscribes to its own log again, from before the answer began."""
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            before = alice.welcome["channels"][f"connection:{alice.id}"]
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={})
            for word in ("one ", "two "):
                await reply(agent, delivery, stream="delta", payload={"message": word})
                last = await alice.until(lambda frame: frame.get("stream") == "delta")
            await alice.ask(type="subscribe", channels={f"connection:{alice.id}": before})
            start = await alice.of("chat_response")
            assert (start["stream"], start["part"]) == ("start", 0)
            snapshot = await alice.until(lambda frame: frame.get("stream") == "delta")
            assert snapshot["snapshot"] is True
            assert snapshot["payload"] == {"message": "one two "}
            assert snapshot["part"] == last["part"]
            assert snapshot["message_id"] == start["message_id"]
            await reply(agent, delivery, stream="delta", payload={"message": "three"})
            following = await alice.until(lambda frame: frame.get("stream") == "delta")
            assert "snapshot" not in following
            assert (following["part"], following["payload"]) == (snapshot["part"] + 1, {"message": "three"})
            await reply(agent, delivery, stream="end", payload={})
            end = await alice.until(lambda frame: frame.get("stream") == "end")
            assert end["payload"]["message"] == "one two three"

    @pytest.mark.parametrize("how", ["socket", "failed", "done", "whole", "forward", "give_up"])
    async def test_every_start_gets_exactly_one_end_or_error(self, town: Instance, channel: str, how: str) -> None:
        async with asker_of(town) as alice, agent_on(town, "pillar:content") as content:
            question = await asked(alice, channel)
            async with agent_on(town, channel) as agent:
                delivery = await agent.of("delivery")
                await reply(agent, delivery, stream="start", payload={})
                await reply(agent, delivery, stream="delta", payload={"message": "half"})
                start = await alice.of("chat_response")
                this = {"delivery_id": delivery["delivery_id"]}
                frames: dict[str, Frame] = {
                    "failed": {"type": "failed", "reason": "x", "retry": True, **this},
                    "give_up": {"type": "failed", "reason": "x", "retry": False, **this},
                    "done": {"type": "done", "delivery_ids": [delivery["delivery_id"]]},
                    "whole": {"type": "reply", "payload": {"message": "whole"}, **this},
                    "forward": {"type": "forward", "channel": "pillar:content", **this},
                }
                if how != "socket":
                    await agent.ask(type="consume", channel=channel, max=0)
                    assert (await agent.ask(**frames[how]))["type"] == "ack"
            closing = await alice.until(lambda frame: frame.get("stream") in {"end", "error"})
            assert closing["message_id"] == start["message_id"]
            assert closing["in_reply_to"] == question
            if how in {"socket", "failed"}:
                is_error(closing, question, retrying=True)
            if how == "give_up":
                is_error(closing, question, retrying=False)
            if how in {"socket", "failed"}:
                async with agent_on(town, channel) as another:
                    again = await another.of("delivery")
                    assert again["attempt"] == 2
                    await reply(another, again, stream="start", payload={})
                    new = await alice.until(lambda frame: frame.get("stream") == "start")
                    assert new["message_id"] != start["message_id"]
                    assert new["in_reply_to"] == question
                    await reply(another, again, stream="end", payload={"message": "done"})
                    end = await alice.until(lambda frame: frame.get("stream") == "end")
                    assert end["message_id"] == new["message_id"]
            if how == "forward":
                await reply(content, await content.of("delivery"), payload={"message": "from there"})
                await alice.until(lambda frame: frame["payload"] == {"message": "from there"})
            await rest_has_no_second_closing(alice, start["message_id"])

    @pytest.mark.parametrize("stream", ["delta", "end", "start twice"])
    async def test_parts_out_of_turn_never_reach_the_asker_as_a_broken_answer(
        self, town: Instance, channel: str, stream: str
    ) -> None:
        """Whether they are refused or mended is left open; what the asker sees is well formed."""
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            for kind in ("start", "start") if stream == "start twice" else (stream,):
                answer = await agent.ask(
                    type="reply", delivery_id=delivery["delivery_id"], stream=kind, payload={"message": "x"}
                )
                assert answer.get("code") != "internal"
            await agent.ask(type="reply", delivery_id=delivery["delivery_id"], stream="end", payload={})
            await agent.ask(type="done", delivery_ids=[delivery["delivery_id"]])
            opened: list[str] = []
            closed: list[str] = []
            async with asyncio.timeout(PATIENCE):
                while True:
                    await alice.send(type="ping", id="over")
                    frame = await alice.next()
                    if frame.get("id") == "over":
                        break
                    if frame.get("stream") == "start":
                        opened.append(frame["message_id"])
                    if frame.get("stream") in {"end", "error"}:
                        closed.append(frame["message_id"])
            assert len(set(opened)) == len(opened)
            assert set(opened) <= set(closed)
            assert len(set(closed)) == len(closed)

    @pytest.mark.parametrize("payload", [{"message": 7}, {"message": None}, {"message": ["x"]}])
    async def test_a_delta_that_is_no_text_is_refused(self, town: Instance, channel: str, payload: Frame) -> None:
        async with asker_of(town) as alice, agent_on(town, channel) as agent:
            await asked(alice, channel)
            delivery = await agent.of("delivery")
            await reply(agent, delivery, stream="start", payload={})
            answer = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], stream="delta", payload=payload)
            assert (answer["type"], answer["code"]) == ("error", "invalid_message")
            await reply(agent, delivery, stream="delta", payload={"message": "good"})
            await reply(agent, delivery, stream="end", payload={})
            end = await alice.until(lambda frame: frame.get("stream") == "end")
            assert end["payload"]["message"] == "good"

    async def test_many_answers_at_once_are_kept_apart(self, town: Instance, channel: str) -> None:
        async with asker_of(town) as alice, agent_on(town, channel, max=64) as agent:
            questions = [await asked(alice, channel, f"c{n}") for n in range(20)]
            deliveries = [await agent.of("delivery") for _ in questions]
            for kind in ("start", "delta", "delta", "end"):
                for delivery in deliveries:
                    text = delivery["message"]["conversation_id"] if kind == "delta" else ""
                    payload = {"message": text} if text else {}
                    await agent.send(type="reply", delivery_id=delivery["delivery_id"], stream=kind, payload=payload)
            ends: dict[str, Frame] = {}
            while len(ends) < 20:
                frame = await alice.of("chat_response")
                if frame["stream"] == "end":
                    ends[frame["in_reply_to"]] = frame
        assert set(ends) == set(questions)
        for frame in ends.values():
            assert frame["payload"]["message"] == frame["conversation_id"] * 2


async def rest_has_no_second_closing(asker: WireClient, message_id: str) -> None:
    """What is still waiting brings no other end or error of this answer."""
    await asker.send(type="ping", id="rest")
    while (frame := await asker.next()).get("id") != "rest":
        assert not (frame.get("message_id") == message_id and frame.get("stream") in {"end", "error"}), frame


class TestServicesThatAsk:
    async def test_an_answer_to_a_channel_is_a_message_of_the_agent(self, town: Instance, channel: str) -> None:
        realm = unique("agents")
        async with asker_of(town) as reader, agent_on(town, channel, realm) as agent:
            await reader.subscribe("guide")
            arguments = {
                "channel": channel, "message": {"message": "sum up"}, "reply_to": "guide", "conversation_id": "daily",
            }  # fmt: skip
            sent = await town.done("post_office.send_to_agent", arguments)
            assert sent["status"] == "queued"
            assert UUID7.fullmatch(sent["message_id"])
            delivery = await agent.of("delivery")
            assert delivery["message"]["payload"] == {"message": "sum up"}
            assert (delivery["message"]["sender"]["kind"], delivery["message"]["sender"]["id"]) == (
                "service",
                "operator",
            )
            assert delivery["message"]["conversation_id"] == "daily"
            await reply(agent, delivery, payload={"message": "the sum"})
            (got,) = await reader.messages(1, "guide")
        is_publication(got)
        assert got["payload"] == {"message": "the sum"}
        assert got["in_reply_to"] == sent["message_id"]
        assert (got["sender"]["kind"], got["sender"]["id"]) == ("agent", realm)

    async def test_an_answer_to_a_user_is_a_chat_response(self, town: Instance, channel: str) -> None:
        user = unique("alice")
        async with asker_of(town, user) as alice, agent_on(town, channel) as agent:
            arguments = {"channel": channel, "message": {"message": "greet"}, "reply_to": f"user:{user}"}
            sent = await town.done("post_office.send_to_agent", arguments)
            await reply(agent, await agent.of("delivery"), payload={"message": "hello"})
            answer = await alice.of("chat_response")
        is_answer(answer)
        assert answer["log"] == f"user:{user}"
        assert answer["in_reply_to"] == sent["message_id"]

    async def test_a_services_own_socket_may_ask_no_agent_without_the_right(self, town: Instance, channel: str) -> None:
        async with town.connected(await town.service(unique("reports"))) as service:
            assert (await service.ask(channel=channel, payload={}))["code"] == "forbidden"

    @pytest.mark.parametrize(
        "reply_to", ["nowhere", "", "connection:c1", "user:", "pillar:nobody", "user:a b", "guide "]
    )
    async def test_a_place_that_takes_no_answers_is_refused(self, town: Instance, channel: str, reply_to: str) -> None:
        arguments = {"channel": channel, "message": {}, "reply_to": reply_to}
        response = await town.call("post_office.send_to_agent", arguments)
        assert response.status_code in {403, 404, 422}, response.text
        status = await town.done("post_office.get_queue_status", {"channel": channel})
        assert status["channels"][channel]["depth"] == 0
