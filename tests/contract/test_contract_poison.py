"""Sections 3, 4 and 6 together: what one surface has accepted, every other one can hand out.

A payload that only some readers can take would stand in a log or an inbox and stop all who come behind it.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.agents import agent_on
from tests.contract.tools import opened, tool
from tests.support.platform import Instance, unique
from tests.support.wire_client import WireClient

pytestmark = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


def nested(depth: int) -> str:
    return '{"a":' + "[" * depth + "]" * depth + "}"


PAYLOADS = {
    "nested 100": nested(100), "nested 190": nested(190), "nested 250": nested(250), "nested 500": nested(500),
    "nested 900": nested(900), "nested objects 300": '{"a":' * 300 + "{}" + "}" * 300, "nested 5000": nested(5000),
    "a 64-bit number": '{"n": 18446744073709551615}', "a larger number": '{"n": 18446744073709551616}',
    "a number of 30 digits": '{"n": 123456789012345678901234567890}',
    "a number of 400 digits": '{"n": 1' + "0" * 400 + "}", "a number of 5000 digits": '{"n": 1' + "0" * 5000 + "}",
    "more than a float": '{"n": 1e400}',
    "much more than a float": '{"n": -1e99999}', "a tiny number": '{"n": 1e-400}', "minus zero": '{"n": -0}',
    "a long fraction": '{"n": 0.' + "1" * 5000 + "}", "exact decimals": '{"n": 0.1000000000000000055511151231257827}',
    "a lone surrogate": '{"m": "\\ud800"}', "a surrogate the wrong way round": '{"m": "\\udc00\\ud800"}',
    "a lone surrogate as a name": '{"\\udfff": 1}', "a name twice": '{"a": 1, "a": 2}', "NUL": '{"m": "\\u0000"}',
    "line ends": '{"m": "\\u2028\\r\\n"}', "spaces": '{ "m" :\t[ 1 ,\n2 ] }', "an empty name": '{"": {"": ""}}',
    "a slash": '{"m": "<\\/script>"}', "many names": json.dumps({f"k{n}": n for n in range(20_000)}),
}  # fmt: skip


async def is_taken(client: WireClient, frame: str) -> Frame | None:
    """The ack; None where it was refused as a whole, which is as good."""
    await client.socket.send(frame)
    answer = await client.until(lambda frame: frame["type"] in {"ack", "error"})
    if answer["type"] == "ack":
        return answer
    assert answer["code"] in {"invalid_message", "too_large"}, answer
    return None


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_publication_that_was_accepted_can_be_read_everywhere(
    town: Instance, channel: str, payload: str
) -> None:
    token = await town.session(unique("alice"), channels={channel: ["publish", "subscribe", "history"]})
    async with town.connected(token) as writer, town.connected(token) as reader:
        await reader.subscribe(channel)
        frame = f'{{"type": "publish", "id": "p", "channel": "{channel}", "payload": {payload}}}'
        if (ack := await is_taken(writer, frame)) is None:
            return
        after = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"after": 1}})
        live = await reader.messages(2, channel)
        assert [publication["message_id"] for publication in live] == [ack["message_id"], after["message_id"]]
        wanted = {"offset": 0, "epoch": ack["epoch"]}
        again = await reader.ask(type="subscribe", channels={channel: wanted})
        assert again["channels"][channel]["missed"] == 2
        assert [publication["payload"] for publication in await reader.messages(2, channel)] == [
            live[0]["payload"], {"after": 1},
        ]  # fmt: skip
    page = await town.call("post_office.get_channel_history", {"channel": channel})
    assert page.status_code == 200, page.text[:300]
    kept = json.loads(page.text)["publications"]
    assert [publication["payload"] for publication in kept] == [live[0]["payload"], {"after": 1}]
    arguments = {"channel": channel, "mode": "log", "since": "0"}
    consumer = (await town.done("post_office.subscribe_to_channel", arguments))["consumer"]
    received = await town.call("post_office.receive_messages", {"consumer": consumer, "max": 10, "wait_ms": 0})
    assert received.status_code == 200, received.text[:300]
    assert len(received.json()["publications"]) == 2
    async with opened(town) as client:
        assert len((await tool(client, "post_office_get_channel_history", channel=channel))["publications"]) == 2


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_question_that_was_accepted_can_be_taken_and_answered_everywhere(
    town: Instance, channel: str, payload: str
) -> None:
    frame = f'{{"id": "q", "channel": "{channel}", "payload": {payload}}}'
    async with town.connected(await town.session(unique("alice"))) as alice:
        if (ack := await is_taken(alice, frame)) is None:
            return
        arguments = {"channel": channel, "mode": "inbox"}
        consumer = (await town.done("post_office.subscribe_to_channel", arguments))["consumer"]
        received = await town.call("post_office.receive_messages", {"consumer": consumer, "max": 1, "wait_ms": 15000})
        assert received.status_code == 200, received.text[:300]
        (delivery,) = received.json()["deliveries"]
        assert delivery["message"]["message_id"] == ack["message_id"]
        await town.done(
            "post_office.fail_delivery", {"delivery_id": delivery["delivery_id"], "reason": "", "retry": True}
        )
        async with agent_on(town, channel) as agent:
            delivery = await agent.of("delivery")
            reply = f'{{"type": "reply", "id": "r", "delivery_id": "{delivery["delivery_id"]}", "payload": {payload}}}'
            assert await is_taken(agent, reply) is not None
        answer = await alice.of("chat_response")
        assert answer["payload"] == delivery["message"]["payload"]


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_body_that_was_accepted_over_http_can_be_read_everywhere(
    town: Instance, channel: str, payload: str
) -> None:
    async with town.connected(await town.session(unique("alice"))) as reader:
        await reader.subscribe(channel)
        body = f'{{"channel": "{channel}", "message": {payload}}}'
        response = await town.http.post(
            "/soa/post-office/publish_to_agent_channel", content=body, headers=town.operator
        )
        if response.status_code != 200:
            assert response.json()["code"] in {"invalid_argument", "invalid_message", "too_large"}
            return
        (live,) = await reader.messages(1, channel)
        assert live["message_id"] == response.json()["message_id"]
    page = await town.call("post_office.get_channel_history", {"channel": channel})
    assert page.status_code == 200, page.text[:300]
    assert [publication["payload"] for publication in page.json()["publications"]] == [live["payload"]]


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
async def test_a_context_that_was_accepted_reaches_the_agent(town: Instance, channel: str, payload: str) -> None:
    user = unique("alice")
    body = f'{{"user_id": "{user}", "context": {payload}}}'
    created = await town.http.post("/soa/traffic-cop/create_session", content=body, headers=town.operator)
    if created.status_code != 200:
        assert created.json()["code"] in {"invalid_argument", "invalid_message", "too_large"}
        return
    for operation, arguments in (
        ("get_session", {"session_id": created.json()["session_id"]}), ("list_sessions", {"user_id": user}),
    ):  # fmt: skip
        response = await town.call(f"traffic_cop.{operation}", arguments)
        assert response.status_code == 200, response.text[:300]
    async with town.connected(created.json()["session_token"]) as alice, agent_on(town, channel) as agent:
        assert (await alice.ask(channel=channel, payload={}))["status"] == "queued"
        assert isinstance((await agent.of("delivery"))["message"]["context"], dict)
