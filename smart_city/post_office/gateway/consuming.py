"""An agent on a socket: it consumes inboxes, and what it says of its deliveries goes to the answers.

Its frames run side by side, bounded until they are answered; the answers keep the order of each delivery, and what the
store cannot hear now. Whether a delivery is still good is not known here.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import UNSET, Raw, UnsetType

from foundations.errors import Forbidden, InvalidMessage, StaleDelivery
from smart_city.post_office.gateway import messages, server_frames
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.messages import ClientFrame, encode, wire
from smart_city.post_office.gateway.payloads import read
from smart_city.post_office.inbox.questions import Delivery
from smart_city.post_office.keep import Held
from smart_city.vocabulary import Identity

if TYPE_CHECKING:
    from smart_city.post_office.gateway.outbox import Outbox

SCOPE = "post_office.consume"


class Agent(Protocol):
    """The connection that the agent is on."""

    connection_id: str
    identity: Identity

    def acknowledge(
        self, frame: ClientFrame, *, is_held: bool = False, lease_seconds: float | UnsetType = UNSET
    ) -> None: ...

    def failed(self, frame: ClientFrame, error: Exception) -> None: ...

    def began(self) -> None: ...

    def ended(self) -> None: ...


class Consumer:
    """What one socket takes of one inbox: at most ``most`` deliveries that it has not dealt with.

    A delivery whose lease has lapsed goes to another, and counts no more.
    """

    __slots__ = ("_held", "_lease", "_outbox", "channel", "most", "name")

    def __init__(self, channel: str, name: str, outbox: Outbox, lease_seconds: float) -> None:
        self.channel = channel
        self.name = name
        self.most = 0
        self._lease = lease_seconds
        self._held: dict[str, float] = {}
        self._outbox = outbox

    @property
    def room(self) -> int:
        """How many more it takes now; one that does not even take what it was sent, none."""
        if not self._outbox.takes_work:
            return 0
        if len(self._held) >= self.most:
            now = monotonic()
            self._held = {delivery_id: end for delivery_id, end in self._held.items() if end > now}
        return max(0, self.most - len(self._held))

    @property
    def is_paused(self) -> bool:
        """Whether it takes nothing until it says otherwise."""
        return self.most == 0

    @property
    def is_working(self) -> bool:
        """Whether something that was delivered is not dealt with, and its lease lasts."""
        now = monotonic()
        return any(end > now for end in self._held.values())

    def deliver(self, delivery: Delivery) -> None:
        """Sends one message to the agent."""
        self.extend(delivery.delivery_id)
        self._outbox.send(wire(delivery_frame(delivery)))

    def stop(self, delivery_id: str) -> None:
        """Tells the agent that nobody wants an answer any more."""
        if self._held.pop(delivery_id, None) is not None:
            self._outbox.send(wire(encode(server_frames.Stopped(delivery_id=delivery_id))))

    def holds(self, delivery_id: str) -> bool:
        """Whether the delivery counts here."""
        return delivery_id in self._held

    def extend(self, delivery_id: str) -> None:
        """A delivery counts for the length of a lease from now on."""
        self._held[delivery_id] = monotonic() + self._lease

    def release(self, delivery_ids: Iterable[str]) -> bool:
        """Deliveries are dealt with; whether that makes room where there was none."""
        was_full = len(self._held) >= self.most
        for delivery_id in delivery_ids:
            self._held.pop(delivery_id, None)
        return was_full and len(self._held) < self.most


class Consuming:
    """The consumers of one connection, and the frames of its agent."""

    __slots__ = ("_agent", "_consumers", "_desk", "_outbox")

    def __init__(self, desk: Desk, agent: Agent, outbox: Outbox) -> None:
        self._desk = desk
        self._agent = agent
        self._outbox = outbox
        self._consumers: dict[str, Consumer] = {}

    @property
    def channels(self) -> Sequence[str]:
        """The channels whose inboxes the agent takes from."""
        return sorted(channel for channel, consumer in self._consumers.items() if consumer.most)

    @property
    def is_working(self) -> bool:
        """Whether the agent has deliveries that it has not dealt with."""
        return any(consumer.is_working for consumer in self._consumers.values())

    def pause(self) -> None:
        """Takes nothing more."""
        for consumer in self._consumers.values():
            consumer.most = 0

    def has_room(self) -> None:
        """The socket takes work again."""
        for channel in self._consumers:
            self._desk.dispatcher.has_room(channel)

    def end(self, *, counts: bool = True) -> None:
        """The socket is gone: what it held is handed back; that is no try when the instance drains."""
        for channel, consumer in self._consumers.items():
            self._desk.dispatcher.detach(channel, consumer, counts=counts)
        self._consumers.clear()

    def recheck(self) -> None:
        """The agent has a new identity: one that may not consume gives back what it holds."""
        try:
            self.check()
        except Forbidden:
            self.end()

    def check(self) -> None:
        """Lets agents pass.

        Raises:
            Forbidden: this is none.
        """
        who = self._agent.identity
        if who.kind != "operator" and (who.is_user or SCOPE not in who.scopes):
            raise Forbidden(f"agents connect with a service token that has the scope {SCOPE}")

    def consume(self, frame: messages.Consume) -> None:
        """Takes messages of an inbox from now on, or pauses."""
        self.check()
        self._desk.channels.check_inbox(frame.channel)
        lease = self._desk.inbox.limits.lease_seconds
        consumer = self._consumers.get(frame.channel)
        if consumer is None:
            consumer = Consumer(frame.channel, self._agent.connection_id, self._outbox, lease)
            self._consumers[frame.channel] = consumer
            self._desk.dispatcher.attach(frame.channel, consumer)
        consumer.most = frame.max
        self._agent.acknowledge(frame, lease_seconds=lease)
        self._desk.dispatcher.has_room(frame.channel)

    def done(self, frame: messages.Done) -> None:
        """Deliveries are dealt with."""
        self.check()
        self._say(frame, self._desk.answers.done(frame.delivery_ids), settles=frame.delivery_ids)

    def failed(self, frame: messages.Failed) -> None:
        """A delivery is given back."""
        self.check()
        work = self._desk.answers.failed(frame.delivery_id, frame.reason, retry=frame.retry)
        self._say(frame, work, settles=[frame.delivery_id])

    def working(self, frame: messages.Working) -> None:
        """A delivery needs more time."""
        self.check()
        self._say(frame, self._extend(frame.delivery_id))

    async def _extend(self, delivery_id: str) -> None:
        await self._desk.answers.working(delivery_id)
        for consumer in self._consumers.values():
            if consumer.holds(delivery_id):
                consumer.extend(delivery_id)

    def forward(self, frame: messages.Forward) -> None:
        """A delivery goes to another inbox."""
        self.check()
        self._say(frame, self._desk.answers.forward(frame.delivery_id, frame.channel), settles=[frame.delivery_id])

    def reply(self, frame: messages.Reply) -> None:
        """An answer, or a part of one."""
        self.check()
        stream = "" if frame.stream is UNSET else frame.stream
        if frame.payload is UNSET and stream not in {"start", "end"}:
            raise InvalidMessage("Invalid message format: a reply needs a payload, unless it starts or ends a stream")
        payload = Raw(b"{}") if frame.payload is UNSET else frame.payload
        read(payload)
        work = self._desk.answers.reply(
            frame.delivery_id, self._agent.identity.realm, payload,
            intent="" if frame.intent is UNSET else frame.intent, stream=stream,
        )  # fmt: skip
        settles = [frame.delivery_id] if stream in {"", "end"} else []
        self._say(frame, work, settles=settles, size=len(bytes(payload)))

    def _say(
        self, frame: ClientFrame, work: Coroutine[Any, Any, None], *, settles: Sequence[str] = (), size: int = 0
    ) -> None:
        """Carries out one frame beside the others; what it settled, or found settled, makes room."""
        self._agent.began()
        is_answered = False

        def then(outcome: Exception | Held | None) -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                self._agent.ended()
            if outcome is None or isinstance(outcome, StaleDelivery):
                self._release(settles)
            if isinstance(outcome, Exception):
                self._agent.failed(frame, outcome)
            else:
                self._agent.acknowledge(frame, is_held=outcome is not None)

        self._desk.answers.spoken.say(work, size, then)

    def _release(self, delivery_ids: Sequence[str]) -> None:
        for consumer in self._consumers.values():
            if consumer.release(delivery_ids):
                self._desk.dispatcher.has_room(consumer.channel)


def delivery_frame(delivery: Delivery) -> bytes:
    """The ``delivery`` frame, around a message that is encoded already."""
    return encode(
        server_frames.Delivery(
            channel=delivery.channel, delivery_id=delivery.delivery_id, attempt=delivery.attempt,
            message=Raw(delivery.body),
        )
    )  # fmt: skip
