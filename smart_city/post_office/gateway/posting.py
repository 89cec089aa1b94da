"""What a client sends: questions into inboxes, publications onto channels, each acknowledged once it is safe.

Rights and credit are the connection's to check; what an item travels with is decided by the inbox and the log.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import perf_counter as now
from typing import Any, NamedTuple, Protocol

from msgspec import UNSET, Struct, structs

from foundations.invocation import Credit
from foundations.telemetry import Counters, is_sampled
from smart_city.post_office.envelopes import QuestionForm, Sender, canonical, digest_of, new_message_id, publication
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.desk import Desk, Waiting
from smart_city.post_office.gateway.messages import ClientFrame, encode, wire
from smart_city.post_office.gateway.payloads import conversation_of, read
from smart_city.post_office.gateway.server_frames import Ack
from smart_city.post_office.inbox.questions import Question, Queued, Route
from smart_city.post_office.keep import Held
from smart_city.post_office.log import Appended, Entry
from smart_city.post_office.spans import Step, sent, until_told
from smart_city.vocabulary import Identity, Right


class Client(Protocol):
    """The connection that sends."""

    connection_id: str
    identity: Identity

    def allow(self, right: Right, channel: str) -> Credit | None: ...

    def send(self, frame: bytes) -> None: ...

    def failed(self, frame: ClientFrame, error: Exception) -> None: ...

    def began(self) -> None: ...

    def ended(self) -> None: ...

    def sends_to(self, channel: str) -> None: ...


class _Letter(NamedTuple):
    """What the questions of a client in one conversation have in common, while its identity ``who`` stays the same."""

    begins: tuple[str, str, str]
    who: Identity
    lane: str
    route: Route
    form: QuestionForm


class Posting:
    """The frames `message` and `publish` of one connection."""

    __slots__ = ("_client", "_desk", "_letter")

    def __init__(self, desk: Desk, client: Client) -> None:
        self._desk = desk
        self._client = client
        self._letter: _Letter | None = None

    def message(self, frame: messages.Message) -> Waiting:
        """A question for the agents of a channel."""
        credit = self._client.allow("send", frame.channel)
        if credit is None or credit.spend():
            self._ask(frame)
            return None
        return self._when_refilled(credit, partial(self._ask, frame))

    def publish(self, frame: messages.Publish) -> Waiting:
        """Something for all who listen to a channel."""
        credit = self._client.allow("publish", frame.channel)
        if credit is None or credit.spend():
            self._append(frame)
            return None
        return self._when_refilled(credit, partial(self._append, frame))

    async def _when_refilled(self, credit: Credit, send: Callable[[], None]) -> None:
        await credit.refill()
        send()

    def _ask(self, frame: messages.Message) -> None:
        payload = read(frame.payload)
        letter = self._letter_for(frame, conversation_of(payload))
        message_id, context = new_message_id(), self._desk.traces.begin()
        told = self._told("ask", frame, message_id, context)
        route, key, digest = letter.route, "", ""
        if self._desk.traces.is_on and is_sampled(context):
            route = structs.replace(route, traceparent=context)
        if frame.key is not UNSET:
            key, digest = self._key(frame.key), digest_of(frame.channel, frame.intent, canonical(payload))
        body = letter.form.question(frame.payload, message_id, context)
        self._client.began()
        self._desk.inbox.send(
            Question(
                channel=frame.channel, message_id=message_id, lane=letter.lane, user=route.user_id, body=body,
                key=key, digest=digest, route=route,
            ),
            told,
        )  # fmt: skip

    def _letter_for(self, frame: messages.Message, conversation_id: str) -> _Letter:
        """What this question says like the one before it, in nearly all cases."""
        letter, who, begins = self._letter, self._client.identity, (frame.channel, frame.intent, conversation_id)
        if letter is None or letter.begins != begins or letter.who is not who:
            self._client.sends_to(frame.channel)
            self._letter = letter = _Letter(
                begins=begins, who=who, lane=f"{who.subject}/{conversation_id}",
                route=Route(
                    connection_id=self._client.connection_id, user_id=who.subject, conversation_id=conversation_id
                ),
                form=QuestionForm(
                    channel=frame.channel, sender=self._sender, intent=frame.intent, context=who.context,
                    conversation_id=conversation_id,
                ),
            )  # fmt: skip
        return letter

    def _append(self, frame: messages.Publish) -> None:
        payload = read(frame.payload)
        message_id, context = new_message_id(), self._desk.traces.begin()
        told = self._told("publish", frame, message_id, context)
        intent = "" if frame.intent is UNSET else frame.intent
        data = publication(
            channel=frame.channel,
            sender=self._sender,
            payload=frame.payload,
            message_id=message_id,
            intent=intent,
            traceparent=context,
        )
        key = "" if frame.key is UNSET else self._key(frame.key)
        digest = digest_of(frame.channel, intent, canonical(payload)) if key else ""
        self._client.sends_to(frame.channel)
        self._client.began()
        entry = Entry(data, message_id, key, digest, self._client.identity.subject)
        self._desk.log.append(frame.channel, entry, told)

    def _told(
        self, step: Step, frame: messages.Message | messages.Publish, message_id: str, context: str
    ) -> Callable[[Any], None]:
        """Who hears what becomes of a frame; with it ends the span of one that is sampled."""
        told, traces = _Told(self._desk.counters, self._client, frame, now()), self._desk.traces
        if traces.is_on and is_sampled(context) and (span := sent(traces, step, frame.channel, message_id, context)):
            return until_told(span, told)
        return told

    def _key(self, key: str) -> str:
        """An idempotency key belongs to its caller."""
        return f"{self._client.identity.subject}/{key}"

    @property
    def _sender(self) -> Sender:
        who = self._client.identity
        return Sender(kind="user", id=who.subject) if who.is_user else Sender(kind="service", id=who.realm)


class _Told(Struct, eq=False, gc=False):
    """What is told of one frame: the outcome, and before that, while the store is away, that it is held.

    A struct: see `questions`.
    """

    counters: Counters
    client: Client
    frame: messages.Message | messages.Publish
    began: float
    is_answered: bool = False

    def __call__(self, outcome: Appended | Queued | Held | Exception) -> None:
        frame = self.frame
        if isinstance(outcome, Exception):
            self.client.failed(frame, outcome)
        elif frame.id is not UNSET:
            self.client.send(wire(encode(_ack(frame.id, frame.channel, outcome))))
        if not self.is_answered:
            self.is_answered = True
            self.counters.channel(frame.channel).latency.observe(now() - self.began)
            self.client.ended()


def _ack(frame_id: str, channel: str, outcome: Appended | Queued | Held) -> Ack:
    if isinstance(outcome, Appended):
        return Ack(
            id=frame_id, channel=channel, status="published", message_id=outcome.message_id, offset=outcome.offset,
            epoch=outcome.epoch, duplicate=outcome.duplicate,
        )  # fmt: skip
    if isinstance(outcome, Queued):
        return Ack(
            id=frame_id, channel=channel, status="queued", message_id=outcome.message_id, duplicate=outcome.duplicate
        )
    return Ack(id=frame_id, channel=channel, status="held", message_id=outcome.message_id)
