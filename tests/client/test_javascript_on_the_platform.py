"""The JavaScript client in Node on the real platform, through a line that is cut while it listens."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from city_inspector.faulting_proxy import FaultingProxy
from tests.support.echo_agent import answering, echo
from tests.support.node import NODE
from tests.support.platform import Instance, unique
from tests.support.waiting import PATIENCE

PROGRAM = Path(__file__).with_name("program.js")


async def publish(city: Instance, number: int) -> None:
    arguments = {"channel": "guide", "message": {"n": number}, "realm": "tests"}
    await city.done("post_office.publish_to_agent_channel", arguments)


async def told(program: asyncio.subprocess.Process) -> str:
    """What the program says next."""
    assert program.stdout is not None
    async with asyncio.timeout(30):
        return (await program.stdout.readline()).decode().strip()


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_it_asks_listens_and_calls_and_misses_nothing_when_cut_off(city: Instance, encoding: str) -> None:
    token = await city.session(unique("alice"), channels={"guide": ["subscribe", "send"]})
    async with answering(city, echo()), FaultingProxy(city.settings.port) as proxy:
        program = await asyncio.create_subprocess_exec(
            NODE, str(PROGRAM), f"http://127.0.0.1:{proxy.port}", token, encoding, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert await told(program) == "listening"
            await publish(city, 1)
            assert await told(program) == "heard"
            proxy.cut()
            for number in range(2, 21):
                await publish(city, number)
            found: dict[str, Any] = json.loads(await told(program))
            async with asyncio.timeout(PATIENCE):
                assert await program.wait() == 0
        finally:
            if program.returncode is None:
                program.kill()
    assert found["query"]["asked"] == {"message": "one two three", "data": [0, 255], "conversation_id": "k"}
    assert found["parts"] == "one two three "
    assert found["refused"] == "internal"
    assert [(number, gap) for _, number, gap in found["heard"]] == [(number, None) for number in range(1, 21)]
    assert found["states"][:4] == ["connecting", "connected", "waiting", "connecting"]
    assert (found["forbidden"], found["called"], found["missing"]) == ("forbidden", "session", "forbidden")
