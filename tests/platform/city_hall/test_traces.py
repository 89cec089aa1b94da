"""A message's way as spans: published and delivered, asked, taken and answered, exported to a real receiver."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from tests.support.platform import Instance, Platform, unique
from tests.support.ports import free_port
from tests.support.span_receiver import SpanReceiver, span_receiver
from tests.support.waiting import until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
SECRET = "nobody-is-to-read-this"
PRODUCER, CONSUMER, SERVER = 4, 5, 2
"""As OTLP counts the kinds of spans."""


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SpanReceiver]:
    async with span_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield receiver


@pytest.fixture
async def traced(receiver: SpanReceiver, platform: Platform) -> Instance:
    return await platform.start()


async def test_a_publication_is_delivered_once_for_all_subscribers_of_an_instance(
    receiver: SpanReceiver, traced: Instance, platform: Platform
) -> None:
    other = await platform.start()
    token = await traced.session(unique("alice"))
    async with AsyncExitStack() as stack:
        here = [await stack.enter_async_context(traced.connected(token)) for _ in range(3)]
        there = await stack.enter_async_context(other.connected(token))
        for client in (*here, there):
            await client.subscribe("guide")
        published = await traced.done(
            "post_office.publish_to_agent_channel", {"channel": "guide", "message": {"message": SECRET}},
            traceparent=f"00-{TRACE}-{PARENT}-01",
        )  # fmt: skip
        heard = await there.of("message")
    await receiver.first("deliver guide", 2)
    (call,) = receiver.named("post_office.publish_to_agent_channel")
    assert (call.trace_id, call.parent_id, call.kind) == (TRACE, PARENT, SERVER)
    assert tuple(heard["traceparent"].split("-")[1:]) == (*call.place, "01")
    delivered = receiver.named("deliver guide")
    assert {(span.trace_id, span.parent_id, span.kind) for span in delivered} == {(*call.place, CONSUMER)}
    told = {span.resource["service.instance.id"]: span.attributes for span in delivered}
    assert told.keys() == {traced.settings.instance_id, other.settings.instance_id}
    assert told[traced.settings.instance_id] == {
        "messaging.system": "smart_city", "messaging.operation.name": "deliver",
        "messaging.operation.type": "process", "messaging.destination.name": "guide",
        "messaging.message.id": published["message_id"], "smart_city.subscribers": 3,
        "messaging.batch.message_count": 1,
    }  # fmt: skip
    assert told[other.settings.instance_id]["smart_city.subscribers"] == 1


async def test_a_question_is_asked_taken_and_answered_in_one_trace(receiver: SpanReceiver, traced: Instance) -> None:
    name = unique("alice")
    token, agents = await traced.session(name), await traced.service("guide", "post_office.consume")
    async with traced.connected(token) as alice, traced.connected(agents) as agent:
        await agent.ask(type="consume", channel="guide", max=1)
        ack = await alice.ask(channel="guide", payload={"message": SECRET, "conversation_id": "c1"})
        delivery = await agent.of("delivery")
        await agent.ask(type="reply", delivery_id=delivery["delivery_id"], payload={"message": SECRET})
        await alice.of("chat_response")
        answered = await receiver.first("answer guide")
        (asked,), (taken,) = receiver.named("ask guide"), receiver.named("take guide")
        assert asked.parent_id == ""
        assert tuple(delivery["message"]["traceparent"].split("-")[1:]) == (*asked.place, "01")
        assert (asked.kind, taken.kind, answered.kind) == (PRODUCER, CONSUMER, PRODUCER)
        for span in (taken, answered):
            assert (span.trace_id, span.parent_id) == asked.place
        assert {span.attributes["messaging.message.id"] for span in (asked, taken, answered)} == {ack["message_id"]}
        assert taken.attributes["smart_city.attempt"] == 1
        for untold in (SECRET, name, token, agents, alice.id):
            assert untold.encode() not in receiver.raw


async def test_an_answer_on_a_channel_is_delivered_below_it(receiver: SpanReceiver, traced: Instance) -> None:
    agents = await traced.service("guide", "post_office.consume")
    async with traced.connected(await traced.session(unique("alice"))) as alice, traced.connected(agents) as agent:
        await alice.subscribe("guide")
        await agent.ask(type="consume", channel="pillar:content", max=1)
        question = {"channel": "pillar:content", "message": {}, "reply_to": "guide"}
        await traced.done("post_office.send_to_agent", question)
        delivery = (await agent.of("delivery"))["delivery_id"]
        for stream in ("start", "end"):
            await agent.ask(type="reply", delivery_id=delivery, payload={}, stream=stream)
        await alice.of("message")
    delivered = await receiver.first("deliver guide")
    (call,) = receiver.named("post_office.send_to_agent")
    answered = await receiver.first("answer pillar:content")
    assert (answered.trace_id, answered.parent_id) == call.place
    assert (delivered.trace_id, delivered.parent_id) == answered.place


async def test_a_frame_that_publishes_begins_a_trace_and_a_refused_call_tells_its_code(
    receiver: SpanReceiver, traced: Instance
) -> None:
    service = await traced.service("desk", "post_office.publish", "post_office.history")
    async with traced.connected(service) as client:
        await client.subscribe("guide")
        ack = await client.ask(type="publish", channel="guide", payload={})
        await client.of("message")
    delivered = await receiver.first("deliver guide")
    (published,) = receiver.named("publish guide")
    assert (delivered.trace_id, delivered.parent_id) == published.place
    assert published.attributes["messaging.message.id"] == ack["message_id"]
    await traced.call("post_office.publish_to_agent_channel", {"channel": "nowhere", "message": {}})
    refused = await receiver.first("post_office.publish_to_agent_channel")
    assert refused.attributes["error.type"] == "unknown_channel"


async def test_a_tool_is_called_below_the_trace_in_its_meta(receiver: SpanReceiver, traced: Instance) -> None:
    meta: Any = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
    async with (
        httpx2.AsyncClient(headers=traced.operator, timeout=10) as http,
        Client(streamable_http_client(f"{traced.url}/mcp", http_client=http)) as client,
    ):
        await client.call_tool("post_office_list_channels", {}, meta=meta)
    called = await receiver.first("post_office.list_channels")
    assert (called.trace_id, called.parent_id) == (TRACE, PARENT)


async def test_what_is_not_sampled_is_told_so_and_leaves_no_span(
    receiver: SpanReceiver, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    city = await platform.start()
    agents = await city.service("guide", "post_office.consume", "post_office.history")
    async with city.connected(await city.session(unique("alice"))) as alice, city.connected(agents) as agent:
        await agent.subscribe("guide")
        await agent.ask(type="consume", channel="guide", max=1)
        await alice.ask(channel="guide", payload={})
        assert (await agent.of("delivery"))["message"]["traceparent"].endswith("-00")
        publish = ("post_office.publish_to_agent_channel", {"channel": "guide", "message": {}})
        await city.done(*publish)
        assert (await agent.of("message"))["traceparent"].endswith("-00")
        await city.done(*publish, traceparent=f"00-{TRACE}-{PARENT}-01")
        assert (await agent.of("message"))["traceparent"].endswith("-01")
    delivered = await receiver.first("deliver guide")
    assert delivered.trace_id == TRACE
    assert {span.trace_id for span in receiver.spans} == {TRACE}


async def test_an_absent_collector_is_told_of_once_and_holds_up_neither_messages_nor_the_end(
    platform: Platform, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "8")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "4")
    caplog.set_level(logging.INFO)

    def told() -> list[str]:
        return [each.getMessage() for each in caplog.records if "span" in each.getMessage().lower()]

    async with platform.instance(traces_flush_seconds=0.5) as city:
        message = {"channel": "guide", "message": {}}
        for _ in range(12):
            await city.done("post_office.publish_to_agent_channel", message)
        await until(lambda: bool(told()), "the log tells of it", seconds=10)
        for _ in range(12):
            await city.done("post_office.publish_to_agent_channel", message)
    assert [sentence.partition(",")[0] for sentence in told()] == [
        "spans cannot be exported", "24 of 24 spans were not exported",
    ]  # fmt: skip


async def test_what_was_recorded_leaves_with_the_end_of_the_instance(
    receiver: SpanReceiver, platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000")
    async with platform.instance() as city:
        await city.done("post_office.list_channels")
        assert receiver.requests == 0
    assert [span.name for span in receiver.spans] == ["post_office.list_channels"]


async def test_what_is_published_at_once_is_delivered_in_one_span(receiver: SpanReceiver, traced: Instance) -> None:
    async with traced.connected(await traced.session(unique("alice"))) as alice:
        await alice.subscribe("guide")
        items = [{"channel": "guide", "message": {"n": n}} for n in range(5)]
        await traced.done("post_office.publish_batch", {"items": items})
        await alice.messages(5, "guide")
    delivered = await receiver.first("deliver guide")
    (called,) = receiver.named("post_office.publish_batch")
    assert (delivered.trace_id, delivered.parent_id) == called.place
    assert delivered.attributes["messaging.batch.message_count"] == 5
    assert "messaging.message.id" not in delivered.attributes


def test_no_tracer_and_no_exporter_is_imported_while_nothing_is_exported() -> None:
    program = (
        "import json, sys; import foundations.invocation; from foundations.telemetry import traces_of;"
        "assert not traces_of('i', {}).is_on; print(json.dumps(list(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, timeout=60)
    modules = json.loads(run.stdout)
    assert [name for name in modules if name.startswith("opentelemetry")] == []
