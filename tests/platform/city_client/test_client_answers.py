"""Questions and their answers, whole and in parts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from city_client import Answer, AnswerFailed, Ended, NoAnswer, Refused
from tests.platform.city_client.conftest import Arrive
from tests.platform.city_client.peer import Peer, Visit
from tests.support.waiting import PATIENCE


async def respond(visit: Visit, stream: str = "", message: str = "", **fields: Any) -> None:
    """One ``chat_response`` to the question ``q1``."""
    answer = {
        "channel": "guide",
        "agent": "guide",
        "in_reply_to": "q1",
        "payload": {"message": message} if message else {},
        "message_id": "a1",
        "log": "connection:c1",
        **({"stream": stream} if stream else {}),
    }
    await visit.say("chat_response", **{**answer, **fields})


async def take(visit: Visit, **fields: Any) -> Any:
    """Takes the question into the inbox."""
    return await visit.acknowledge("message", channel="guide", status="queued", message_id="q1", **fields)


async def parts(answer: Answer) -> list[tuple[str, bool]]:
    async with asyncio.timeout(PATIENCE):
        return [(part.text, part.restarts) async for part in answer]


async def test_an_answer_is_awaited_as_a_whole(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "who is there?", conversation_id="k1")
    asked = await take(visit)
    assert asked["payload"] == {"message": "who is there?", "conversation_id": "k1"}
    await respond(visit, message="nobody", payload={"message": "nobody", "n": 0}, conversation_id="k1", offset=1)
    reply = await answer
    assert (reply.text, str(reply), reply.payload) == ("nobody", "nobody", {"message": "nobody", "n": 0})
    assert (reply.agent, reply.channel, reply.in_reply_to) == ("guide", "guide", "q1")
    assert (reply.conversation_id, reply.message_id) == ("k1", "a1")


async def test_an_answer_is_read_while_it_is_being_written(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "tell me")
    await take(visit)
    reading = answer.__aiter__()
    await respond(visit, "start")
    for number, text in enumerate(("once ", "upon"), 1):
        await respond(visit, "delta", text, part=number)
        assert str(await anext(reading)) == text
    await respond(visit, "end", "once upon a time", part=3)
    assert [part.text async for part in reading] == [" a time"]
    assert (await answer).text == "once upon a time"
    assert await parts(answer) == [("once upon a time", False)]


async def test_an_attempt_that_is_retried_restarts_the_text(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "tell me")
    await take(visit)
    reading = asyncio.create_task(parts(answer))
    await respond(visit, "start")
    await respond(visit, "delta", "wrong", part=1)
    await respond(visit, "error", error={"code": "unavailable", "message": "died"}, retrying=True)
    await respond(visit, "start", message_id="a2")
    await respond(visit, "delta", "right", message_id="a2", part=1)
    await respond(visit, "end", message_id="a2")
    shown = ""
    for text, restarts in await reading:
        shown = text if restarts else shown + text
    assert shown == "right" == (await answer).text


async def test_an_answer_that_fails_for_good_raises_in_both_ways(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "tell me")
    await take(visit)
    await respond(visit, "start")
    await respond(visit, "delta", "half", part=1)
    await respond(visit, "error", error={"code": "not_found", "message": "no such thing"}, retrying=False)
    with pytest.raises(AnswerFailed) as failed:
        await answer
    assert failed.value.code == "not_found"
    with pytest.raises(AnswerFailed):
        await parts(answer)


async def test_an_answer_that_overtakes_its_acknowledgement_is_not_lost(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "quick!")
    frame = await visit.heard("message")
    await respond(visit, message="at once")
    await visit.say("ack", id=frame["id"], channel="guide", status="queued", message_id="q1")
    assert (await answer).text == "at once"


async def test_an_answer_is_found_on_the_own_log_after_a_fresh_connection(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "tell me")
    await take(visit)
    await respond(visit, "start", offset=1, epoch="c")
    await respond(visit, "delta", "on", part=1)
    visit.cut()
    visit = await peer.visit(
        connection_id="c2",
        channels={"connection:c2": {"offset": 0, "epoch": "d"}, "user:alice": {"offset": 1, "epoch": "u"}},
    )
    await visit.subscribed(user__alice={"offset": 0, "epoch": "u", "recovered": True, "missed": 1})
    await respond(visit, "end", "on and on", log="user:alice", offset=1, epoch="u")
    assert (await answer).text == "on and on"


async def test_silence_is_not_waited_for_longer_than_asked(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "anybody?", seconds=0.2)
    await take(visit)
    with pytest.raises(NoAnswer):
        await answer


async def test_a_question_that_is_refused_raises_from_its_answer(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("nowhere", "anybody?")
    frame = await visit.heard("message")
    await visit.say("error", id=frame["id"], code="unknown_channel", message="no", retryable=False)
    with pytest.raises(Refused) as refused:
        await parts(answer)
    assert refused.value.code == "unknown_channel"


@pytest.mark.parametrize("is_taken", [True, False])
async def test_who_waits_for_an_answer_is_told_when_the_client_closes(arrive: Arrive, is_taken: bool) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "tell me")
    if is_taken:
        await take(visit)
        await respond(visit, "start")
        await respond(visit, "delta", "a", part=1)
        assert (await anext(answer.__aiter__())).text == "a"
    await client.close()
    with pytest.raises(Ended):
        await answer


async def test_many_answers_at_once_find_their_questions(arrive: Arrive) -> None:
    client, visit = await arrive()
    answers = [client.ask("guide", str(number)) for number in range(50)]
    for _ in answers:
        frame = await visit.heard("message")
        number = frame["payload"]["message"]
        await visit.say("ack", id=frame["id"], channel="guide", status="queued", message_id=f"q{number}")
    for number in reversed(range(50)):
        await respond(visit, message=f"it is {number}", in_reply_to=f"q{number}", message_id=f"a{number}")
    assert [(await answer).text for answer in answers] == [f"it is {number}" for number in range(50)]


async def test_answers_that_nobody_waits_for_are_read_from_the_own_log(arrive: Arrive) -> None:
    client, visit = await arrive()
    subscribing = asyncio.create_task(client.subscribe("user:alice"))
    await visit.subscribed(user__alice={"offset": 0, "epoch": "u"})
    reader = await subscribing
    await respond(visit, message="late", log="user:alice", offset=1, epoch="u")
    publication = await anext(reader)
    assert (publication.channel, publication.payload) == ("user:alice", {"message": "late"})
    assert (publication.sender.kind, publication.sender.id) == ("agent", "guide")


async def test_a_question_is_stopped_as_soon_as_its_id_is_known(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "go on for ever")
    stopping = asyncio.create_task(answer.stop())
    await take(visit)
    frame = await visit.acknowledge("stop", message_id="q1", outcome="stopped")
    assert frame["message_id"] == "q1"
    assert await stopping == "stopped"
    await respond(visit, "error", error={"code": "stopped", "message": "nobody wants it"}, retrying=False)
    with pytest.raises(AnswerFailed) as failed:
        await answer
    assert failed.value.code == "stopped"


async def test_stopping_what_was_never_taken_asks_nobody(arrive: Arrive) -> None:
    client, visit = await arrive()
    answer = client.ask("guide", "no")
    stopping = asyncio.create_task(answer.stop())
    frame = await visit.heard("message")
    await visit.say("error", id=frame["id"], code="forbidden", message="no", retryable=False)
    assert await stopping == "unknown"


async def test_a_stop_is_said_again_over_the_next_link(arrive: Arrive, peer: Peer) -> None:
    client, visit = await arrive()
    stopping = asyncio.create_task(client.stop("q1"))
    await visit.heard("stop")
    visit.cut()
    later = await peer.visit()
    later_frame = await later.heard_after("subscribe", "stop")
    await later.say("ack", id=later_frame["id"], outcome="finished")
    assert await stopping == "finished"
