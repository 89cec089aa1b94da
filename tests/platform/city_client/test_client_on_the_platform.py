"""The client and agents against the real platform: what the scripted server promised holds there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from city_client import (
    Agent,
    AnswerFailed,
    CityClient,
    Ended,
    Position,
    Question,
    Refused,
)
from city_client.events import Connected, Event, Subscribed
from city_inspector.faulting_proxy import FaultingProxy
from tests.support.echo_agent import answering, echo
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE, until


async def service(city: Instance, realm: str, *scopes: str) -> str:
    """A service's token."""
    wanted = {"realm": realm, "scopes": list(scopes)}
    return str((await city.done("traffic_cop.create_service_token", wanted))["token"])


async def test_a_question_is_answered_in_parts_and_as_a_whole(city: Instance) -> None:
    user = unique("alice")
    async with answering(city, echo()), CityClient(city.url, token=await city.session(user)) as client:
        answer = client.ask("guide", "one two three", seconds=10)
        assert "".join([part.text async for part in answer]) == "one two three "
        reply = await answer
        assert (reply.text, reply.agent, reply.channel) == ("one two three ", "echo", "guide")
        query = await client.ask("guide", {"n": 1}, intent="query", conversation_id="k1", seconds=10)
        assert query.payload["asked"] == {"n": 1, "conversation_id": "k1"}
        assert (query.payload["by"], query.conversation_id) == (user, "k1")


async def test_a_refusal_of_the_agent_reaches_the_asker(city: Instance) -> None:
    async with (
        answering(city, echo()),
        CityClient(city.url, token=await city.session(unique("bob"))) as client,
    ):
        with pytest.raises(AnswerFailed):
            await client.ask("guide", "do it", intent="command", seconds=10)


async def test_a_forwarded_question_is_answered_by_the_other_agent(city: Instance) -> None:
    porter = Agent("guide")

    @porter.on()
    async def forward(question: Question) -> None:
        await question.forward("pillar:content")

    async with (
        answering(city, porter, echo("pillar:content")),
        CityClient(city.url, token=await city.session(unique("carol"))) as client,
    ):
        reply = await client.ask("guide", "pass it on", seconds=10)
        assert (reply.text, reply.channel) == ("pass it on ", "pillar:content")


async def test_an_attempt_that_fails_is_retried_and_the_asker_sees_it(city: Instance) -> None:
    agent = Agent("guide")

    @agent.on()
    async def answer(question: Question) -> AsyncGenerator[str, None]:
        yield f"attempt {question.attempt}"
        if question.attempt == 1:
            raise RuntimeError("no")

    async with (
        answering(city, agent),
        CityClient(city.url, token=await city.session(unique("dora"))) as client,
    ):
        shown = ""
        async for part in client.ask("guide", "try", seconds=15):
            shown = part.text if part.restarts else shown + part.text
        assert shown == "attempt 2"


