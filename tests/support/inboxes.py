"""Questions and inboxes for tests, with short waits, on the real Valkey."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.inbox import Delivery, Holder, Inbox, InboxLimits, Question, Route
from smart_city.post_office.inbox.questions import DeliveryId
from smart_city.post_office.inbox.store import Taken
from smart_city.post_office.keep import Keep

LIMITS = InboxLimits(first_wait_seconds=0.2, longest_wait_seconds=1.0)
"""As in production, but a second failed try waits 0.2 s and the next 0.4 s."""
CHANNELS = ("guide", "pillar:content")

_numbers = itertools.count(1)


def an_inbox(
    valkey: Valkey, tasks: Tasks, limits: InboxLimits = LIMITS, *, instance_id: str = "one", keep: Keep | None = None,
    **changed: Any,
) -> Inbox:  # fmt: skip
    """An inbox as one instance uses it; further names change its limits."""
    return Inbox(valkey, tasks, replace(limits, **changed), channels=CHANNELS, instance_id=instance_id, keep=keep)


def a_question(
    text: str = "", *, user: str = "alice", conversation: str = "", channel: str = "guide", **more: object
) -> Question:
    """A question of a user, in the lane of a conversation."""
    message_id = new_message_id()
    text = text or f"question {next(_numbers)}"
    values = {
        "channel": channel, "message_id": message_id, "lane": f"{user}/{conversation}", "user": user,
        "body": json.dumps({"message_id": message_id, "payload": {"message": text}}).encode(),
        "route": Route(connection_id=f"c-{user}", user_id=user, conversation_id=conversation),
    } | more  # fmt: skip
    return Question(**values)  # type: ignore[arg-type]


def text_of(delivery: Delivery) -> str:
    """What was asked."""
    return str(json.loads(delivery.body)["payload"]["message"])


def id_of(delivery: Delivery) -> DeliveryId:
    """The delivery's id, taken apart."""
    return DeliveryId.parse(delivery.delivery_id)


def holders(*names: str, lease_seconds: float = 30) -> list[Holder]:
    """One place for each name: ``holders("one|a", "one|a")`` takes two messages for one consumer."""
    return [Holder(name, lease_seconds) for name in names]


def texts(taken: Taken) -> list[str]:
    """What was asked in each delivery of a take."""
    return [text_of(delivery) for _, delivery in taken.deliveries]
