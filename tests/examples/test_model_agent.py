"""The agent with a language model, over a real server that speaks its protocol."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from city_client import CityClient
from examples.model_agent import CONVERSATIONS, NEEDED, TURNS, Model, model_agent
from tests.support.http_server import serving
from tests.support.model_server import KEY, NAME, ModelServer
from tests.support.platform import Instance
from tests.support.waiting import PATIENCE, until
from tests.support.wire_client import Frame, WireClient

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/model_agent.py"
CHANNEL = "pillar:content"


@pytest.fixture
async def model() -> AsyncIterator[ModelServer]:
    yield ModelServer()


@asynccontextmanager
async def agent_of(city: Instance, model: ModelServer, *, key: str = KEY, name: str = NAME) -> AsyncIterator[None]:
    """The example's agent on its channel, until the block is left."""
    stop = asyncio.Event()
    token = await city.service("clerk", "post_office.consume")
    async with serving(model.app) as url, Model(f"{url}/v1", key, name) as asked:
        running = asyncio.create_task(model_agent(CHANNEL, asked).run(city.url, token, stop=stop))
        try:
            yield
        finally:
            model.hold.set()
            stop.set()
            await running


async def ask(client: WireClient, text: str, conversation: str = "") -> list[Frame]:
    """All frames of an answer."""
    payload = {"message": text} | ({"conversation_id": conversation} if conversation else {})
    ack = await client.ask(channel=CHANNEL, payload=payload)
    frames: list[Frame] = []
    while not frames or frames[-1]["stream"] not in {"end", "error"} or frames[-1].get("retrying"):
        frames.append(await client.until(lambda frame: frame.get("in_reply_to") == ack["message_id"], seconds=15))
    return frames


async def test_the_asker_sees_what_the_model_writes_as_it_writes(city: Instance, model: ModelServer) -> None:
    model.hold.clear()
    async with agent_of(city, model), CityClient(city.url, token=await city.session("alice")) as alice:
        parts = aiter(alice.ask(CHANNEL, "Who is there?"))
        assert (await asyncio.wait_for(anext(parts), PATIENCE)).text.startswith("2 ")
        model.hold.set()
        rest = [part.text async for part in parts]
        assert "".join(rest).strip().endswith("Who is there?")


async def test_what_was_said_before_in_a_conversation_is_told_to_the_model(city: Instance, model: ModelServer) -> None:
    async with agent_of(city, model), city.connected(await city.session("alice")) as alice:
        await ask(alice, "My name is Ada.", "c1")
        await ask(alice, "What is my name?", "c1")
        await ask(alice, "And here?", "c2")
        await ask(alice, "And without one?")
    roles = [[message["role"] for message in messages] for messages in model.asked]
    assert roles == [
        ["system", "user"],
        ["system", "user", "assistant", "user"],
        ["system", "user"],
        ["system", "user"],
    ]
    assert model.asked[1][1]["content"] == "My name is Ada."


async def test_conversations_of_others_are_others(city: Instance, model: ModelServer) -> None:
    async with (
        agent_of(city, model),
        city.connected(await city.session("alice")) as alice,
        city.connected(await city.session("bob")) as bob,
    ):
        await ask(alice, "A secret", "c1")
        await ask(bob, "What did she say?", "c1")
    assert "A secret" not in str(model.asked[1])
    assert (TURNS, CONVERSATIONS) == (20, 1000)


async def test_a_model_that_is_busy_is_asked_again(city: Instance, model: ModelServer) -> None:
    model.status = [429, 503]
    async with agent_of(city, model), city.connected(await city.session("alice")) as alice:
        frames = await ask(alice, "Are you there?")
        assert frames[-1]["stream"] == "end"
        assert len(model.asked) == 3


@pytest.mark.parametrize(("key", "name"), [("sk-wrong", NAME), (KEY, "parrot-9")])
async def test_a_model_that_says_no_leaves_nobody_waiting(
    city: Instance, model: ModelServer, key: str, name: str
) -> None:
    async with agent_of(city, model, key=key, name=name), city.connected(await city.session("alice")) as alice:
        (frame,) = await ask(alice, "Are you there?")
        assert (frame["stream"], frame.get("retrying", False)) == ("error", False)
        assert key not in str(frame)


async def test_a_model_that_writes_nothing_leaves_nobody_waiting(city: Instance, model: ModelServer) -> None:
    model.pieces = []
    async with agent_of(city, model), city.connected(await city.session("alice")) as alice:
        assert (await ask(alice, "Are you there?"))[-1]["stream"] == "error"


async def test_an_answer_that_breaks_off_is_written_again(city: Instance, model: ModelServer) -> None:
    model.hold.clear()
    async with agent_of(city, model), city.connected(await city.session("alice")) as alice:
        ack = await alice.ask(channel=CHANNEL, payload={"message": "Who is there?"})
        await alice.until(lambda frame: frame.get("stream") == "delta", seconds=10)
        assert city.app.state.gateway.disconnect(1012, user_id="~clerk") == 1
        await until(model.left.is_set, "the model is left whose answer nobody wants any more")
        model.hold.set()
        end = await alice.until(
            lambda frame: frame.get("in_reply_to") == ack["message_id"] and frame.get("stream") == "end", seconds=20
        )
        assert end["payload"]["message"].strip().endswith("Who is there?")


def test_what_is_missing_is_said() -> None:
    bare = {name: value for name, value in os.environ.items() if name not in NEEDED}
    done = subprocess.run([sys.executable, EXAMPLE], env=bare, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(name in done.stderr for name in NEEDED)


def test_a_platform_that_says_no_ends_it_with_a_sentence(tmp_path: Path) -> None:
    given = dict.fromkeys(NEEDED, "x") | {"SMART_CITY_URL": "nowhere"}
    done = subprocess.run(
        [sys.executable, EXAMPLE], env={**os.environ, **given}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
