"""Section 4, subscriptions: positions, what was missed, why not, and what the server ends by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from tests.contract.shapes import has_only, is_publication, position
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.wire_client import WireClient

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


async def publish(city: Instance, channel: str, count: int = 1, start: int = 0) -> list[Frame]:
    """Publishes one after the other; what was answered."""
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n}})
        for n in range(start, start + count)
    ]


async def subscribe(client: WireClient, channel: str, since: Frame | None) -> Frame:
    """The ack's part for one channel."""
    ack = await client.ask(type="subscribe", channels={channel: since})
    has_only(ack, {"type", "id", "channels"})
    assert set(ack["channels"]) == {channel}
    outcome: Frame = ack["channels"][channel]
    return outcome


async def numbers(client: WireClient, channel: str, count: int) -> list[int]:
    got = await client.messages(count, channel)
    for frame in got:
        is_publication(frame)
    assert [frame["offset"] for frame in got] == list(range(got[0]["offset"], got[0]["offset"] + count))
    return [frame["payload"]["n"] for frame in got]


@in_town
async def test_without_a_position_it_starts_behind_the_newest(town: Instance, channel: str) -> None:
    before = await publish(town, channel, 3)
    async with town.connected(await town.session(unique("alice"))) as alice:
        outcome = await subscribe(alice, channel, None)
        has_only(outcome, {"offset", "epoch"})
        assert position(outcome) == position(before[-1])
        (after,) = await publish(town, channel, start=3)
        assert await numbers(alice, channel, 1) == [3]
        assert after["offset"] == outcome["offset"] + 1


@in_town
async def test_with_a_position_what_was_missed_comes_before_what_is_new(town: Instance, channel: str) -> None:
    said = await publish(town, channel, 10)
    async with town.connected(await town.session(unique("alice"))) as alice:
        outcome = await subscribe(alice, channel, position(said[3]))
        has_only(outcome, {"offset", "epoch", "recovered", "missed"})
        assert outcome["recovered"] is True
        assert outcome["missed"] == 6
        assert position(outcome) == position(said[3])
        await publish(town, channel, 2, start=10)
        assert await numbers(alice, channel, 8) == list(range(4, 12))
        await alice.nothing_but_pong()


@in_town
async def test_the_newest_position_has_missed_nothing(town: Instance, channel: str) -> None:
    (said,) = await publish(town, channel)
    async with town.connected(await town.session(unique("alice"))) as alice:
        outcome = await subscribe(alice, channel, position(said))
        assert (outcome["recovered"], outcome["missed"]) == (True, 0)
        await alice.nothing_but_pong()


@in_town
async def test_the_position_of_an_ack_of_an_empty_channel_is_good(town: Instance, channel: str) -> None:
    """What a client was told when nothing had been said yet must not come out as a break later."""
    async with town.connected(await town.session(unique("alice"))) as alice:
        first = await subscribe(alice, channel, None)
    await publish(town, channel, 3)
    async with town.connected(await town.session(unique("alice"))) as alice:
        outcome = await subscribe(alice, channel, position(first))
        assert (outcome["recovered"], outcome["missed"]) == (True, 3)
        assert await numbers(alice, channel, 3) == [0, 1, 2]


@in_town
async def test_the_positions_of_the_welcome_are_good(town: Instance) -> None:
    user = unique("alice")
    token = await town.session(user)
    async with town.connected(token) as alice:
        for number in range(3):
            await town.done("post_office.send_to_connection", {"connection_id": alice.id, "message": {"n": number}})
            await town.done("post_office.send_to_user", {"user_id": user, "message": {"n": number}})
        for log in alice.welcome["channels"]:
            assert await numbers(alice, log, 3) == [0, 1, 2]
            outcome = await subscribe(alice, log, alice.welcome["channels"][log])
            assert (outcome["recovered"], outcome["missed"]) == (True, 3), log
            assert await numbers(alice, log, 3) == [0, 1, 2]
        at_first = alice.welcome["channels"][f"user:{user}"]
    async with town.connected(token) as alice:
        outcome = await subscribe(alice, f"user:{user}", at_first)
        assert (outcome["recovered"], outcome["missed"]) == (True, 3)


@in_town
@pytest.mark.parametrize(
    ("since", "reason"),
    [({"offset": 3, "epoch": "nobody"}, "unknown_epoch"), ({"offset": 9}, "future"), ({"offset": 2**53 - 1}, "future")],
    ids=str,
)  # fmt: skip
async def test_a_position_that_is_not_good_says_why_and_brings_nothing_old(
    town: Instance, channel: str, since: Frame, reason: str
) -> None:
    said = await publish(town, channel, 4)
    epoch = {"epoch": said[0]["epoch"]} | since
    async with town.connected(await town.session(unique("alice"))) as alice:
        outcome = await subscribe(alice, channel, epoch)
        has_only(outcome, {"offset", "epoch", "recovered", "reason"}, {"missed"})
        assert outcome["recovered"] is False
        assert outcome["reason"] == reason
        assert outcome.get("missed", 0) == 0
        assert position(outcome) == position(said[-1])
        await alice.nothing_but_pong()
        await publish(town, channel, start=4)
        assert await numbers(alice, channel, 1) == [4]