async def test_publications_are_read_over_a_cut_connection_without_a_gap(city: Instance) -> None:
    events: list[Event] = []
    token = await service(city, "news", "post_office.publish", "post_office.history")
    async with FaultingProxy(city.settings.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with (
            CityClient(url, token=token, on_event=events.append) as reader,
            CityClient(city.url, token=token) as writer,
        ):
            subscription = await reader.subscribe("guide")
            got = []
            for number in range(60):
                await writer.publish("guide", {"n": number})
                if number % 20 == 10:
                    proxy.cut()
                if number % 20 == 15:
                    got.append((await anext(subscription)).payload["n"])
            async with asyncio.timeout(20):
                while len(got) < 60:
                    publication = await anext(subscription)
                    assert publication.gap is None
                    got.append(publication.payload["n"])
            assert got == list(range(60))
    assert len([event for event in events if isinstance(event, Connected)]) >= 2
    recovered = [event.recovered for event in events if isinstance(event, Subscribed) and event.channel == "guide"]
    assert recovered[0] is None
    assert set(recovered[1:]) == {True}


async def test_an_answer_arrives_although_the_connection_was_cut_while_it_was_given(city: Instance) -> None:
    agent, cut = Agent("guide"), asyncio.Event()

    @agent.on()
    async def answer(question: Question) -> AsyncGenerator[str, None]:
        yield "before "
        await cut.wait()
        yield "after"

    async with (
        answering(city, agent),
        FaultingProxy(city.settings.port) as proxy,
        CityClient(f"http://127.0.0.1:{proxy.port}", token=await city.session(unique("erin"))) as client,
    ):
        asked = client.ask("guide", "go", seconds=15)
        first = await anext(asked.__aiter__())
        assert first.text == "before "
        proxy.cut()
        await until(lambda: client.connection_id == "", "the cut is noticed")
        cut.set()
        async with asyncio.timeout(20):
            assert (await asked).text == "before after"


async def test_a_later_reader_goes_on_where_an_earlier_one_stopped(city: Instance) -> None:
    token = await service(city, "news", "post_office.publish", "post_office.history")
    async with CityClient(city.url, token=token) as client:
        for number in range(5):
            last = await client.publish("pillar:insights", {"n": number})
        assert last.offset is not None
        since = Position(last.offset - 3, last.epoch)
        async with (
            asyncio.timeout(PATIENCE),
            aclosing(client.listen("pillar:insights", since=since)) as publications,
        ):
            assert [(await anext(publications)).payload["n"] for _ in range(3)] == [2, 3, 4]
        lost = Position(last.offset, "elsewhere")
        async with await client.subscribe("pillar:insights", since=lost) as reader:
            await client.publish("pillar:insights", {"n": 5})
            publication = await anext(reader)
        assert publication.payload == {"n": 5}
        assert publication.gap is not None
        assert publication.gap.reason == "unknown_epoch"


async def test_the_same_key_is_published_once(city: Instance) -> None:
    token = await service(city, "news", "post_office.publish")
    async with CityClient(city.url, token=token) as client:
        first = await client.publish("guide", {"n": 1}, key="k1")
        again = await client.publish("guide", {"n": 1}, key="k1")
        assert (again.message_id, again.duplicate) == (first.message_id, True)
        with pytest.raises(Refused) as refused:
            await client.publish("guide", {"n": 2}, key="k1")
    assert refused.value.code == "conflict"


async def test_what_a_session_may_not_do_is_refused_with_its_code(city: Instance) -> None:
    token = await city.session(unique("mallory"), channels={"guide": ["subscribe"]})
    async with CityClient(city.url, token=token) as client:
        for attempt in (
            client.publish("guide", {}),
            client.send("pillar:content", {}),
            client.subscribe("pillar:content"),
        ):
            with pytest.raises(Refused) as refused:
                await attempt
            assert refused.value.code == "forbidden"
        with pytest.raises(Refused) as refused:
            await client.send("nowhere", {})
        assert refused.value.code == "unknown_channel"


async def test_a_revoked_session_ends_the_client(city: Instance) -> None:
    user = unique("frank")
    token = await city.session(user)
    async with CityClient(city.url, token=token) as client:
        reader = await client.subscribe("guide")
        await city.done("traffic_cop.revoke_session", {"user_id": user})
        with pytest.raises(Ended) as ended:
            async with asyncio.timeout(PATIENCE):
                await anext(reader)
        assert ended.value.code == 4501
    with pytest.raises(Ended):
        await CityClient(city.url, token=token).__aenter__()


async def test_a_refreshed_session_goes_on(city: Instance) -> None:
    token = await city.session(unique("grace"))
    renewed = await city.done("traffic_cop.refresh_session", {"session_token": token})
    async with CityClient(city.url, token=token) as client:
        await client.refresh(str(renewed["session_token"]))
        await client.subscribe("guide")


async def test_what_is_sent_over_cut_connections_is_published_once_and_read_once(city: Instance) -> None:
    token = await service(city, "news", "post_office.publish", "post_office.history")
    async with FaultingProxy(city.settings.port) as proxy:
        url = f"http://127.0.0.1:{proxy.port}"
        async with CityClient(url, token=token) as writer, CityClient(url, token=token) as reader:
            subscription = await reader.subscribe("guide")

            async def write(thread: int) -> None:
                for number in range(50):
                    await writer.publish("guide", {"thread": thread, "n": number})
                    if thread == 0 and number in (10, 30):
                        proxy.cut()

            writing = [asyncio.create_task(write(thread)) for thread in range(10)]
            got: dict[int, list[int]] = {thread: [] for thread in range(10)}
            async with asyncio.timeout(40):
                while sum(map(len, got.values())) < 500:
                    publication = await anext(subscription)
                    assert publication.gap is None
                    got[publication.payload["thread"]].append(publication.payload["n"])
            await asyncio.gather(*writing)
        assert got == {thread: list(range(50)) for thread in range(10)}
        newest = await city.done("post_office.get_channel_history", {"channel": "guide", "limit": 1})
        assert newest["offset"] == 500


async def test_askers_agents_and_readers_may_be_on_different_instances(platform: Platform) -> None:
    one, two = await platform.start(), await platform.start()
    token = await service(one, "news", "post_office.publish", "post_office.history")
    async with (
        answering(one, echo()),
        CityClient(two.url, token=await one.session(unique("heidi"))) as asker,
        CityClient(one.url, token=token) as writer,
    ):
        assert (await asker.ask("guide", "over there", seconds=10)).text == "over there "
        reader = await asker.subscribe("guide")
        await writer.publish("guide", {"n": 1})
        async with asyncio.timeout(PATIENCE):
            assert (await anext(reader)).payload == {"n": 1}


@pytest.mark.parametrize("since", ["0", Position(0)])
async def test_a_position_may_be_given_as_its_text(city: Instance, since: Position | str) -> None:
    await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}})
    async with CityClient(city.url, token=await city.session(unique("alice"))) as client:
        async with asyncio.timeout(PATIENCE), aclosing(client.listen("guide", since=since)) as publications:
            assert (await anext(publications)).offset == 1
        with pytest.raises(ValueError, match="position"):
            await client.subscribe("guide", since="yesterday")


async def test_a_stopped_question_ends_for_asker_and_agent_on_different_instances(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    agent = Agent("guide")
    began, cancelled = asyncio.Event(), asyncio.Event()

    @agent.on()
    async def answer(question: Question) -> AsyncGenerator[str, None]:
        try:
            yield "once upon a time"
            began.set()
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    stop = asyncio.Event()
    run = asyncio.create_task(agent.run(there.url, await there.service("guide", "post_office.consume"), stop=stop))
    async with CityClient(here.url, token=await here.session(unique("alice"))) as client:
        asked = client.ask("guide", "tell me a story")
        async with asyncio.timeout(PATIENCE):
            await began.wait()
            assert await asked.stop() == "stopped"
            with pytest.raises(AnswerFailed) as failed:
                await asked
            await cancelled.wait()
    assert failed.value.code == "stopped"
    stop.set()
    await run
