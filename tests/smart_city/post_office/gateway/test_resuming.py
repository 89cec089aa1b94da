"""A connection lives through its sockets: resumed on any instance, by its user, within its window, by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import connect

from tests.contract.watching import close_code_of
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import PATIENCE, all_but_one, eventually, until
from tests.support.wire_client import WireClient


@asynccontextmanager
async def resumed(city: Instance, token: str, connection_id: str) -> AsyncIterator[WireClient]:
    async with WireClient.connected(f"{city.ws_url}?resume={connection_id}", token) as client:
        yield client


def cut(client: WireClient) -> None:
    """The socket is gone without a word."""
    client.socket.transport.abort()


async def sent_to(city: Instance, connection_id: str, text: str) -> dict[str, Any]:
    return await city.done(
        "post_office.send_to_connection", {"connection_id": connection_id, "message": {"text": text}}
    )


async def history_of(city: Instance, channel: str) -> list[dict[str, Any]]:
    page = await city.done("post_office.get_channel_history", {"channel": channel, "limit": 100})
    return list(page["publications"])


async def test_a_lost_connection_is_resumed_on_another_instance_and_gets_what_it_missed(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    token = await here.session(alice := unique("alice"))
    async with here.connected(token) as client:
        own = f"connection:{client.id}"
        await sent_to(here, client.id, "heard")
        position = await client.of("message")
        cut(client)
        await sent_to(here, client.id, "missed")
        async with resumed(there, token, client.id) as again:
            assert (again.welcome["resumed"], again.welcome["channels"]) == (True, {})
            assert (again.id, again.welcome["instance_id"]) == (client.id, there.settings.instance_id)
            await sent_to(there, client.id, "afterwards")
            await there.done("post_office.send_to_user", {"user_id": alice, "message": {}})
            await again.nothing_but_pong()
            told = (await again.subscribe(own, offset=position["offset"], epoch=position["epoch"]))[own]
            assert (told["recovered"], told["missed"]) == (True, 2)
            texts = [(await again.of("message"))["payload"]["text"] for _ in range(2)]
            assert texts == ["missed", "afterwards"]
            found = await there.done("post_office.get_connection", {"connection_id": client.id})
            assert found["instance_id"] == there.settings.instance_id


@pytest.mark.parametrize("is_elsewhere", [True, False])
async def test_the_socket_before_is_closed_with_4010_wherever_it_is(platform: Platform, is_elsewhere: bool) -> None:
    here = await platform.start()
    there = await platform.start() if is_elsewhere else here
    token = await here.session(alice := unique("alice"))
    async with here.connected(token) as client, resumed(there, token, client.id) as again:
        assert again.welcome["resumed"] is True
        assert await client.close_code() == 4010
        count = await here.done("post_office.get_connection_count", {})
        assert sum(count["by_instance"].values()) == 1
        await again.nothing_but_pong()
        listed = await there.done("post_office.list_connections", {"user_id": alice})
        assert [found["connection_id"] for found in listed["connections"]] == [client.id]


async def test_another_users_connection_is_not_resumed_and_nothing_is_said_of_it(city: Instance) -> None:
    token, other = await city.session(unique("alice")), await city.session(unique("bob"))
    async with city.connected(token) as client, resumed(city, other, client.id) as bob:
        assert bob.welcome["resumed"] is False
        assert bob.id != client.id
        await client.nothing_but_pong()


async def test_a_close_with_1000_ends_the_window_and_answers_go_to_the_user(city: Instance) -> None:
    token = await city.session(unique("alice"))
    async with city.connected(token) as client:
        known = client.id

    async def ended() -> bool:
        response = await city.call("post_office.send_to_connection", {"connection_id": known, "message": {}})
        return response.status_code == 404

    await eventually(ended, "the connection has ended")
    async with resumed(city, token, known) as again:
        assert again.welcome["resumed"] is False


@pytest.mark.parametrize("code", [1000, 1012])
async def test_an_operator_who_disconnects_ends_the_window(city: Instance, code: int) -> None:
    token = await city.session(unique("alice"))
    async with city.connected(token) as client:
        await city.done("post_office.disconnect", {"connection_id": client.id, "code": code})
        assert await client.close_code() == code
        async with resumed(city, token, client.id) as again:
            assert again.welcome["resumed"] is False


async def test_a_revoked_session_ends_the_window_of_its_connections_for_good(city: Instance) -> None:
    created = await city.done("traffic_cop.create_session", {"user_id": (alice := unique("alice"))})
    async with city.connected(created["session_token"]) as client:
        await city.done("traffic_cop.revoke_session", {"session_id": created["session_id"]})
        assert await client.close_code() == 4501
        async with resumed(city, await city.session(alice), client.id) as again:
            assert again.welcome["resumed"] is False


async def test_after_the_window_nothing_is_resumed_and_what_was_missed_is_in_the_users_log(platform: Platform) -> None:
    city = await platform.start(resume_window_seconds=1.5)
    token = await city.session(alice := unique("alice"))
    async with city.connected(token) as client:
        cut(client)
        sent = await sent_to(city, client.id, "missed")

    async def moved() -> list[dict[str, Any]]:
        return await history_of(city, f"user:{alice}")

    [found] = await eventually(moved, "it is in the user's log")
    assert (found["message_id"], found["channel"]) == (sent["message_id"], f"user:{alice}")
    async with resumed(city, token, client.id) as again:
        assert again.welcome["resumed"] is False


async def moved_to(city: Instance, user_id: str) -> list[str]:
    """What the user's log has, once it has something."""

    async def found() -> list[str]:
        return [publication["payload"]["text"] for publication in await history_of(city, f"user:{user_id}")]

    return await eventually(found, "something is in the user's log")


