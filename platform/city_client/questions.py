"""A question to an agent, and the ways in which one delivery of it can be answered.

A delivery is one attempt on one link: when its lease lapses or its socket is gone it is over, and every way
to answer raises `Dropped`. What an agent makes of a question is `agent`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec

from city_client.assembly import message_of
from city_client.errors import Dropped, LinkLost, Refused
from city_client.frames import Frame, Payload, Sender
from city_client.link import Link

SETTLE_SECONDS = 30.0
"""How long settling is tried while the platform says that it cannot right now."""
LONGEST_REASON = 1000


class Delivery:
    """One attempt at one message: it is settled once, by an answer or by giving it back."""

    def __init__(self, delivery_id: str, link: Link) -> None:
        self.delivery_id = delivery_id
        self.is_settled = False
        self.is_stopped = False
        """Whoever asked wants no answer any more; it is settled then, too."""
        self._link = link
        self._is_streaming = False

    async def reply(self, payload: Mapping[str, object]) -> None:
        """Answers with one payload, or ends the answer whose parts were sent."""
        frame = {"type": "reply", "delivery_id": self.delivery_id, "payload": payload}
        await self._settle({**frame, "stream": "end"} if self._is_streaming else frame)

    async def part(self, text: str) -> None:
        """Sends text to append to the answer; the first part starts it."""
        if not self._is_streaming:
            self._is_streaming = True
            await self._send({"type": "reply", "payload": {}, "stream": "start"})
        await self._send({"type": "reply", "payload": {"message": text}, "stream": "delta"})

    async def done(self) -> None:
        """Settles without an answer."""
        await self._settle({"type": "done", "delivery_ids": [self.delivery_id]})

    async def failed(self, reason: str, *, retry: bool) -> None:
        """Gives the message back: to be tried again, or to be dead-lettered."""
        frame = {"type": "failed", "delivery_id": self.delivery_id, "retry": retry}
        await self._settle({**frame, "reason": reason[:LONGEST_REASON]})

    async def forward(self, channel: str) -> None:
        """Hands the message to another inbox, whose agents answer it."""
        await self._settle({"type": "forward", "delivery_id": self.delivery_id, "channel": channel})

    async def working(self) -> None:
        """Asks for more time."""
        await self._send({"type": "working"})

    def stop(self) -> None:
        """Takes note that nobody wants an answer any more."""
        self.is_stopped = self.is_settled = True

    async def _send(self, frame: Mapping[str, object]) -> None:
        if self.is_settled:
            raise Dropped(f"{self.delivery_id} is settled already")
        try:
            await self._link.send({**frame, "delivery_id": self.delivery_id})
        except LinkLost as lost:
            raise Dropped(str(lost)) from None

    async def _settle(self, frame: Mapping[str, object]) -> None:
        if self.is_settled:
            raise Dropped(f"{self.delivery_id} is settled already")
        try:
            async with asyncio.timeout(SETTLE_SECONDS):
                await self._link.insist(frame)
        except Refused as refused:
            if refused.code == "stale_delivery":
                raise Dropped(refused.message) from None
            raise
        except LinkLost as lost:
            raise Dropped(str(lost)) from None
        except TimeoutError:
            raise Dropped(f"not settled within {SETTLE_SECONDS:g} s") from None
        self.is_settled = True


class _Message(msgspec.Struct, frozen=True):
    """The ``message`` of a delivery, as the protocol names its fields."""

    message_id: str
    channel: str = ""
    sender: Sender = Sender()
    intent: str = "chat"
    payload: Payload = {}
    conversation_id: str = ""
    context: Payload = {}
    timestamp: str = ""
    traceparent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A message from somebody who waits for an answer.

    ``message`` is the text in the payload; ``context`` is what the asker's session was created with;
    ``attempt`` counts from 1 and tells whether somebody has tried before.
    """

    message: str
    payload: Payload
    sender: Sender
    intent: str
    channel: str
    message_id: str
    conversation_id: str
    context: Payload
    attempt: int
    timestamp: str
    traceparent: str
    delivery: Delivery = field(repr=False)

    @classmethod
    def of(cls, frame: Frame, link: Link) -> Question:
        """Reads a delivery.

        Raises:
            ValueError: its ``message`` is not one.
        """
        message = msgspec.convert(frame.message, _Message)
        return cls(
            message=message_of(message.payload), payload=message.payload, sender=message.sender,
            intent=message.intent, channel=frame.channel, message_id=message.message_id,
            conversation_id=message.conversation_id, context=message.context, attempt=frame.attempt,
            timestamp=message.timestamp, traceparent=message.traceparent,
            delivery=Delivery(frame.delivery_id, link),
        )  # fmt: skip

    async def forward(self, channel: str) -> None:
        """Hands the question to another agent channel; its answer goes to the asker, and nothing of ours."""
        await self.delivery.forward(channel)

    async def working(self) -> None:
        """Says that this takes longer; the client says so by itself, while the event loop is free."""
        await self.delivery.working()
