"""One example of every frame, made of the structs that are sent and taken, so that none can name a field too many.

They are shown in `/asyncapi.json`; nothing is sent from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Raw, Struct

from smart_city.post_office.answers.frames import ChatResponse
from smart_city.post_office.envelopes import AgentMessage, Publication, Sender
from smart_city.post_office.gateway import messages, server_frames

CHANNEL, EPOCH, USER = "guide", "k3f9", "alice"
ASKED, ANSWERED = "01a1f878-2b79-7000-9b65-4b2d23abc2af", "01a1f878-2c05-7000-8d0e-5d3a11c7f0b2"
DELIVERY_ID = f"guide/{ASKED}/1"
TIMESTAMP = "2026-11-20T08:00:00.000Z"
TRACEPARENT = "00-3a2b1375c855627e783cde03cd28de93-25904114f6dc65bb-01"
HELLO = Raw(b'{"message":"hello"}')
ANSWER = Raw(b'{"message":"Good morning."}')
PLACE = server_frames.Place(41, EPOCH)

TO_THE_SERVER: tuple[messages.ClientFrame, ...] = (
    messages.Message(id="m1", channel=CHANNEL, payload=HELLO),
    messages.Subscribe(
        type="subscribe", id="s1", channels={CHANNEL: messages.WirePosition(41, EPOCH), "pillar:content": None}
    ),
    messages.Unsubscribe(type="unsubscribe", id="u1", channels=[CHANNEL]),
    messages.Publish(type="publish", id="p1", channel=CHANNEL, payload=HELLO, key="k1"),
    messages.Refresh(type="refresh", id="r1", session_token="ses_…"),  # noqa: S106  # an example of one
    messages.Ping(type="ping", id="n1"),
    messages.Consume(type="consume", id="c1", channel=CHANNEL),
    messages.Done(type="done", id="d1", delivery_ids=[DELIVERY_ID]),
    messages.Failed(type="failed", id="f1", delivery_id=DELIVERY_ID, reason="the archive is closed"),
    messages.Working(type="working", id="w1", delivery_id=DELIVERY_ID),
    messages.Reply(type="reply", id="a1", delivery_id=DELIVERY_ID, payload=ANSWER),
    messages.Stop(type="stop", id="x1", message_id=ASKED),
    messages.Forward(type="forward", id="o1", delivery_id=DELIVERY_ID, channel="pillar:content"),
)

_PUBLICATION = Publication(
    channel=CHANNEL, sender=Sender(kind="service", id="content"), payload=HELLO, message_id=ASKED,
    timestamp=TIMESTAMP, traceparent=TRACEPARENT,
)  # fmt: skip
_QUESTION = AgentMessage(
    channel=CHANNEL, sender=Sender(kind="user", id=USER), intent="chat", payload=HELLO, message_id=ASKED,
    conversation_id="c1", context={}, timestamp=TIMESTAMP, traceparent=TRACEPARENT,
)  # fmt: skip

TO_THE_CLIENT: tuple[Struct, ...] = (
    server_frames.Welcome(
        protocol=messages.PROTOCOL_VERSION, features=messages.FEATURES, connection_id="c0a1b2c3d4e5f60718293",
        user_id=USER, instance_id="host-8000-1", resumed=False, heartbeat_seconds=25, max_message_bytes=4194304,
        channels={"connection:c0a1b2c3d4e5f60718293": server_frames.Place(0, ""), f"user:{USER}": PLACE},
        timestamp=TIMESTAMP,
    ),
    server_frames.SessionExpiring(expires_at=TIMESTAMP),
    server_frames.Ack(
        id="p1", channel=CHANNEL, status="published", message_id=ASKED, offset=42, epoch=EPOCH
    ),
    server_frames.Subscribed(
        id="s1",
        channels={
            CHANNEL: server_frames.Outcome(offset=41, epoch=EPOCH, recovered=True, missed=1),
            "pillar:nowhere": server_frames.Outcome(
                error=server_frames.Refusal("unknown_channel", "there is no channel 'pillar:nowhere'")
            ),
        },
    ),
    _PUBLICATION,
    ChatResponse(
        channel=CHANNEL, agent="content", in_reply_to=ASKED, conversation_id="c1", message_id=ANSWERED,
        log="connection:c0a1b2c3d4e5f60718293", timestamp=TIMESTAMP, payload=ANSWER,
    ),
    server_frames.Reset(channel=CHANNEL, offset=42, epoch=EPOCH, reason="trimmed"),
    server_frames.Withdrawn(channel=CHANNEL, message_id=ASKED),
    server_frames.Unsubscribed(channel=CHANNEL, code="forbidden", message="alice may not subscribe on guide"),
    server_frames.Delivery(
        channel=CHANNEL, delivery_id=DELIVERY_ID, attempt=1, message=Raw(msgspec.json.encode(_QUESTION))
    ),
    server_frames.Error(
        id="p1", code="forbidden", message="alice may not publish on guide", retryable=False
    ),
    server_frames.Stopped(delivery_id=DELIVERY_ID),
    server_frames.Pong(id="n1"),
    server_frames.Heartbeat(),
    server_frames.Opened(channel=CHANNEL, offset=41, epoch=EPOCH),
    server_frames.Close(code=1012, reason="this instance is draining; reconnect now"),
)  # fmt: skip


def shown(frame: Struct) -> Mapping[str, Any]:
    """A frame as it goes over the wire, with its place in the log where it has one."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(frame))
    plain = {"type": plain["type"]} | plain
    if isinstance(frame, Publication | ChatResponse):
        plain |= {"offset": 42, "epoch": EPOCH}
    return plain