async def test_a_client_that_speaks_and_answers_no_ping_has_heard_nothing(platform: Platform) -> None:
    city = await platform.start(resume_window_seconds=0.5, heartbeat_seconds=0.1)
    token = await city.session(alice := unique("alice"))
    async with city.connected(token) as client:
        client.socket.transport.pause_reading()
        await sent_to(city, client.id, "unheard")
        connection = city.app.state.gateway.connections[client.id]
        for _ in range(4):
            before = connection.last_heartbeat
            await client.send(type="ping")
            await until(lambda before=before: connection.last_heartbeat > before, "a heartbeat found it alive")  # type: ignore[misc]
        cut(client)
        assert await moved_to(city, alice) == ["unheard"]


async def test_what_was_sent_before_an_answered_ping_is_not_moved(platform: Platform) -> None:
    city = await platform.start(resume_window_seconds=1.5, heartbeat_seconds=0.1)
    token = await city.session(alice := unique("alice"))
    async with city.connected(token) as client:
        await sent_to(city, client.id, "heard")
        connection = city.app.state.gateway.connections[client.id]
        await until(lambda: connection.heard_offset == 1, "the ping behind it is answered")
        cut(client)
        await sent_to(city, client.id, "missed")
        assert await moved_to(city, alice) == ["missed"]


async def test_an_operator_who_disconnects_with_1000_loses_nothing_that_was_not_heard(platform: Platform) -> None:
    city = await platform.start(resume_window_seconds=0.5, close_seconds=0.2)
    token = await city.session(alice := unique("alice"))
    async with city.connected(token) as client:
        client.socket.transport.pause_reading()
        await sent_to(city, client.id, "unheard")
        await city.done("post_office.disconnect", {"connection_id": client.id, "code": 1000})
        assert await moved_to(city, alice) == ["unheard"]
        cut(client)


async def test_the_one_being_resumed_does_not_count_among_the_users_connections(platform: Platform) -> None:
    city = await platform.start(max_connections_per_user=1)
    token = await city.session(unique("alice"))
    async with city.connected(token) as client, resumed(city, token, client.id) as again:
        assert again.welcome["resumed"] is True
        assert await close_code_of(city.ws_url, token) == 4029


async def test_of_many_who_resume_at_once_one_stays(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    token = await here.session(unique("alice"))
    bearer = {"Authorization": f"Bearer {token}"}
    async with here.connected(token) as client, AsyncExitStack() as stack:
        cut(client)
        urls = [f"{city.ws_url}?resume={client.id}" for city in (here, there) for _ in range(4)]
        sockets = await asyncio.gather(
            *(stack.enter_async_context(connect(url, additional_headers=bearer)) for url in urls)
        )
        closing = {asyncio.create_task(socket.wait_closed()): socket for socket in sockets}
        _, last = await all_but_one(closing)
        assert sorted(socket.close_code or 0 for socket in sockets) == [0] + [4010] * 7
        last.cancel()
        async with asyncio.timeout(PATIENCE):
            await (await closing[last].ping())
