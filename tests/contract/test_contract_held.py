"""Promise 5: while Valkey is away what can be kept is held, said so, and logged once in order when it returns."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack

from tests.contract.agents import agent_on, asked, asker_of, reply
from tests.contract.outages import RETURN_SECONDS, Outage, final, held
from tests.contract.packed import PROTOCOL, PackedClient
from tests.contract.shapes import position, problem
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM, eventually
from tests.support.wire_client import Frame, WireClient

PUBLISH = "post_office.publish_to_agent_channel"
GRANTS = {"guide": ["subscribe", "send", "publish", "history"], "pillar:*": ["subscribe"]}


async def test_publications_are_held_shown_here_at_once_and_logged_in_order(fragile: Instance, outage: Outage) -> None:
    token = await fragile.session(unique("alice"), channels=GRANTS)
    async with fragile.connected(token) as alice, asker_of(fragile) as bob:
        for client in (alice, bob):
            await client.subscribe("guide")
        before = await fragile.done(PUBLISH, {"channel": "guide", "message": {"n": 0}})
        for client in (alice, bob):
            await client.messages(1)
        outage.begin()
        first = [await held(alice, type="publish", channel="guide", payload={"n": n}) for n in range(1, 6)]
        for client in (alice, bob):
            shown = await client.messages(5, "guide")
            assert [frame["message_id"] for frame in shown] == [ack["message_id"] for ack in first]
            assert all(frame["provisional"] is True for frame in shown)
            assert not [frame for frame in shown if "offset" in frame or "epoch" in frame]
        outage.end()
        acks = [await final(alice, ack, "published") for ack in first]
        assert [ack["offset"] for ack in acks] == [before["offset"] + n for n in range(1, 6)]
        for client in (alice, bob):
            logged = await client.messages(5, "guide")
            assert [frame["message_id"] for frame in logged] == [ack["message_id"] for ack in first]
            assert [position(frame) for frame in logged] == [position(ack) for ack in acks]
            assert not [frame for frame in logged if frame.get("provisional")]
            await client.nothing_but_pong()


async def test_subscribers_elsewhere_get_it_when_it_is_logged(
    fragile: Instance, fragile_places: Platform, outage: Outage
) -> None:
    there = await fragile_places.start(valkey_timeout_seconds=0.5)
    token = await fragile.session(unique("alice"), channels=GRANTS)
    packed = PackedClient.connected(there.ws_url, token, subprotocols=[PROTOCOL])
    async with fragile.connected(token) as alice, asker_of(there) as far, packed as far_packed:
        for client in (far, far_packed):
            await client.subscribe("guide")
        outage.begin()
        first = [await held(alice, type="publish", channel="guide", payload={"n": n}) for n in range(3)]
        for client in (far, far_packed):
            await client.nothing_but_pong()
        outage.end()
        for client in (far, far_packed):
            logged = [await client.until(lambda f: f["type"] == "message", RETURN_SECONDS) for _ in first]
            assert [frame["message_id"] for frame in logged] == [ack["message_id"] for ack in first]
            assert not [frame for frame in logged if frame.get("provisional")]


async def test_both_instances_hold_and_all_of_it_is_logged_once(
    fragile: Instance, fragile_places: Platform, outage: Outage
) -> None:
    there = await fragile_places.start(valkey_timeout_seconds=0.5)
    token = await fragile.session(unique("alice"), channels=GRANTS)
    async with fragile.connected(token) as here, there.connected(token) as far:
        await here.subscribe("guide")
        outage.begin()
        told = {
            client: [await held(client, type="publish", channel="guide", payload={"n": n}) for n in range(4)]
            for client in (here, far)
        }
        outage.end()
        for client, first in told.items():
            offsets = [(await final(client, ack, "published"))["offset"] for ack in first]
            assert offsets == sorted(offsets), "what one connection sent is logged in the order sent"
    page = await fragile.done("post_office.get_channel_history", {"channel": "guide"})
    kept = [entry["message_id"] for entry in page["publications"]]
    assert sorted(kept) == sorted(ack["message_id"] for first in told.values() for ack in first)


async def test_over_http_it_is_202_and_repeating_it_gets_the_last_word(fragile: Instance, outage: Outage) -> None:
    await fragile.done(PUBLISH, {"channel": "guide", "message": {"n": 0}})
    outage.begin()
    response = await fragile.call(PUBLISH, {"channel": "guide", "message": {"n": 1}}, Idempotency_Key="k")
    assert response.status_code == 202, response.text
    first = response.json()
    assert (first["success"], first["status"]) == (True, "held")
    assert "offset" not in first or first["offset"] is None
    outage.end()

    async def is_published() -> Frame:
        again = await fragile.call(PUBLISH, {"channel": "guide", "message": {"n": 1}}, Idempotency_Key="k")
        answer: Frame = again.json()
        return answer if again.status_code == 200 else {}

    again = await eventually(is_published, "it is published", RETURN_SECONDS)
    assert (again["status"], again["message_id"], again["duplicate"]) == ("published", first["message_id"], True)
    page = await fragile.done("post_office.get_channel_history", {"channel": "guide"})
    assert [entry["payload"]["n"] for entry in page["publications"]] == [0, 1]


async def test_questions_are_held_and_delivered_once_in_order(fragile: Instance, outage: Outage) -> None:
    async with asker_of(fragile) as alice, agent_on(fragile, "guide") as agent:
        await reply(agent, await first_of(alice, agent), payload={"message": "before"})
        await alice.of("chat_response")
        outage.begin()
        conversation = {"conversation_id": "c"}
        first = [await held(alice, channel="guide", payload={"message": str(n), **conversation}) for n in range(3)]
        await agent.nothing_but_pong()
        outage.end()
        for ack in first:
            await final(alice, ack, "queued")
        for n, ack in enumerate(first):
            delivery = await agent.of("delivery", RETURN_SECONDS)
            assert (delivery["message"]["message_id"], delivery["attempt"]) == (ack["message_id"], 1)
            assert delivery["message"]["payload"]["message"] == str(n)
            await reply(agent, delivery, payload={"n": n})
            assert (await alice.of("chat_response"))["payload"] == {"n": n}
        await agent.nothing_but_pong()
        await alice.nothing_but_pong()


async def first_of(alice: WireClient, agent: WireClient) -> Frame:
    await asked(alice, "guide")
    return await agent.of("delivery")


async def test_what_cannot_be_kept_is_refused(fragile_places: Platform, fragile_store: ValkeyServer) -> None:
    """Bounded, no user fills it up, and what was held before is not lost by it."""
    fragile = await fragile_places.start(valkey_timeout_seconds=0.5, held_bytes=100_000)
    users = [await fragile.session(unique(name), channels=GRANTS) for name in ("alice", "bob")]
    service = await fragile.service(unique("service"), "post_office.publish")
    kept: list[Frame] = []
    async with AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(fragile.connected(token)) for token in (*users, service)]
        await fragile.done(PUBLISH, {"channel": "guide", "message": {"n": 0}})
        fragile_store.hang()
        for sender, size, fits in zip(senders, (6_000, 6_000, 20_000), ({1}, {1}, {3, 4}), strict=True):
            said = {"type": "publish", "channel": "guide", "payload": {"fill": "x" * size}}
            answers = [await sender.ask(**said) for _ in range(6)]
            refused = [answer for answer in answers if answer["type"] == "error"]
            assert len(answers) - len(refused) in fits
            assert {(error["code"], error["retryable"]) for error in refused} == {("unavailable", True)}
            kept += answers[: -len(refused)]
        fragile_store.resume()
        for sender, first in zip(senders, (kept[:1], kept[1:2], kept[2:]), strict=True):
            for ack in first:
                await final(sender, ack, "published")
    page = await fragile.done("post_office.get_channel_history", {"channel": "guide"})
    assert [entry["message_id"] for entry in page["publications"]][1:] == [ack["message_id"] for ack in kept]


async def test_a_subscribe_answers_unavailable_for_each_channel_and_the_old_ones_stay(
    fragile: Instance, outage: Outage
) -> None:
    async with asker_of(fragile) as alice:
        await alice.subscribe("guide")
        outage.begin()
        ack = await alice.ask(type="subscribe", channels={"pillar:content": None, "pillar:insights": None})
        for channel in ("pillar:content", "pillar:insights"):
            assert ack["channels"][channel]["error"]["code"] == "unavailable"
        outage.end()

        async def has_come() -> bool:
            return (await fragile.call(PUBLISH, {"channel": "guide", "message": {"n": 1}})).status_code == 200

        await eventually(has_come, "it is back", RETURN_SECONDS)
        await alice.until(lambda f: f["type"] == "message" and not f.get("provisional"), RETURN_SECONDS)

        async def is_subscribed() -> bool:
            return "offset" in (await alice.subscribe("pillar:content"))["pillar:content"]

        await eventually(is_subscribed, "one can subscribe again", RETURN_SECONDS)


async def test_health_says_degraded_and_ready_stays(fragile: Instance, outage: Outage) -> None:
    outage.begin()
    began = time.monotonic()

    async def is_degraded() -> Frame:
        health: Frame = (await fragile.http.get("/api/health", headers=fragile.operator)).json()
        return health if health["status"] == "degraded" else {}

    health = await eventually(is_degraded, "degraded")
    assert time.monotonic() - began < 5 + ROOM
    assert health["services"]["valkey"]["status"] == "unhealthy"
    assert health["services"]["valkey"]["error"].startswith("disconnected: ")
    assert "error" not in (await fragile.http.get("/api/health")).json()["services"]["valkey"], "not for everybody"
    assert (await fragile.http.get("/health/ready")).status_code == 200
    outage.end()

    async def is_healthy() -> bool:
        return bool((await fragile.http.get("/api/health")).json()["status"] == "healthy")

    await eventually(is_healthy, "healthy again", RETURN_SECONDS)


async def test_calls_with_a_token_seen_lately_pass_and_others_are_unavailable(
    fragile: Instance, outage: Outage
) -> None:
    seen, unseen = [await fragile.service(unique(name), "post_office.publish") for name in ("seen", "unseen")]
    await fragile.done(PUBLISH, {"channel": "guide", "message": {}}, Authorization=f"Bearer {seen}")
    outage.begin()
    answer = await fragile.call(PUBLISH, {"channel": "guide", "message": {}}, Authorization=f"Bearer {seen}")
    assert answer.status_code == 202, answer.text
    refused = await fragile.call(PUBLISH, {"channel": "guide", "message": {}}, Authorization=f"Bearer {unseen}")
    problem(refused, 503, "unavailable")
    outage.end()


async def test_a_key_that_proves_known_is_a_duplicate_of_the_earlier_one(fragile: Instance, outage: Outage) -> None:
    token = await fragile.session(unique("alice"), channels=GRANTS)
    async with fragile.connected(token) as alice:
        earlier = await alice.ask(type="publish", channel="guide", payload={"n": 1}, key="k")
        outage.begin()
        first = await alice.ask(type="publish", channel="guide", payload={"n": 1}, key="k")
        assert first["status"] in {"held", "published"}
        outage.end()
        if first["status"] == "held":
            same = await alice.until(lambda f: f.get("id") == first["id"], RETURN_SECONDS)
            assert (same["status"], same["duplicate"]) == ("published", True)
            assert (same["message_id"], position(same)) == (earlier["message_id"], position(earlier))
    page = await fragile.done("post_office.get_channel_history", {"channel": "guide"})
    assert len(page["publications"]) == 1
