"""Agents and askers as plain sockets, and the shapes of what passes between them. It expects nothing of the order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.contract.shapes import TIMESTAMP, UUID7, has_only
from tests.support.platform import Instance, unique
from tests.support.wire_client import WireClient

Frame = dict[str, Any]


@asynccontextmanager
async def agent_on(city: Instance, channel: str = "", realm: str = "", **consume: Any) -> AsyncIterator[WireClient]:
    """An agent's socket, which consumes a channel if one is named."""
    token = await city.service(realm or unique("agents"), "post_office.consume")
    async with city.connected(token) as agent:
        if channel:
            assert (await agent.ask(type="consume", channel=channel, **consume))["type"] == "ack"
        yield agent


@asynccontextmanager
async def asker_of(city: Instance, user: str = "", **session: Any) -> AsyncIterator[WireClient]:
    async with city.connected(await city.session(user or unique("alice"), **session)) as asker:
        yield asker


async def asked(asker: WireClient, channel: str, conversation: str = "", **payload: Any) -> str:
    """Asks; the question's message id."""
    named = {"conversation_id": conversation} if conversation else {}
    ack = await asker.ask(channel=channel, payload={"message": "hello", **named, **payload})
    assert ack["status"] == "queued", ack
    return str(ack["message_id"])


async def reply(agent: WireClient, delivery: Frame, **reply: Any) -> None:
    answer = await agent.ask(type="reply", delivery_id=delivery["delivery_id"], **reply)
    assert answer["type"] == "ack", answer


def is_answer(frame: Frame, parts: bool = False) -> None:
    """A ``chat_response`` as section 4 gives it."""
    has_only(
        frame,
        {"type", "channel", "agent", "in_reply_to", "payload", "message_id", "log", "timestamp"},
        {"conversation_id", "offset", "epoch", "stream", "part", "snapshot", "error", "retrying", "intent",
         "traceparent"},
    )  # fmt: skip
    assert frame["type"] == "chat_response"
    assert UUID7.fullmatch(frame["message_id"])
    assert TIMESTAMP.fullmatch(frame["timestamp"])
    assert ("stream" in frame) is parts
    assert ("offset" in frame) is (frame.get("stream") != "delta")


def is_error(frame: Frame, question: str, *, retrying: bool) -> None:
    """The ``error`` that ends an attempt at an answer."""
    assert frame["type"] == "chat_response", frame
    assert frame["stream"] == "error"
    assert frame["in_reply_to"] == question
    assert set(frame["error"]) >= {"code", "message"}
    assert frame["retrying"] is retrying
    assert "offset" in frame
