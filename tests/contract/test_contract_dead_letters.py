"""What was given up is kept: it can be looked at, put back once, and dropped, by whoever may."""

from __future__ import annotations

import asyncio

import pytest

from tests.contract.agents import agent_on, asked, asker_of, is_error, reply
from tests.contract.shapes import problem
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import eventually
from tests.support.wire_client import Frame, WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
OPERATIONS = ("list_dead_letters", "requeue_dead_letter", "drop_dead_letter")


async def given_up(agent: WireClient, asker: WireClient, channel: str, **question: str) -> str:
    """A question that its agent refused for good, and of which the asker has heard; its message id."""
    message_id = await asked(asker, channel, **question)
    delivery = await agent.of("delivery")
    assert delivery["message"]["message_id"] == message_id
    answer = await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="I cannot", retry=False)
    assert answer["type"] == "ack"
    is_error(await asker.of("chat_response"), message_id, retrying=False)
    return message_id


async def letters(city: Instance, channel: str) -> list[Frame]:
    listed = await city.done("post_office.list_dead_letters", {"channel": channel})
    found: list[Frame] = listed["dead_letters"]
    return found


@in_town
async def test_a_dead_letter_says_what_it_was_and_why_it_was_given_up(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        message_id = await given_up(agent, alice, channel, message="impossible")
        (letter,) = await letters(town, channel)
    assert letter["message_id"] == message_id
    assert "I cannot" in str(letter)
    assert "impossible" in str(letter)
    assert alice.welcome["user_id"] in str(letter)


@in_town
async def test_a_letter_that_is_put_back_is_asked_again_under_its_id(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        message_id = await given_up(agent, alice, channel, conversation="c", message="try again")
        await town.done("post_office.requeue_dead_letter", {"channel": channel, "message_id": message_id})
        delivery = await agent.of("delivery")
        assert (delivery["message"]["message_id"], delivery["attempt"]) == (message_id, 1)
        assert delivery["message"]["payload"]["message"] == "try again"
        assert delivery["message"]["conversation_id"] == "c"
        assert delivery["message"]["sender"] == {"kind": "user", "id": alice.welcome["user_id"]}
        await reply(agent, delivery, payload={"message": "now I can"})
        answer = await alice.of("chat_response")
        assert (answer["in_reply_to"], answer["payload"]) == (message_id, {"message": "now I can"})
        assert await letters(town, channel) == []
        await alice.nothing_but_pong()


@in_town
async def test_however_often_it_is_put_back_it_is_asked_once(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        arguments = {"channel": channel, "message_id": await given_up(agent, alice, channel)}
        calls = [town.call("post_office.requeue_dead_letter", arguments) for _ in range(5)]
        for response in await asyncio.gather(*calls):
            assert response.status_code in {200, 404, 409}, response.text
        await reply(agent, await agent.of("delivery"), payload={"message": "once"})
        await alice.of("chat_response")
        await agent.nothing_but_pong()
        await alice.nothing_but_pong()


@in_town
async def test_it_may_be_given_up_again(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        message_id = await given_up(agent, alice, channel)
        await town.done("post_office.requeue_dead_letter", {"channel": channel, "message_id": message_id})
        delivery = await agent.of("delivery")
        await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="still not", retry=False)
        is_error(await alice.of("chat_response"), message_id, retrying=False)
        (letter,) = await letters(town, channel)
        assert letter["message_id"] == message_id


@in_town
async def test_a_letter_that_is_dropped_is_gone(town: Instance, channel: str) -> None:
    async with asker_of(town) as alice, agent_on(town, channel) as agent:
        kept, dropped = [await given_up(agent, alice, channel, message=str(n)) for n in range(2)]
        await town.done("post_office.drop_dead_letter", {"channel": channel, "message_id": dropped})
        assert [letter["message_id"] for letter in await letters(town, channel)] == [kept]
        for operation in ("drop_dead_letter", "requeue_dead_letter"):
            again = await town.call(f"post_office.{operation}", {"channel": channel, "message_id": dropped})
            problem(again, 404, "not_found")
        await agent.nothing_but_pong()


async def test_the_last_of_its_tries_makes_a_letter_and_the_lane_goes_on(platform: Platform) -> None:
    city = await platform.start(inbox_tries=1)
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        first = await asked(alice, "guide", "c")
        second = await asked(alice, "guide", "c")
        delivery = await agent.of("delivery")
        await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="no", retry=True)
        is_error(await alice.of("chat_response"), first, retrying=False)
        assert (await agent.of("delivery"))["message"]["message_id"] == second

        async def is_kept() -> bool:
            return [letter["message_id"] for letter in await letters(city, "guide")] == [first]

        await eventually(is_kept, "it is a dead letter")


@in_town
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_only_who_administers_may(town: Instance, channel: str, operation: str) -> None:
    scopes = ["post_office.publish", "post_office.consume", "post_office.history", "post_office.observe"]
    bearer = {"Authorization": f"Bearer {await town.service(unique('curious'), *scopes)}"}
    arguments = {"channel": channel}
    if operation != "list_dead_letters":
        arguments["message_id"] = "01a1f92b-37ba-7000-88ac-4a4876347e31"
    problem(await town.call(f"post_office.{operation}", arguments, **bearer), 403, "forbidden")
    able = {"Authorization": f"Bearer {await town.service(unique('admin'), 'post_office.admin')}"}
    assert (await town.call(f"post_office.{operation}", arguments, **able)).status_code in {200, 404}


@in_town
async def test_a_channel_without_letters_has_none(town: Instance, channel: str) -> None:
    assert await letters(town, channel) == []
    problem(await town.call("post_office.list_dead_letters", {"channel": "pillar:nowhere"}), 404, "unknown_channel")
