"""One key, whichever surface and instance it comes by: a frame, a header, an argument, a tool, in either encoding."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
import pytest_asyncio

from tests.contract.packed import PROTOCOL, PackedClient
from tests.contract.shapes import problem
from tests.contract.tools import opened
from tests.support.platform import OPERATOR_TOKEN, PATIENT, Instance, Platform
from tests.support.valkey import ValkeyServer
from tests.support.wire_client import Frame, WireClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
PUBLISH = "post_office.publish_to_agent_channel"
Surface = Callable[[str, Frame, str], Awaitable[Frame]]
FRAMES = ("frame", "packed frame")
CALLS = ("header", "argument", "tool")
SURFACES = (*FRAMES, *CALLS)


class Place:
    """One instance, and every way to publish there as the operator; a refusal is an answer with a ``code``."""

    def __init__(self, city: Instance, client: WireClient, packed: WireClient) -> None:
        self._city, self._client, self._packed = city, client, packed

    def by(self, surface: str) -> Surface:
        ways: dict[str, Surface] = {
            "frame": self._by_frame, "packed frame": self._by_packed_frame, "header": self._by_header,
            "argument": self._by_argument, "tool": self._by_tool,
        }  # fmt: skip
        return ways[surface]

    async def _by_frame(self, channel: str, message: Frame, key: str) -> Frame:
        return await self._client.ask(type="publish", channel=channel, payload=message, key=key)

    async def _by_packed_frame(self, channel: str, message: Frame, key: str) -> Frame:
        return await self._packed.ask(type="publish", channel=channel, payload=message, key=key)

    async def _by_header(self, channel: str, message: Frame, key: str) -> Frame:
        answer: Frame = (
            await self._city.call(PUBLISH, {"channel": channel, "message": message}, Idempotency_Key=key)
        ).json()
        return answer

    async def _by_argument(self, channel: str, message: Frame, key: str) -> Frame:
        answer: Frame = (await self._city.call(PUBLISH, {"channel": channel, "message": message, "key": key})).json()
        return answer

    async def _by_tool(self, channel: str, message: Frame, key: str) -> Frame:
        arguments: dict[str, Any] = {"channel": channel, "message": message, "key": key}
        async with opened(self._city) as tools:
            return (await tools.call_tool(PUBLISH.replace(".", "_"), arguments)).structured_content or {}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def places(valkey_server: ValkeyServer) -> AsyncIterator[tuple[Place, Place]]:
    """Two instances."""
    async with AsyncExitStack() as stack:
        platform = Platform(valkey_server, stack, **PATIENT)
        pillars = ",".join(f"field{n}" for n in range(128))
        cities = [await platform.start(pillars=pillars) for _ in range(2)]
        here, there = [
            Place(
                city,
                await stack.enter_async_context(city.connected(OPERATOR_TOKEN)),
                await stack.enter_async_context(
                    PackedClient.connected(city.ws_url, OPERATOR_TOKEN, subprotocols=[PROTOCOL])
                ),
            )
            for city in cities
        ]
        yield here, there


@pytest.mark.parametrize(("first", "second"), list(itertools.product(SURFACES, SURFACES)))
async def test_a_key_of_one_surface_is_known_to_every_other_elsewhere(
    places: tuple[Place, Place], channel: str, first: str, second: str
) -> None:
    here, there = places
    body = {"n": 1, "text": "ä"}
    told = await here.by(first)(channel, body, "k")
    assert (told["status"], told.get("duplicate", False)) == ("published", False)
    again = await there.by(second)(channel, body, "k")
    assert again["duplicate"] is True
    assert [again[name] for name in ("status", "message_id", "offset", "epoch")] == [
        told[name] for name in ("status", "message_id", "offset", "epoch")
    ]
    other = await there.by(second)(channel, {"n": 2}, "k")
    assert (other["code"], other["retryable"]) == ("conflict", False)


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_refusal_is_not_remembered_anywhere(places: tuple[Place, Place], channel: str, surface: str) -> None:
    """Refused at one instance since it nests too deep, the key is free for a message that can be taken."""
    here, there = places
    deep: Any = {}
    for _ in range(200):
        deep = {"deeper": deep}
    assert "code" in await here.by(surface)(channel, deep, "k")
    taken = await there.by(surface)(channel, {"n": 1}, "k")
    assert (taken["status"], taken.get("duplicate", False)) == ("published", False)


async def test_of_many_at_once_one_is_the_first(places: tuple[Place, Place], channel: str) -> None:
    asked = (place.by(surface)(channel, {"n": 1}, "k") for place in places for surface in (*SURFACES, *CALLS * 4))
    answers = await asyncio.gather(*asked)
    assert len({(answer["message_id"], answer["offset"]) for answer in answers}) == 1
    assert sum(not answer.get("duplicate", False) for answer in answers) == 1


async def test_another_intent_or_another_realm_makes_another_body(town: Instance, channel: str) -> None:
    async with town.connected(OPERATOR_TOKEN) as client:
        told = await client.ask(type="publish", channel=channel, payload={"n": 1}, key="k")
        assert told["status"] == "published"
        intent = await client.ask(type="publish", channel=channel, payload={"n": 1}, intent="query", key="k")
        assert intent["code"] == "conflict"
    arguments = {"channel": channel, "message": {"n": 1}, "key": "k"}
    assert (await town.done(PUBLISH, arguments | {"realm": "operator"}))["duplicate"] is True
    problem(await town.call(PUBLISH, arguments | {"realm": "somebody"}), 409, "conflict")
