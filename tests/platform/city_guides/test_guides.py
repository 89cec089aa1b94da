"""The demo agents on the real platform: they understand, find out, pass on, and make nothing up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from city_client import CityClient, Operations, Refused, Reply
from city_guides.__main__ import serve
from city_guides.guide import GUIDE
from city_guides.pillars import CONTENT, PILLARS
from city_guides.specialist import Specialist
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE


@pytest.fixture
async def operator(city: Instance) -> AsyncIterator[Operations]:
    async with Operations(city.url, OPERATOR_TOKEN) as operations:
        yield operations


@pytest.fixture
async def asker(city: Instance) -> AsyncIterator[CityClient]:
    async with CityClient(city.url, token=await city.session(unique("alice"))) as client:
        yield client


@pytest.fixture
async def guides(city: Instance) -> AsyncIterator[None]:
    """All demo agents, each with a token of its own."""
    async with serving(city, OPERATOR_TOKEN, GUIDE, *PILLARS):
        yield


@asynccontextmanager
async def serving(city: Instance, token: str, *specialists: Specialist) -> AsyncIterator[None]:
    stop = asyncio.Event()
    running = [asyncio.create_task(serve(each, city.url, token, stop)) for each in specialists]
    yield
    stop.set()
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(*running)


async def until_all_take_questions(operator: Operations) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            channels = (await operator.call("post_office.get_queue_status"))["channels"]
            if all(queue["consumers"] for queue in channels.values()):
                return


async def publish(operator: Operations, text: str, channel: str = "pillar:content") -> None:
    arguments = {"channel": channel, "message": {"message": text}, "realm": "news"}
    await operator.call("post_office.publish_to_agent_channel", arguments)


async def ask(asker: CityClient, question: str, channel: str = "guide", intent: str = "chat") -> Reply:
    async with asyncio.timeout(PATIENCE):
        return await asker.ask(channel, question, intent=intent)


async def test_the_guide_explains_the_platform_in_parts(guides: None, asker: CityClient) -> None:
    answer = asker.ask("guide", "What is this platform?")
    text = "".join([part.text async for part in answer])
    assert text == (await answer).text
    assert all(pillar.channel in text for pillar in PILLARS)


async def test_the_guide_shows_channels_and_people_as_they_are(
    guides: None, asker: CityClient, operator: Operations
) -> None:
    await until_all_take_questions(operator)
    await asker.subscribe("pillar:insights")
    await publish(operator, "one")
    await publish(operator, "two")
    listed = await ask(asker, "list the channels", intent="query")
    found = {channel["channel"]: channel["offset"] for channel in listed.payload["figures"]["channels"]}
    assert found["pillar:content"] == 2
    assert "pillar:content: 0 listeners, 2 publications" in listed.text
    people = await ask(asker, "who is on pillar:insights?")
    assert "1 connection listening" in people.text
    assert asker.connection_id in people.text
    counted = await ask(asker, "how many connections are there?", intent="query")
    assert counted.payload["figures"]["connections"] == 6


async def test_the_guide_tells_how_the_platform_is(guides: None, asker: CityClient) -> None:
    reply = await ask(asker, "Is everything healthy?", intent="query")
    assert reply.payload["figures"]["status"] == "healthy"
    assert reply.payload["figures"]["valkey"] == "healthy"


async def test_the_guide_passes_on_what_a_pillar_knows_better(
    guides: None, asker: CityClient, operator: Operations
) -> None:
    await until_all_take_questions(operator)
    for question, realm in (
        ("search for water", "content"),
        ("how many messages went through?", "insights"),
        ("how long are the queues?", "operations"),
        ("how many questions were answered?", "business_outcomes"),
    ):
        reply = await ask(asker, question)
        assert (reply.agent, reply.channel) == (realm, f"pillar:{realm}")


async def test_a_question_is_not_passed_on_to_nobody(city: Instance, asker: CityClient, operator: Operations) -> None:
    async with serving(city, OPERATOR_TOKEN, GUIDE):
        reply = await ask(asker, "search for water")
        assert reply.agent == "guide"
        assert "pillar:content" in reply.text


async def test_content_is_searched_over_all_pages(city: Instance, asker: CityClient, operator: Operations) -> None:
    wanted = {"realm": "news", "scopes": ["post_office.publish"]}
    token = (await operator.call("traffic_cop.create_service_token", wanted))["token"]
    async with CityClient(city.url, token=token) as writer:
        await writer.publish(CONTENT.channel, {"title": "The oldest WATER main", "year": 1900})
        for _ in range(12):
            writing = [writer.publish(CONTENT.channel, {"message": "nothing of interest"}) for _ in range(50)]
            await asyncio.gather(*writing)
        await writer.publish(CONTENT.channel, {"message": "water mains repaired"})
    async with serving(city, OPERATOR_TOKEN, CONTENT):
        found = await ask(asker, "search water mains", CONTENT.channel, "query")
        assert found.payload["figures"] == {"hits": 2, "searched": 602, "words": ["main", "water"]}
        lines = found.text.splitlines()
        assert "repaired" in lines[0]
        assert "oldest WATER main" in lines[1]
        assert "Look for what?" in (await ask(asker, "search", CONTENT.channel)).text
        latest = await ask(asker, "what is new?", CONTENT.channel)
        assert latest.text.count("•") == 5


async def test_figures_are_the_platforms_own(guides: None, asker: CityClient, operator: Operations) -> None:
    await until_all_take_questions(operator)
    for _ in range(3):
        assert (await ask(asker, "hello")).agent == "guide"
    outcomes = await ask(asker, "how many answers?", "pillar:business_outcomes", "query")
    assert outcomes.payload["figures"]["answers"] == 3
    assert outcomes.payload["figures"]["deliveries"] == 4
    instances = await ask(asker, "which instances are running?", "pillar:operations", "query")
    count = await operator.call("post_office.get_connection_count")
    assert instances.payload["figures"]["by_instance"] == count["by_instance"]
    messages = await ask(asker, "how many messages, and how fast?", "pillar:insights", "query")
    assert messages.payload["figures"]["messages"] == 6
    assert 0 < messages.payload["figures"]["mean_latency_ms"] < 5000
    await publish(operator, "one")
    publications = await ask(asker, "which channels are the busiest?", "pillar:insights", "query")
    assert publications.payload["figures"]["publications"]["pillar:content"] == 1
    visitors = await ask(asker, "how many visitors?", "pillar:business_outcomes", "query")
    assert visitors.payload["figures"]["connections_since_start"] == 6


async def test_whoever_does_not_understand_says_what_can_be_asked(guides: None, asker: CityClient) -> None:
    for each in (GUIDE, *PILLARS):
        for question, intent in (("¿qué?", "chat"), ("", "query"), ("delete everything", "command")):
            reply = await ask(asker, question, each.channel, intent)
            assert each.offers in reply.text


async def test_what_the_platform_refuses_is_told(guides: None, asker: CityClient) -> None:
    reply = await ask(asker, "who is on pillar:atlantis?")
    assert "does not tell" in reply.text


async def test_with_a_services_token_all_agents_share_it(
    city: Instance, asker: CityClient, operator: Operations
) -> None:
    scopes = sorted({scope for each in (GUIDE, *PILLARS) for scope in each.scopes})
    issued = await operator.call("traffic_cop.create_service_token", {"realm": "demo", "scopes": scopes})
    async with serving(city, issued["token"], GUIDE, CONTENT):
        assert (await ask(asker, "hello")).agent == "demo"
        assert (await ask(asker, "what is new?", CONTENT.channel)).agent == "demo"


async def test_an_agent_whose_token_is_revoked_gets_another(
    city: Instance, asker: CityClient, operator: Operations
) -> None:
    async with serving(city, OPERATOR_TOKEN, GUIDE):
        assert (await ask(asker, "hello")).agent == "guide"
        [token] = (await operator.call("traffic_cop.list_service_tokens", {"realm": "guide"}))["tokens"]
        await operator.call("traffic_cop.revoke_service_token", {"token_id": token["token_id"]})
        assert (await ask(asker, "hello again")).agent == "guide"
        [renewed] = (await operator.call("traffic_cop.list_service_tokens", {"realm": "guide"}))["tokens"]
        assert renewed["token_id"] != token["token_id"]


async def test_pillars_that_a_platform_does_not_have_are_not_missed(platform: Platform) -> None:
    city = await platform.start(pillars=("content",))
    async with (
        serving(city, OPERATOR_TOKEN, GUIDE, *PILLARS),
        CityClient(city.url, token=await city.session(unique("alice"))) as asker,
    ):
        assert (await ask(asker, "what is new?", CONTENT.channel)).agent == "content"
        assert (await ask(asker, "what is new?")).agent == "content"
        reply = await ask(asker, "which instances are running?")
        assert (reply.agent, "no agent is there" in reply.text) == ("guide", True)


async def test_a_token_that_nobody_knows_ends_the_agents(city: Instance) -> None:
    with pytest.raises(Refused) as refused:
        await serve(GUIDE, city.url, "svc_" + "x" * 40, asyncio.Event())
    assert refused.value.code == "unauthenticated"


async def test_the_program_runs_until_it_is_told_to_stop_and_leaves_no_token(
    city: Instance, asker: CityClient, operator: Operations
) -> None:
    environment = {**os.environ, "SMART_CITY_URL": city.url, "SMART_CITY_TOKEN": OPERATOR_TOKEN}
    program = await asyncio.create_subprocess_exec(sys.executable, "-m", "city_guides", env=environment)
    try:
        for channel in ("guide", *(pillar.channel for pillar in PILLARS)):
            assert (await ask(asker, "hello", channel)).channel == channel
        issued = (await operator.call("traffic_cop.list_service_tokens"))["tokens"]
        assert {token["realm"]: tuple(token["scopes"]) for token in issued} == {
            each.realm: each.scopes for each in (GUIDE, *PILLARS)
        }
        program.send_signal(signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await program.wait() == 0
    finally:
        if program.returncode is None:
            program.kill()
            await program.wait()
    assert (await operator.call("traffic_cop.list_service_tokens"))["tokens"] == []


async def test_the_program_says_why_it_cannot_run(city: Instance) -> None:
    environment = {**os.environ, "SMART_CITY_URL": city.url, "SMART_CITY_TOKEN": "svc_wrong"}
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "city_guides", env=environment, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(PATIENCE):
        _, errors = await program.communicate()
    assert program.returncode == 1
    assert b"unauthenticated" in errors
    assert b"Traceback" not in errors
