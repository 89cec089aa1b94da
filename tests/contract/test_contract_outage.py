"""Valkey away, hung or full: what is refused and how, what stays, and that all goes on afterwards. What is held is
`test_contract_held`'s matter."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from tests.contract.agents import agent_on, asked, asker_of, reply
from tests.contract.shapes import position, problem
from tests.contract.watching import close_code_of, eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer

Frame = dict[str, Any]
PUBLISH = "post_office.publish_to_agent_channel"


@pytest.fixture
def store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def lonely(store: ValkeyServer) -> AsyncIterator[Instance]:
    """An instance whose Valkey may be harmed, and which notices soon."""
    async with AsyncExitStack() as stack:
        yield await Platform(store, stack).start(valkey_timeout_seconds=0.5)


async def health(city: Instance) -> str:
    response = await city.http.get("/api/health")
    assert response.status_code == 200
    return str(response.json()["status"])


async def published_again(city: Instance, **message: Any) -> Frame:
    """Repeats under one key until it is published."""
    async with asyncio.timeout(15):
        while True:
            arguments = {"channel": "guide", "message": message, "key": "again"}
            response = await city.call(PUBLISH, arguments)
            if response.status_code == 200:
                answer: Frame = response.json()
                return answer
            assert response.status_code == 202, response.text


@pytest.mark.parametrize("how", ["killed", "hung"])
async def test_sockets_live_through_an_outage_and_what_cannot_be_kept_is_unavailable(
    store: ValkeyServer, lonely: Instance, how: str
) -> None:
    city = lonely
    grants = {"guide": ["subscribe", "send", "publish"], "pillar:*": ["subscribe"]}
    token = await city.session(unique("alice"), channels=grants)
    async with city.connected(token) as alice:
        await alice.subscribe("guide")
        store.kill() if how == "killed" else store.hang()
        ack = await alice.ask(type="subscribe", channels={"pillar:content": None})
        assert ack["channels"]["pillar:content"]["error"]["code"] == "unavailable"
        response = await city.call("post_office.get_channel_history", {"channel": "guide"})
        assert problem(response, 503, "unavailable")["retryable"] is True
        await eventually(lambda: health(city), lambda status: status == "degraded", "degraded")
        assert (await city.http.get("/health/ready")).status_code == 200
        assert (await alice.ask(type="ping"))["type"] == "pong"
        store.start() if how == "killed" else store.resume()
        await eventually(lambda: health(city), lambda status: status == "healthy", "healthy again", 10)
        assert "error" not in (await alice.subscribe("pillar:content"))["pillar:content"]
        await alice.nothing_but_pong()


async def test_subscriptions_go_on_after_the_return_without_a_gap(store: ValkeyServer, lonely: Instance) -> None:
    city = lonely
    async with asker_of(city) as alice:
        reached = position((await alice.subscribe("guide"))["guide"])
        for number in range(3):
            await city.done(PUBLISH, {"channel": "guide", "message": {"n": number}})
            if number == 1:
                store.restart()
                await published_again(city, back=True)
        seen: list[Frame] = []
        while len(seen) < 4:
            frame = await alice.until(lambda frame: frame["type"] in {"message", "reset"}, 15)
            assert frame["type"] == "message", "everything survived, so nothing broke"
            assert frame["offset"] == reached["offset"] + 1
            reached = position(frame)
            seen.append(frame["payload"])
    assert seen == [{"n": 0}, {"n": 1}, {"back": True}, {"n": 2}]


async def test_nothing_closes_with_4501_because_valkey_is_away(store: ValkeyServer, lonely: Instance) -> None:
    city = lonely
    known, unknown = await city.session(unique("alice")), await city.session(unique("bob"))
    async with city.connected(known) as alice:
        store.kill()
        codes = await asyncio.gather(
            *(close_code_of(city.ws_url, token, 15) for token in (known, unknown, "ses_" + "x" * 45))
        )
        assert codes[:2] == [1013, 1013]
        for token, status in ((unknown, {503}), ("ses_" + "x" * 45, {401, 503})):
            headers = {"Authorization": f"Bearer {token}"}
            response = await city.http.get("/api/connections/info", headers=headers)
            assert response.status_code in status, response.text
        assert (await alice.ask(type="ping"))["type"] == "pong"
        store.start()
        await eventually(lambda: health(city), lambda status: status == "healthy", "healthy again", 10)
        for token in (known, unknown):
            async with city.connected(token) as again:
                await again.nothing_but_pong()
        await alice.nothing_but_pong()


async def test_a_token_seen_lately_still_counts_while_valkey_is_away(store: ValkeyServer, lonely: Instance) -> None:
    """For what needs no store: a document, here."""
    city = lonely
    token = await city.service(unique("reports"), "post_office.observe")
    headers = {"Authorization": f"Bearer {token}"}
    assert (await city.http.get("/metrics", headers=headers)).status_code == 200
    store.kill()
    assert (await city.http.get("/metrics", headers=headers)).status_code == 200
    stranger = await city.http.get("/metrics", headers={"Authorization": "Bearer svc_" + "x" * 43})
    problem(stranger, 503, "unavailable")
    assert (await city.http.get("/metrics", headers=city.operator)).status_code == 200


async def test_a_revocation_that_was_missed_is_found_on_return(store: ValkeyServer) -> None:
    """One that was cut off checks on return: here its subscriptions are taken away while a session is revoked."""
    async with AsyncExitStack() as stack:
        platform = Platform(store, stack)
        here, there = await platform.start(), await platform.start()
        user = unique("alice")
        far = await stack.enter_async_context(there.connected(await here.session(user)))
        other = await stack.enter_async_context(there.connected(await here.session(unique("bob"))))
        with redis.Redis(unix_socket_path=str(store.socket)) as admin:
            admin.execute_command("ACL", "SETUSER", "default", "-ssubscribe", "-subscribe")
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            await here.done("traffic_cop.revoke_session", {"user_id": user})
            admin.execute_command("ACL", "SETUSER", "default", "+ssubscribe", "+subscribe")
        assert await far.close_code(10) == 4501
        await other.nothing_but_pong()


async def test_a_full_store_is_an_overload_and_no_loss(store: ValkeyServer, lonely: Instance) -> None:
    city = lonely
    async with asker_of(city, channels={"guide": ["subscribe", "send", "publish"]}) as alice:
        await alice.subscribe("guide")
        with redis.Redis(unix_socket_path=str(store.socket)) as admin:
            admin.config_set("maxmemory", "1mb")
            response = await city.call(PUBLISH, {"channel": "guide", "message": {"n": 1}, "key": "again"})
            assert problem(response, 503, "overloaded")["retryable"] is True
            for frame in ({"type": "publish", "channel": "guide"}, {"channel": "guide"}):
                refused = await alice.ask(payload={"n": 2}, **frame)
                assert (refused["type"], refused["code"]) == ("error", "overloaded")
            assert (await alice.ask(type="ping"))["type"] == "pong"
            admin.config_set("maxmemory", "0")
        again = await published_again(city, n=1)
        assert not again.get("duplicate")
        (got,) = await alice.messages(1)
        assert got["payload"] == {"n": 1}


async def test_an_outage_in_the_middle_of_an_answer_leaves_one_end(store: ValkeyServer, lonely: Instance) -> None:
    city = lonely
    async with asker_of(city) as alice, agent_on(city, "guide") as agent:
        question = await asked(alice, "guide")
        delivery = await agent.of("delivery")
        await reply(agent, delivery, stream="start", payload={})
        start = await alice.of("chat_response")
        store.restart()
        async with asyncio.timeout(20):
            while True:
                answer = await agent.ask(
                    type="reply", delivery_id=delivery["delivery_id"], stream="end", payload={"message": "whole"}
                )
                if answer["type"] == "ack":
                    break
                if answer["code"] == "stale_delivery":
                    delivery = await agent.of("delivery", 20)
                else:
                    assert answer["code"] == "unavailable", answer
        closings: list[Frame] = []
        while not any(closing["stream"] == "end" for closing in closings):
            frame = await alice.until(lambda frame: frame.get("stream") in {"end", "error"}, 15)
            closings.append(frame)
        ids = [closing["message_id"] for closing in closings]
        assert len(set(ids)) == len(ids), "one end or error for each start"
        assert start["message_id"] in ids
        assert {closing["in_reply_to"] for closing in closings} == {question}
        assert closings[-1]["payload"] == {"message": "whole"}
