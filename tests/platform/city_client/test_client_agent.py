"""Agents: questions taken, answered, given back and forwarded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from city_client import Agent, Dropped, Ended, Question, Refuse, Refused, run_agents
from tests.platform.city_client.peer import Peer, Visit
from tests.support.waiting import PATIENCE, until


@asynccontextmanager
async def running(peer: Peer, *agents: Agent, finish: float = 5.0, **told: Any) -> AsyncIterator[Visit]:
    """Runs agents until the block is left, and gives their first visit after the consumes."""
    stop = asyncio.Event()
    run = asyncio.create_task(run_agents(agents, peer.url, "svc", stop=stop, finish_seconds=finish))
    visit = await peer.visit(user_id="~guide")
    for agent in agents:
        assert (await visit.acknowledge("consume", **told))["channel"] == agent.channel
    yield visit
    stop.set()
    for _ in agents:
        await stopped(visit)
    async with asyncio.timeout(PATIENCE):
        await run


async def stopped(visit: Visit) -> None:
    """Answers the consume that stops an agent."""
    assert (await visit.acknowledge("consume"))["max"] == 0


async def test_what_a_function_returns_is_the_answer(peer: Peer) -> None:
    agent = Agent("guide", most=3)
    seen: list[Question] = []

    @agent.on("chat")
    async def answer(question: Question) -> str:
        seen.append(question)
        return f"you said {question.message}"

    stop = asyncio.Event()
    run = asyncio.create_task(agent.run(peer.url, "svc", stop=stop))
    visit = await peer.visit()
    assert (await visit.acknowledge("consume"))["max"] == 3
    await visit.deliver("guide/m1/2", message="hello", conversation_id="k", context={"plan": "gold"})
    reply = await visit.acknowledge("reply")
    assert reply["payload"] == {"message": "you said hello"}
    assert (reply["delivery_id"], "stream" in reply) == ("guide/m1/2", False)
    [question] = seen
    assert (question.sender.id, question.conversation_id, question.context) == (
        "alice",
        "k",
        {"plan": "gold"},
    )
    assert (question.attempt, question.intent, question.channel) == (2, "chat", "guide")
    stop.set()
    await stopped(visit)
    await run
    assert await visit.gone() == 1000


async def test_a_payload_and_nothing_at_all_are_answers_too(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on("query", "command")
    async def answer(question: Question) -> dict[str, Any] | None:
        return {"n": 1} if question.intent == "query" else None

    async with running(peer, agent) as visit:
        await visit.deliver("guide/m1/1", intent="query")
        assert (await visit.acknowledge("reply"))["payload"] == {"n": 1}
        await visit.deliver("guide/m2/1", intent="command")
        assert (await visit.acknowledge("done"))["delivery_ids"] == ["guide/m2/1"]
        await visit.deliver("guide/m3/1", intent="chat")
        failed = await visit.acknowledge("failed")
        assert (failed["retry"], failed["delivery_id"]) == (False, "guide/m3/1")


async def test_a_generator_answers_in_parts(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on()
    async def answer(question: Question) -> AsyncGenerator[str, None]:
        for word in question.message.split():
            yield word + " "

    async with running(peer, agent) as visit:
        await visit.deliver(message="one two")
        frames = [await visit.heard("reply") for _ in range(3)] + [await visit.acknowledge("reply")]
        assert [(frame["stream"], frame["payload"].get("message")) for frame in frames] == [
            ("start", None), ("delta", "one "), ("delta", "two "), ("end", "one two "),
        ]  # fmt: skip


async def test_a_failure_gives_the_question_back_without_telling_what_is_inside(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on("chat")
    async def answer(question: Question) -> str:
        raise KeyError("the secret of " + question.message)

    async with running(peer, agent) as visit:
        await visit.deliver()
        failed = await visit.acknowledge("failed")
        assert failed["retry"] is True
        assert "secret" not in failed["reason"]


async def test_a_refusal_is_not_tried_again_and_says_why(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on("chat")
    async def answer(question: Question) -> str:
        raise Refuse("not before noon")

    async with running(peer, agent) as visit:
        await visit.deliver()
        failed = await visit.acknowledge("failed")
        assert (failed["retry"], failed["reason"]) == (False, "not before noon")


async def test_an_answer_that_takes_too_long_is_given_back(peer: Peer) -> None:
    agent = Agent("guide", seconds=0.1)

    @agent.on("chat")
    async def answer(question: Question) -> str:
        await asyncio.Event().wait()
        return "never"

    async with running(peer, agent) as visit:
        await visit.deliver()
        assert (await visit.acknowledge("failed"))["retry"] is True


async def test_a_forwarded_question_is_answered_by_nobody_here(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on("chat")
    async def answer(question: Question) -> str:
        await question.forward("pillar:content")
        return "ignored"

    async with running(peer, agent) as visit:
        await visit.deliver("guide/m1/1")
        assert (await visit.acknowledge("forward"))["channel"] == "pillar:content"
        await visit.deliver("guide/m2/1")
        assert (await visit.acknowledge("forward"))["delivery_id"] == "guide/m2/1"


async def test_settling_is_tried_again_while_the_platform_cannot(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on("chat")
    async def answer(question: Question) -> str:
        return "ok"

    async with running(peer, agent) as visit:
        await visit.deliver()
        first = await visit.heard("reply")
        await visit.say("error", id=first["id"], code="unavailable", message="away", retryable=True)
        assert (await visit.acknowledge("reply"))["payload"] == first["payload"]


async def test_an_attempt_that_went_stale_is_dropped_and_the_agent_goes_on(
    peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent("guide")
    started, cancelled = asyncio.Event(), asyncio.Event()

    @agent.on("chat")
    async def answer(question: Question) -> str:
        if question.message == "quick":
            return "done"
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return "never"

    caplog.set_level("INFO", "city_client")
    async with running(peer, agent) as visit:
        await visit.deliver("guide/m1/1", message="quick")
        reply = await visit.heard("reply")
        await visit.say("error", id=reply["id"], code="stale_delivery", message="lapsed", retryable=False)
        await visit.deliver("guide/m2/1", message="slow")
        async with asyncio.timeout(PATIENCE):
            await started.wait()
        await visit.say("error", delivery_id="guide/m2/1", code="stale_delivery", message="lapsed", retryable=False)
        async with asyncio.timeout(PATIENCE):
            await cancelled.wait()
        await visit.deliver("guide/m3/1", message="quick")
        assert (await visit.acknowledge("reply"))["delivery_id"] == "guide/m3/1"
    dropped = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert [any(name in line for line in dropped) for name in ("m1/1", "m2/1", "m3/1")] == [True, True, False]


async def test_a_lost_connection_ends_the_attempts_and_consumes_again(peer: Peer) -> None:
    agent = Agent("guide")
    attempts: list[int] = []

    @agent.on("chat")
    async def answer(question: Question) -> str:
        attempts.append(question.attempt)
        if question.attempt == 1:
            await asyncio.Event().wait()
        return "second try"

    stop = asyncio.Event()
    run = asyncio.create_task(agent.run(peer.url, "svc", stop=stop))
    visit = await peer.visit()
    await visit.acknowledge("consume")
    await visit.deliver("guide/m1/1")
    await visit.deliver("guide/m0/0")  # answered at once: both have arrived
    await visit.acknowledge("reply")
    visit.cut()
    visit = await peer.visit()
    await visit.acknowledge("consume")
    await visit.deliver("guide/m1/2")
    assert (await visit.acknowledge("reply"))["delivery_id"] == "guide/m1/2"
    assert attempts == [1, 0, 2]
    stop.set()
    await stopped(visit)
    await run


async def test_several_agents_share_one_socket(peer: Peer) -> None:
    agents = [Agent("guide"), Agent("pillar:content")]

    for agent in agents:

        @agent.on("chat")
        async def answer(question: Question) -> str:
            return f"from {question.channel}"

    async with running(peer, *agents) as visit:
        await visit.deliver("guide/m1/1")
        assert (await visit.acknowledge("reply"))["payload"] == {"message": "from guide"}


async def test_a_stop_finishes_what_is_in_hand(peer: Peer) -> None:
    agent = Agent("guide")
    go_on = asyncio.Event()

    @agent.on("chat")
    async def answer(question: Question) -> str:
        await go_on.wait()
        return "finished"

    stop = asyncio.Event()
    run = asyncio.create_task(agent.run(peer.url, "svc", stop=stop))
    visit = await peer.visit()
    await visit.acknowledge("consume")
    await visit.deliver()
    stop.set()
    await stopped(visit)
    go_on.set()
    assert (await visit.acknowledge("reply"))["payload"] == {"message": "finished"}
    await run
    assert await visit.gone() == 1000


async def test_a_stop_does_not_wait_for_ever(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on("chat")
    async def answer(question: Question) -> str:
        await asyncio.Event().wait()
        return "never"

    async with running(peer, agent, finish=0.2) as visit:
        await visit.deliver()


async def test_long_work_asks_for_more_time_within_a_third_of_the_lease(peer: Peer) -> None:
    agent = Agent("guide")
    go_on = asyncio.Event()

    @agent.on("chat")
    async def answer(question: Question) -> str:
        await go_on.wait()
        return "ok"

    async with running(peer, agent, lease_seconds=0.15) as visit:
        await visit.deliver("guide/m1/1")
        for _ in range(2):
            assert (await visit.heard("working"))["delivery_id"] == "guide/m1/1"
        go_on.set()
        frame = await visit.heard_after("working", "reply")
        await visit.say("ack", id=frame["id"])


async def test_no_more_questions_are_in_hand_than_asked_for(peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    agent = Agent("guide", most=1)
    taken: list[str] = []
    go_on = asyncio.Event()

    @agent.on("chat")
    async def answer(question: Question) -> str:
        taken.append(question.delivery.delivery_id)
        await go_on.wait()
        return "ok"

    async with running(peer, agent) as visit:
        for number in (1, 2, 3):
            await visit.deliver(f"guide/m{number}/1")
        await until(lambda: "m3" in caplog.text, "the third was not asked for")
        assert taken == ["guide/m1/1"]
        go_on.set()
        assert (await visit.acknowledge("reply"))["delivery_id"] == "guide/m1/1"
        assert (await visit.acknowledge("reply"))["delivery_id"] == "guide/m2/1"
    assert taken == ["guide/m1/1", "guide/m2/1"]


async def test_the_next_question_may_come_together_with_the_acknowledgement(peer: Peer) -> None:
    agent = Agent("guide", most=1)

    @agent.on()
    async def answer(question: Question) -> str:
        return "ok"

    async with running(peer, agent) as visit:
        await visit.deliver("guide/m1/1")
        for number in range(2, 6):
            frame = await visit.heard("reply")
            await visit.say("ack", id=frame["id"])
            await visit.deliver(f"guide/m{number}/1")
        assert (await visit.acknowledge("reply"))["delivery_id"] == "guide/m5/1"


async def test_an_agent_that_may_not_consume_is_told(peer: Peer) -> None:
    run = asyncio.create_task(Agent("guide").run(peer.url, "svc"))
    visit = await peer.visit()
    frame = await visit.heard("consume")
    await visit.say("error", id=frame["id"], code="forbidden", message="no scope", retryable=False)
    await stopped(visit)
    with pytest.raises(Refused) as refused:
        await run
    assert refused.value.code == "forbidden"


async def test_an_agent_whose_token_is_revoked_ends(peer: Peer) -> None:
    run = asyncio.create_task(Agent("guide").run(peer.url, "svc"))
    visit = await peer.visit()
    await visit.acknowledge("consume")
    await visit.close(4501, "revoked")
    with pytest.raises(Ended):
        async with asyncio.timeout(PATIENCE):
            await run


async def test_an_answer_that_the_platform_refuses_is_not_tried_again(peer: Peer) -> None:
    agent = Agent("guide")

    @agent.on()
    async def answer(question: Question) -> str:
        return "too much"

    async with running(peer, agent) as visit:
        await visit.deliver()
        frame = await visit.heard("reply")
        await visit.say("error", id=frame["id"], code="too_large", message="no", retryable=False)
        failed = await visit.acknowledge("failed")
        assert (failed["retry"], "too_large" in failed["reason"]) == (False, True)


async def test_a_settled_question_cannot_be_answered_again(peer: Peer) -> None:
    agent = Agent("guide")
    attempts: list[str] = []

    @agent.on()
    async def answer(question: Question) -> None:
        await question.forward("pillar:content")
        for again in (question.working(), question.forward("guide"), question.delivery.part("more")):
            with pytest.raises(Dropped):
                await again
            attempts.append("dropped")

    async with running(peer, agent) as visit:
        await visit.deliver()
        await visit.acknowledge("forward")
        await until(lambda: len(attempts) == 3, "all were dropped")


async def test_a_stop_is_heard_while_the_platform_is_away() -> None:
    async with Peer().running() as peer:
        nowhere = peer.url
    stop = asyncio.Event()
    run = asyncio.create_task(Agent("guide").run(nowhere, "svc", stop=stop))
    stop.set()
    async with asyncio.timeout(PATIENCE):
        await run


def test_only_async_functions_can_answer() -> None:
    with pytest.raises(TypeError, match="async"):
        Agent("guide").on("chat")(lambda question: question)


async def test_a_stopped_question_cancels_its_handler_which_may_clean_up_and_says_nothing(peer: Peer) -> None:
    agent = Agent("guide")
    began, ended = asyncio.Event(), list[bool]()

    @agent.on("chat")
    async def answer(question: Question) -> str:
        try:
            began.set()
            await asyncio.sleep(30)
        finally:
            ended.append(question.delivery.is_stopped)
            with pytest.raises(Dropped):
                await question.delivery.reply({"message": "too late"})
        return "never"

    async with running(peer, agent) as visit:
        await visit.deliver("guide/m1/1")
        await began.wait()
        await visit.say("stop", delivery_id="guide/other/1")
        await visit.say("stop", delivery_id="guide/m1/1")
        await until(lambda: ended == [True], "the handler is cancelled, and knows why")


async def test_a_stopped_generator_is_closed_between_two_parts(peer: Peer) -> None:
    agent = Agent("guide")
    closed = asyncio.Event()

    @agent.on()
    async def answer(question: Question) -> AsyncGenerator[str, None]:
        try:
            while True:
                yield "and "
                await asyncio.sleep(0.001)
        finally:
            closed.set()

    stop = asyncio.Event()
    run = asyncio.create_task(agent.run(peer.url, "svc", stop=stop))
    visit = await peer.visit()
    await visit.acknowledge("consume")
    await visit.deliver("guide/m1/1")
    await visit.heard("reply")
    await visit.say("stop", delivery_id="guide/m1/1")
    async with asyncio.timeout(PATIENCE):
        await closed.wait()
    stop.set()
    last = await visit.heard_after("reply", "consume")
    await visit.say("ack", id=last["id"])
    async with asyncio.timeout(PATIENCE):
        await run