@in_town
async def test_subscribing_again_moves_the_subscription(town: Instance, channel: str) -> None:
    said = await publish(town, channel, 5)
    async with town.connected(await town.session(unique("alice"))) as alice:
        await subscribe(alice, channel, None)
        for start in (0, 2):
            outcome = await subscribe(alice, channel, position(said[start]))
            assert outcome["missed"] == 4 - start
            assert await numbers(alice, channel, 4 - start) == list(range(start + 1, 5))
        await subscribe(alice, channel, None)
        await publish(town, channel, start=5)
        assert await numbers(alice, channel, 1) == [5]
        await alice.nothing_but_pong()


@in_town
async def test_many_channels_in_one_frame_each_get_their_own_answer(town: Instance, channel: str) -> None:
    said = await publish(town, channel, 2)
    wanted = {
        channel: position(said[0]), "guide": None, "user:bob": None, "connection:c1": None, "nowhere": None,
        "pillar:nobody": None, "conversation:c": None, "Pillar:x": None, "": None, "system:health": None,
    }  # fmt: skip
    async with town.connected(await town.session(unique("alice"))) as alice:
        answers = (await alice.ask(type="subscribe", channels=wanted))["channels"]
        assert set(answers) == set(wanted)
        assert answers[channel]["missed"] == 1
        assert set(answers["guide"]) == {"offset", "epoch"}
        for name in ("user:bob", "connection:c1"):
            assert answers[name]["error"]["code"] == "forbidden"
        for name in ("nowhere", "pillar:nobody", "Pillar:x", ""):
            assert answers[name]["error"]["code"] == "unknown_channel", name
            assert isinstance(answers[name]["error"]["message"], str)
        assert await numbers(alice, channel, 1) == [1]


@in_town
async def test_unsubscribing_ends_what_is_heard(town: Instance, channel: str) -> None:
    async with town.connected(await town.session(unique("alice"))) as alice:
        await subscribe(alice, channel, None)
        await publish(town, channel)
        await numbers(alice, channel, 1)
        assert await alice.ask(type="unsubscribe", channels=[channel], id="u") == {"type": "ack", "id": "u"}
        assert await alice.ask(type="unsubscribe", channels=[channel, "guide"], id="v") == {"type": "ack", "id": "v"}
        await publish(town, channel)
        await alice.nothing_but_pong()
        outcome = await subscribe(alice, channel, {"offset": 0})
        assert outcome["missed"] == 2


@in_town
async def test_an_unsubscribe_without_an_id_is_not_answered(town: Instance, channel: str) -> None:
    async with town.connected(await town.session(unique("alice"))) as alice:
        await alice.send(type="unsubscribe", channels=[channel])
        await alice.nothing_but_pong()


@in_town
async def test_a_subscribe_without_an_id_is_answered_all_the_same(town: Instance, channel: str) -> None:
    async with town.connected(await town.session(unique("alice"))) as alice:
        await alice.send(type="subscribe", channels={channel: None})
        answer = await alice.next()
        has_only(answer, {"type", "channels"})
        assert answer["type"] == "ack"


@in_town
async def test_an_unsubscribe_right_behind_a_subscribe_wins(town: Instance, channel: str) -> None:
    await publish(town, channel, 3)
    async with town.connected(await town.session(unique("alice"))) as alice:
        for _ in range(10):
            await alice.send(type="subscribe", channels={channel: {"offset": 0}})
            await alice.send(type="unsubscribe", channels=[channel], id="over")
            while (await alice.next()).get("id") != "over":
                pass  # what came between the two may have come
            await publish(town, channel)
            await alice.nothing_but_pong()


@in_town
async def test_the_own_logs_may_be_subscribed_again_and_those_of_others_not(town: Instance) -> None:
    user, other = unique("alice"), unique("bob")
    bob_token = await town.session(other)
    async with town.connected(await town.session(user)) as alice, town.connected(bob_token) as bob:
        own = await alice.subscribe(f"user:{user}", f"connection:{alice.id}")
        assert all("error" not in outcome for outcome in own.values())
        foreign = await alice.subscribe(f"user:{other}", f"connection:{bob.id}")
        assert [outcome["error"]["code"] for outcome in foreign.values()] == ["forbidden"] * 2


@in_town
async def test_another_connection_of_the_same_user_is_not_the_own_one(town: Instance) -> None:
    token = await town.session(unique("alice"))
    async with town.connected(token) as first, town.connected(token) as second:
        outcome = await first.subscribe(f"connection:{second.id}")
        assert outcome[f"connection:{second.id}"]["error"]["code"] == "forbidden"


