"""Small things that are taken or handed out although their declarations say otherwise."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs

from tests.contract.packed import packed
from tests.contract.shapes import problem
from tests.contract.test_contract_documents import Frames, document
from tests.support.platform import OPERATOR_TOKEN, Instance, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("ending", ["Z", "z", ".5Z", ".123456789Z", "+00:00", "-00:00"])
async def test_a_time_is_taken_however_it_is_written(town: Instance, ending: str) -> None:
    past = (datetime.now(UTC) - timedelta(minutes=1)).replace(microsecond=0, tzinfo=None).isoformat()
    answer = await town.call("traffic_cop.get_traffic_analytics", {"since": past + ending})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    "since", ["-1", "0", "1700000000", "1e3", "2026-13-20T07:00:00Z", "2026-11-20T07:00:00", "2026-11-20"]
)
async def test_a_number_is_no_time(town: Instance, since: str) -> None:
    """The schema says ``date-time``, which is RFC 3339."""
    answer = await town.call("traffic_cop.get_traffic_analytics", {"since": since})
    problem(answer, 422, "invalid_argument")


async def test_an_integer_beyond_every_double_is_refused(town: Instance, channel: str) -> None:
    """MessagePack clients may send no Infinity, so none may be handed to them; 1e400 is refused already."""
    token = await town.session(unique("alice"), channels={channel: ["subscribe", "publish"]})
    payload = '{"n": ' + "1" * 1000 + "}"
    async with town.connected(token) as one:
        await one.socket.send(f'{{"type": "publish", "id": "1", "channel": "{channel}", "payload": {payload}}}')
        assert (await one.until(lambda frame: frame["type"] in {"ack", "error"}))["code"] == "invalid_message"
    body = f'{{"channel": "{channel}", "message": {payload}}}'
    path = "/soa/post-office/publish_to_agent_channel"
    problem(await town.http.post(path, content=body, headers=town.operator), 422, "invalid_argument")


async def test_the_largest_integers_of_a_double_reach_everybody(town: Instance, channel: str) -> None:
    token = await town.session(unique("alice"), channels={channel: ["subscribe", "publish"]})
    largest = int(sys.float_info.max)
    async with packed(town, token) as one, town.connected(token) as two:
        await one.subscribe(channel)
        await two.subscribe(channel)
        await two.ask(type="publish", id="1", channel=channel, payload={"n": largest, "m": -largest})
        for reader in (one, two):
            (got,) = await reader.messages(1, channel)
            assert got["payload"] == {"n": largest, "m": -largest}


async def test_the_schema_of_a_reply_says_that_it_needs_a_payload_or_a_stream(town: Instance) -> None:
    frames = Frames(await document(town, "asyncapi"))
    reply = {"type": "reply", "delivery_id": "guide/01a1f878-2b79-7000-9b65-4b2d23abc2af/1", "id": "1"}
    async with town.connected(OPERATOR_TOKEN) as operator:
        refusal = await operator.ask(**reply)
    assert refusal["code"] == "invalid_message"
    said = Draft202012Validator(frames.schema("Reply"))
    assert not said.is_valid(reply)
    assert not said.is_valid({**reply, "stream": "delta"})
    assert said.is_valid({**reply, "payload": {}})
    assert said.is_valid({**reply, "stream": "end"})
