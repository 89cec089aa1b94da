"""The gateway as a browser uses it, from a session to its end, on any running deployment.

README_WEBSOCKET_TESTS.md says how to name one; without one it is a platform of this run.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import AsyncExitStack

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.typing import Origin

from city_client import CityClient
from tests.integration.smart_city.target import Target
from tests.integration.smart_city.visitor import Visitor, answer_to
from tests.support.waiting import eventually
from tests.support.wire_client import Frame


@pytest.mark.e2e
class TestWebSocketGatewayE2E:
    """Whole stories: each begins with a session and ends with nothing left of it."""

    async def test_complete_flow(self, city: Visitor, target: Target) -> None:
        """Connect, welcome, subscribe, ask, be answered, hear what is published, and read it again later."""
        token = await city.session()
        endpoint = await city.done("post_office.get_websocket_endpoint", session_token=token, realm=city.realm)
        query = endpoint["websocket_url"].partition("?")[2]
        async with city.entered(f"{city.ws_url}?{query}") as browser, city.agents_on("guide"):
            assert browser.welcome["message"] == "Connected to WebSocket Gateway"
            ack = (await browser.subscribe(target.channel))[target.channel]
            since = f"{ack['offset']}.{ack['epoch']}"
            conversation = secrets.token_hex(8)
            asked = await browser.ask(
                channel="guide", intent="chat", payload={"message": "Hello", "conversation_id": conversation}
            )
            assert asked["status"] == "queued"
            answer = await answer_to(browser, asked["message_id"])
            assert answer["conversation_id"] == conversation
            told = await city.publish(target.channel, 2)
            heard = await city.heard(browser, target.channel, 2)
            assert [frame["message_id"] for frame in heard] == [result["message_id"] for result in told]
        page = await city.http.get(
            f"/api/channels/{target.channel}/history", params={"since": since},
            headers={"Authorization": f"Bearer {token}"},
        )  # fmt: skip
        kept = [entry["message_id"] for entry in page.json()["publications"] if entry["payload"].get("run") == city.run]
        assert kept == [result["message_id"] for result in told]

    async def test_answers_come_in_parts_that_make_the_whole(self, city: Visitor) -> None:
        async with city.connected(await city.session()) as browser, city.agents_on("guide"):
            asked = await browser.ask(channel="guide", payload={"message": "In parts, please"})
            parts: list[Frame] = []
            while not parts or parts[-1].get("stream") in {"start", "delta"}:
                parts.append(await browser.until(lambda f: f.get("in_reply_to") == asked["message_id"], 30))
            if "stream" not in parts[-1]:
                return  # an agent of somebody else's may answer at once
            assert len({part["message_id"] for part in parts}) == 1
            assert [part["stream"] for part in (parts[0], parts[-1])] == ["start", "end"]
            deltas = parts[1:-1]
            assert [part["part"] for part in deltas] == list(range(1, len(deltas) + 1))
            text = "".join(part["payload"]["message"] for part in deltas)
            assert parts[-1]["payload"].get("message", "") == text

    async def test_channel_switching(self, city: Visitor, target: Target) -> None:
        """From the guide to a pillar and back, each heard only while it is open, nothing missed on return."""
        home = target.channel
        listed = (await city.done("post_office.list_channels"))["channels"]
        other = next(entry["channel"] for entry in listed if entry["channel"] != home)
        async with city.connected(await city.session()) as browser, city.agents_on(other):
            position = (await browser.subscribe(home))[home]
            await browser.ask(type="unsubscribe", channels=[home])
            await browser.subscribe(other)
            asked = await browser.ask(channel=other, payload={"message": "Hello there"})
            assert (await answer_to(browser, asked["message_id"]))["channel"] == other
            told = await city.publish(home, 3)
            await browser.ask(type="unsubscribe", channels=[other])
            assert not [f for f in await browser.left() if f.get("channel") == home], "it is closed"
            back = (await browser.subscribe(home, offset=position["offset"], epoch=position["epoch"]))[home]
            assert back["recovered"] is True
            heard = await city.heard(browser, home, 3)
            assert [frame["message_id"] for frame in heard] == [result["message_id"] for result in told]

    async def test_several_tabs(self, city: Visitor, target: Target) -> None:
        """All tabs hear what is for the user, only the asking one its answer; closing one leaves the others."""
        user = city.user()
        token, log = await city.session(user), f"user:{user}"
        async with AsyncExitStack() as stack, city.agents_on("guide"):
            tabs = [await stack.enter_async_context(city.connected(token)) for _ in range(3)]
            assert len({tab.id for tab in tabs}) == 3
            await city.done("post_office.send_to_user", user_id=user, message={"run": city.run, "n": 1})
            heard = [(await city.heard(tab, log, 1))[0] for tab in tabs]
            assert len({(frame["message_id"], frame["offset"]) for frame in heard}) == 1
            asked = await tabs[0].ask(channel="guide", payload={"message": "Only for this tab"})
            await answer_to(tabs[0], asked["message_id"])
            await tabs[0].socket.close()
            await city.done("post_office.send_to_user", user_id=user, message={"run": city.run, "n": 2})
            for tab in tabs[1:]:
                (frame,) = await city.heard(tab, log, 1)
                assert frame["payload"]["n"] == 2
                await tab.nothing_but_pong()

    async def test_connection_recovery(self, city: Visitor, target: Target) -> None:
        """A network that breaks: what was published meanwhile comes first, once, in order, then what is live."""
        token = await city.session()
        async with city.connected(token) as browser:
            await browser.subscribe(target.channel)
            await city.publish(target.channel, 1)
            (last,) = await city.heard(browser, target.channel, 1)
            browser.socket.transport.abort()
        await city.publish(target.channel, 5, start=1)
        async with city.connected(token) as browser:
            ack = (await browser.subscribe(target.channel, offset=last["offset"], epoch=last["epoch"]))[target.channel]
            assert ack["recovered"] is True
            assert ack["missed"] >= 5
            await city.publish(target.channel, 1, start=6)
            heard = await city.heard(browser, target.channel, 6)
            assert [frame["payload"]["n"] for frame in heard] == list(range(1, 7))
            offsets = [frame["offset"] for frame in heard]
            assert offsets == sorted(set(offsets))

    async def test_connection_recovery_of_an_answer(self, city: Visitor) -> None:
        """The network breaks while an agent thinks: the connection is resumed, and its answer is in its log."""
        token = await city.session()
        async with city.agents_on("guide"):
            async with city.connected(token) as browser:
                private = f"connection:{browser.id}"
                since = browser.welcome["channels"][private]
                asked = await browser.ask(channel="guide", payload={"message": "I may be cut off"})
                browser.socket.transport.abort()
            async with city.resumed(token, browser.id) as again:
                welcome = again.welcome
                assert (welcome["resumed"], welcome["connection_id"], welcome["channels"]) == (True, browser.id, {})
                await again.nothing_but_pong()
                outcome = (await again.subscribe(private, offset=since["offset"], epoch=since["epoch"]))[private]
                assert outcome["recovered"] is True
                answer = await answer_to(again, asked["message_id"])
                assert answer["log"] == private

    async def test_connection_recovery_of_a_duplicated_tab(self, city: Visitor) -> None:
        """The copy takes the connection over; the first is told to come back as a new one."""
        token = await city.session()
        async with city.connected(token) as first, city.resumed(token, first.id) as copy:
            assert copy.welcome["resumed"] is True
            assert await first.close_code() == 4010
            async with city.connected(token) as back:
                assert back.id != copy.id
                await back.nothing_but_pong()
                await copy.nothing_but_pong()

    async def test_connection_recovery_gives_nobody_what_is_anothers(self, city: Visitor) -> None:
        async with city.connected(await city.session()) as browser:
            browser.socket.transport.abort()
        async with city.resumed(await city.session(), browser.id) as other:
            assert other.welcome["resumed"] is False
            assert other.id != browser.id

    async def test_connection_recovery_by_the_python_client(self, city: Visitor, target: Target) -> None:
        """The client library comes back by itself when its connection is ended under it."""
        heard: asyncio.Queue[int] = asyncio.Queue()

        async def listen(client: CityClient) -> None:
            async for publication in client.listen(target.channel):
                if publication.payload.get("run") == city.run:
                    heard.put_nowait(publication.payload["n"])

        async with CityClient(target.url, token=await city.session()) as client:
            listening = asyncio.create_task(listen(client))
            try:
                first = await self.has_subscribed(city, client, target.channel)
                await city.publish(target.channel, 1)
                await city.done("post_office.disconnect", connection_id=first, code=1012)
                await city.publish(target.channel, 4, start=1)
                async with asyncio.timeout(25):
                    assert [await heard.get() for _ in range(5)] == list(range(5))
            finally:
                listening.cancel()
                await asyncio.wait([listening])

    async def has_subscribed(self, city: Visitor, client: CityClient, channel: str) -> str:
        """Waits until the client listens; its connection."""

        async def is_subscribed() -> bool:
            known = await city.call("post_office.get_connection", connection_id=client.connection_id or "none")
            return known.status_code == 200 and channel in known.json()["channels"]

        await eventually(is_subscribed, "the client has subscribed", 10)
        return client.connection_id

    async def test_error_handling(self, city: Visitor, target: Target) -> None:
        """One mistake after the other on one connection; each is told, none ends it."""
        async with city.connected(await city.session()) as browser:
            for data, code in (
                ("{", "invalid_message"),
                ("null", "invalid_message"),
                (json.dumps({"channel": "guide"}), "invalid_message"),
                (json.dumps({"type": "subscribe"}), "invalid_message"),
                (json.dumps({"type": "no_such_type"}), "unknown_type"),
                (json.dumps({"channel": "no_such_channel", "payload": {}}), "unknown_channel"),
                (json.dumps({"type": "publish", "channel": "guide", "payload": {}}), "forbidden"),
            ):
                await browser.socket.send(data)
                error = await browser.of("error")
                assert (error["code"], error["retryable"]) == (code, False), data
                assert error["message"]
            outcome = await browser.ask(type="subscribe", channels={target.channel: None, "user:somebody-else": None})
            assert "offset" in outcome["channels"][target.channel]
            assert outcome["channels"]["user:somebody-else"]["error"]["code"] == "forbidden"
            await city.publish(target.channel, 1)
            await city.heard(browser, target.channel, 1)

    async def test_error_handling_of_a_message_that_is_too_big(self, city: Visitor) -> None:
        token = await city.session()
        async with city.connected(token) as browser:
            size = browser.welcome["max_message_bytes"]
            await browser.socket.send(json.dumps({"channel": "guide", "payload": {"message": "x" * size}}))
            assert await browser.close_code(15) == 1009
        async with city.connected(token) as browser:
            await browser.nothing_but_pong()

    async def test_error_handling_of_a_binary_message(self, city: Visitor) -> None:
        async with city.connected(await city.session()) as browser:
            await browser.socket.send(b"\x81\xa4type\xa4ping")
            assert await browser.close_code() == 1003

    async def test_a_page_of_a_foreign_origin_is_not_let_in(self, city: Visitor, target: Target) -> None:
        token = await city.session()
        with pytest.raises(ConnectionClosed) as refused:
            async with city.connected(token, origin=Origin("https://somebody-else.example")):
                pass
        assert refused.value.rcvd is not None
        assert refused.value.rcvd.code == 4503
        async with city.connected(token, origin=Origin(target.url)) as browser:
            await browser.nothing_but_pong()

    async def test_keep_alive(self, city: Visitor) -> None:
        """A tab that says nothing for three heartbeats stays, hears each of them, and is served afterwards."""
        async with city.connected(await city.session()) as browser:
            beat = browser.welcome["heartbeat_seconds"]
            async with asyncio.timeout(beat * 4 + 10):
                beats = [json.loads(await browser.socket.recv()) for _ in range(3)]
            assert [frame["type"] for frame in beats] == ["heartbeat"] * 3
            assert await browser.ask(type="ping", id="still here") == {"type": "pong", "id": "still here"}