@in_town
async def test_everything_arrives_once_however_often_it_is_subscribed_in_the_storm(
    town: Instance, channel: str
) -> None:
    """A subscription that moves to the position reached so far neither repeats nor skips."""
    total = 200
    async with town.connected(await town.session(unique("alice"))) as alice, asyncio.TaskGroup() as group:
        reached = position(await subscribe(alice, channel, None))
        first = reached["offset"]
        group.create_task(publish(town, channel, total))
        got: list[int] = []
        while len(got) < total:
            frame = await alice.next()
            if frame["type"] == "ack":
                assert position(frame["channels"][channel]) == reached
                continue
            assert frame["offset"] == reached["offset"] + 1
            got.append(frame["payload"]["n"])
            reached = position(frame)
            if len(got) % 10 == 0:
                outcome, reached_before = await resubscribe(alice, channel, reached, got)
                assert outcome["recovered"] is True
                reached = reached_before
        assert got == list(range(total))
        assert reached["offset"] == first + total


async def resubscribe(client: WireClient, channel: str, reached: Frame, got: list[int]) -> tuple[Frame, Frame]:
    """Subscribes from where it stands; what still came of the former subscription is void."""
    await client.send(type="subscribe", channels={channel: reached}, id="again")
    while (frame := await client.next()).get("id") != "again":
        assert frame["type"] == "message"
    return frame["channels"][channel], reached


async def test_a_trimmed_position_says_so(platform: Platform) -> None:
    city = await platform.start(history_count=10)
    said = await publish(city, "guide", 300)
    async with city.connected(await city.session(unique("alice"))) as alice:
        outcome = await subscribe(alice, "guide", position(said[0]))
        assert (outcome["recovered"], outcome["reason"]) == (False, "trimmed")
        assert position(outcome) == position(said[-1])
        await alice.nothing_but_pong()
        near = await subscribe(alice, "guide", position(said[-5]))
        assert (near["recovered"], near["missed"]) == (True, 4)
        assert await numbers(alice, "guide", 4) == [296, 297, 298, 299]


async def test_too_many_subscriptions_are_refused_one_by_one(platform: Platform) -> None:
    city = await platform.start(max_subscriptions=4)
    channels = ("guide", "pillar:content", "pillar:insights", "pillar:operations", "pillar:business_outcomes")
    async with city.connected(await city.session(unique("alice"))) as alice:
        outcomes = [(await alice.subscribe(channel))[channel] for channel in channels]
        codes = [outcome.get("error", {}).get("code", "") for outcome in outcomes]
        taken = codes.count("")
        assert 2 <= taken <= 4  # whether the two own logs count is left open
        assert codes == [""] * taken + ["overloaded"] * (len(channels) - taken)
        again = await alice.subscribe(channels[0])
        assert "error" not in again[channels[0]], "what is subscribed already takes no new place"
        await alice.ask(type="unsubscribe", channels=[channels[0]])
        assert "error" not in (await alice.subscribe(channels[-1]))[channels[-1]]


@pytest.fixture
def forgetful() -> Iterator[ValkeyServer]:
    """A store that keeps what it was told to save, and loses the rest at a restart."""
    with ValkeyServer(appendonly="no", save="") as server:
        yield server


async def test_positions_in_a_store_that_lost_its_end(forgetful: ValkeyServer) -> None:
    """What survived of an epoch stays good, what was lost is told, and offsets go on."""
    async with AsyncExitStack() as stack:
        city = await Platform(forgetful, stack).start()
        alice = await stack.enter_async_context(city.connected(await city.session(unique("alice"))))
        reader = await stack.enter_async_context(city.connected(await city.session(unique("bob"))))
        await reader.subscribe("guide")
        kept = await publish(city, "guide", 5)
        with redis.Redis(unix_socket_path=str(forgetful.socket)) as admin:
            admin.save()
        lost = await publish(city, "guide", 3, start=5)
        assert await numbers(reader, "guide", 8) == list(range(8))
        forgetful.restart()
        after = await published_again(city)
        assert after["epoch"] != kept[0]["epoch"]
        reset = await reader.until(lambda frame: frame["type"] in {"reset", "message"}, 15)
        assert reset["type"] == "reset", "the reader had more than survived"
        has_only(reset, {"type", "channel", "offset", "epoch", "reason"})
        assert reset["epoch"] == after["epoch"]
        (newest,) = await publish(city, "guide", start=100)
        follows = newest["offset"] - reset["offset"]
        assert follows in {1, 2}, "a reset stands before or behind what was written since"
        assert await numbers(reader, "guide", follows) == [99, 100][-follows:]
        outcome = await subscribe(alice, "guide", position(kept[2]))
        assert outcome["recovered"] is True
        assert outcome["missed"] == newest["offset"] - kept[2]["offset"]
        old = await alice.messages(outcome["missed"], "guide")
        assert [frame["payload"]["n"] for frame in old] == [3, 4, 99, 100]
        outcome = await subscribe(alice, "guide", position(lost[1]))
        assert (outcome["recovered"], outcome["reason"]) == (False, "diverged")


async def published_again(city: Instance) -> Frame:
    """Publishes as soon as the store is back."""
    async with asyncio.timeout(15):
        while True:
            arguments = {"channel": "guide", "message": {"n": 99}, "key": "again"}
            response = await city.call("post_office.publish_to_agent_channel", arguments)
            if response.status_code == 200:
                answer: Frame = response.json()
                return answer
            assert response.json()["code"] == "unavailable"
