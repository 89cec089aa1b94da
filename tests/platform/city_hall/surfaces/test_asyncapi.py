"""The AsyncAPI document: valid, complete, and held against what a running platform really says and takes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from city_hall.surfaces.asyncapi import document
from city_hall.surfaces.frame_examples import TO_THE_CLIENT, TO_THE_SERVER, shown
from foundations.errors import ERRORS, CityError, OriginNotAllowed, TooManyConnections
from smart_city.post_office.gateway import messages, server_frames
from smart_city.post_office.gateway.close_codes import CLOSE_CODES
from tests.support.event_reader import EventReader
from tests.support.frame_schemas import FrameSchemas
from tests.support.machine import ASYNCAPI, ROOT
from tests.support.platform import IMPATIENT, Instance, Platform, unique
from tests.support.wire_client import WireClient

DOCUMENT = document("http://127.0.0.1:8000", "1.2.3")
STREAMED = {"Opened", "Close"}


@pytest.mark.needs("asyncapi")
def test_the_document_is_what_asyncapi_says_a_document_is() -> None:
    jsonschema_rs.Draft7Validator(json.loads(Path(ASYNCAPI).read_text())).validate(DOCUMENT)


def test_every_reference_leads_somewhere() -> None:
    def follow(node: Any) -> None:
        if isinstance(node, dict):
            if isinstance(node.get("$ref"), str):
                target: Any = DOCUMENT
                for part in node["$ref"].removeprefix("#/").split("/"):
                    target = target[part]
            for value in node.values():
                follow(value)
        elif isinstance(node, list):
            for value in node:
                follow(value)

    follow(DOCUMENT)


def test_every_frame_is_described_and_may_be_sent_one_way() -> None:
    names = {frame.__name__ for frame in messages.CLIENT_FRAMES.values()}
    names |= {frame.__name__ for frame in server_frames.ServerFrame.__subclasses__()} | {"Opened"}
    names |= {"Publication", "ChatResponse"}
    assert set(DOCUMENT["components"]["messages"]) == names
    operated = {one["$ref"].rpartition("/")[2] for o in DOCUMENT["operations"].values() for one in o["messages"]}
    assert operated == names
    assert set(DOCUMENT["channels"]["socket"]["messages"]) == names - STREAMED


def test_every_example_is_as_described_and_every_one_to_the_server_is_taken() -> None:
    schemas = FrameSchemas(DOCUMENT)
    for frame in (*TO_THE_SERVER, *TO_THE_CLIENT):
        schemas.check(type(frame).__name__, shown(frame))
    for frame in TO_THE_SERVER:
        assert messages.decode(json.dumps(shown(frame)).encode()) is not None


def test_close_codes_are_those_of_the_errors_and_of_the_protocols_page() -> None:
    told = {code["code"] for code in DOCUMENT["channels"]["socket"]["x-close-codes"]}
    assert told == set(CLOSE_CODES)
    raised: tuple[type[CityError], ...] = (*ERRORS, OriginNotAllowed, TooManyConnections)
    assert {error.close_code for error in raised} - {0} <= told
    table = (ROOT / "docs/protocol.md").read_text().partition("## Close codes")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert {int(code) for row in rows for code in row.split("·")} | {1000} == told


async def test_it_is_served_to_whoever_may_see_the_documents(city: Instance) -> None:
    assert (await city.http.get("/asyncapi.json")).status_code == 401
    served = (await city.http.get("/asyncapi.json", headers=city.operator)).json()
    assert served["servers"]["socket"]["host"] == city.url.removeprefix("http://")
    assert served["components"] == DOCUMENT["components"]


class Overheard(WireClient):
    """A client whose every frame is held against the document, heartbeats too."""

    schemas: FrameSchemas

    async def next(self, seconds: float = 5.0) -> dict[str, Any]:
        if self._early:
            return self._early.popleft()
        async with asyncio.timeout(seconds):
            while True:
                frame: dict[str, Any] = json.loads(await self.socket.recv())
                if self.schemas.recognise(frame) != "Heartbeat":
                    return frame


@asynccontextmanager
async def overheard(city: Instance, schemas: FrameSchemas, *tokens: str) -> AsyncIterator[list[Overheard]]:
    class Held(Overheard):
        pass

    Held.schemas = schemas
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(Held.connected(city.ws_url, token)) for token in tokens]
        yield [client for client in clients if isinstance(client, Overheard)]


async def test_whatever_a_running_platform_says_is_as_described(platform: Platform) -> None:
    """One of every frame and more, each held against its schema with nothing beside what is described."""
    city = await platform.start(**IMPATIENT, heartbeat_seconds=0.5)
    schemas = FrameSchemas((await city.http.get("/asyncapi.json", headers=city.operator)).json())
    user = unique("alice")
    rights = ["subscribe", "send", "publish", "history"]
    tokens = [
        await city.session(user, channels={"guide": rights}, ttl_seconds=600),
        await city.service(unique("agent"), "post_office.consume", "post_office.history"),
        await city.session(unique("bob"), ttl_seconds=55),
    ]
    async with overheard(city, schemas, *tokens) as (alice, agent, bob):
        await subscribed_and_published(city, alice, platform)
        await asked_and_answered(alice, agent)
        await refused(city, alice, user)
        await bob.of("system")  # its session ends soon
        while "Heartbeat" not in schemas.seen:
            await alice.ask(type="ping")
    await streamed(city, schemas, tokens[0])
    assert schemas.seen == {name for name in DOCUMENT["components"]["messages"] if not is_said_by_clients(name)}


def is_said_by_clients(name: str) -> bool:
    return name in {frame.__name__ for frame in messages.CLIENT_FRAMES.values()}


async def subscribed_and_published(city: Instance, alice: Overheard, platform: Platform) -> None:
    await alice.subscribe("guide", "nowhere")
    for key in ("k", "k"):
        await alice.ask(type="publish", channel="guide", payload={"n": 1}, intent="query", key=key)
    await alice.messages(1)
    platform.server.kill()
    held = await alice.ask(type="publish", channel="guide", payload={"n": 1}, intent="query", key="k")
    assert held["status"] == "held"
    platform.server.start()
    await alice.of("withdrawn", 20)
    await alice.until(lambda frame: frame.get("id") == held["id"], 20)
    await alice.subscribe("guide", offset=0, epoch="")
    await alice.subscribe("guide", offset=99, epoch="gone")
    keys = [f"{platform.prefix}log:{{guide}}:{part}" for part in ("meta", "entries", "streams", "keys")]
    await city.app.state.gateway._desk.log._valkey.command("DEL", *keys)  # the store has forgotten the channel
    await alice.ask(type="publish", channel="guide", payload={"n": 2})
    await alice.of("reset", 20)


async def asked_and_answered(alice: Overheard, agent: Overheard) -> None:
    await agent.ask(type="consume", channel="guide")
    answers: tuple[list[dict[str, Any]], ...] = (
        [{"payload": {"message": "at once"}, "intent": "chat"}],
        [{"stream": "start"}, {"stream": "delta", "payload": {"message": "in "}}, {"stream": "end"}],
    )
    for replies in answers:
        await alice.ask(channel="guide", payload={"message": "hello", "conversation_id": "c1"}, key=unique("k"))
        delivery = await agent.of("delivery")
        for reply in replies:
            answered = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], **reply)
            assert answered["type"] == "ack", answered
        await alice.until(lambda f: f["type"] == "chat_response" and f.get("stream", "end") == "end")
    await alice.ask(channel="guide", payload={"message": "hello"})
    delivery = await agent.of("delivery")
    await agent.ask(type="reply", delivery_id=delivery["delivery_id"], stream="start")
    await agent.ask(type="working", delivery_id=delivery["delivery_id"])
    await agent.ask(type="failed", delivery_id=delivery["delivery_id"], reason="tired", retry=False)
    await alice.until(lambda f: f.get("stream") == "error")
    await agent.ask(type="done", delivery_ids=[delivery["delivery_id"]])
    stopped = await alice.ask(channel="guide", payload={"message": "never mind"})
    await agent.of("delivery")
    for outcome in ("stopped", "stopped"):
        told = await alice.ask(type="stop", message_id=stopped["message_id"])
        assert told["outcome"] == outcome
    await agent.of("stop")


async def refused(city: Instance, alice: Overheard, user: str) -> None:
    bad: list[dict[str, Any]] = [{"type": "nonsense"}, {"type": "ping", "more": 1}, {"channel": "x", "payload": {}}]
    for frame in bad:
        assert (await alice.ask(**frame))["type"] == "error"
    await alice.ask(type="ping")
    lesser = await city.session(user, channels={"guide": ["send"]})
    await alice.ask(type="refresh", session_token=lesser)
    await alice.of("unsubscribed")
    await alice.ask(type="unsubscribe", channels=["guide"])


async def streamed(city: Instance, schemas: FrameSchemas, token: str) -> None:
    async with EventReader.connected(city.url, "guide", token, since="0") as events:
        schemas.recognise(events.ack, is_event=True)
        schemas.recognise((await events.next()).data)
        await city.app.state.gateway.drain()
        schemas.recognise((await events.ends()).data)
