"""Publishing: operations that put something on a channel, into an inbox, or into somebody's own log."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Annotated, Any

import msgspec
from pydantic import Field

from foundations.errors import CityError, NotFound, TooLarge, Unavailable
from foundations.invocation import Limits
from foundations.operations import operation
from foundations.telemetry import current_traceparent
from smart_city.post_office.channels import Channels, connection_log, user_log
from smart_city.post_office.envelopes import Letterhead, Sender, agent_message, canonical, digest_of, new_message_id
from smart_city.post_office.fleet import Fleet
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.questions import Question, Route
from smart_city.post_office.keep import Held
from smart_city.post_office.log import Appended, ChannelLog, Entry, Gone
from smart_city.post_office.log.calls import Then
from smart_city.post_office.operations.batch import Batch
from smart_city.post_office.operations.published import (
    AgentAsked,
    BatchItem,
    BatchPublished,
    KeyArgument,
    MessageArgument,
    Published,
    Sent,
    place_of,
)
from smart_city.vocabulary import (
    ChannelName,
    ConversationId,
    Identity,
    Realm,
    UserId,
)

RealmArgument = Annotated[
    Realm | None,
    Field(description="the calling service's name; it is taken from the token, and must not differ"),
]
ConnectionIdArgument = Annotated[str, Field(pattern=r"^[A-Za-z0-9._~@|-]{1,128}$")]
MOST_ITEMS = 1000


class Publishing:
    """The operations of services that have something to say."""

    def __init__(
        self,
        *,
        log: ChannelLog,
        inbox: Inbox,
        channels: Channels,
        registry: Registry,
        fleet: Fleet,
        limits: Limits,
        max_message_bytes: int,
    ) -> None:
        self._log = log
        self._inbox = inbox
        self._channels = channels
        self._registry = registry
        self._fleet = fleet
        self._limits = limits
        self._max_message_bytes = max_message_bytes

    @operation(
        scope="post_office.publish",
        example={"channel": "guide", "message": {"message": "The report is ready."}},
    )
    async def publish_to_agent_channel(
        self,
        caller: Identity,
        channel: ChannelName,
        message: MessageArgument,
        realm: RealmArgument = None,
        key: KeyArgument = None,
    ) -> Published:
        """Publishes a message to all subscribers of an agent channel.

        It is logged before the call returns, or held while the store is away; agents' inboxes do not get it.
        Errors: `unknown_channel`, `forbidden` (another realm), `too_large`, `conflict` (the key was used with
        another message), `rate_limited`, `unavailable`.
        """
        self._check(caller, channel)
        await self._spend(caller, 1)
        outcome = await self._append(caller, channel, message, caller.acting_as(realm), key or "")
        return Published(channel=channel, subscribers=self._fleet.subscribers(channel), **place_of(outcome))

    @operation(
        scope="post_office.publish",
        example={
            "channel": "pillar:content", "message": {"message": "Summarise today."}, "reply_to": "guide",
            "conversation_id": "daily",
        },
    )  # fmt: skip
    async def send_to_agent(
        self,
        caller: Identity,
        channel: ChannelName,
        message: MessageArgument,
        reply_to: Annotated[ChannelName, Field(description="an agent channel, or user:ID, that gets the answer")],
        realm: RealmArgument = None,
        conversation_id: ConversationId | None = None,
        key: KeyArgument = None,
    ) -> AgentAsked:
        """Asks an agent a question, through the channel's inbox.

        The answer is a `message` of the agent with `in_reply_to` on a channel, or a `chat_response` in the log of
        a user. Questions of one realm and conversation are answered in order. Errors: `unknown_channel`,
        `forbidden`, `conflict`, `overloaded` (the inbox is full), `rate_limited`, `unavailable`.
        """
        self._channels.check_inbox(channel)
        acting = caller.acting_as(realm)
        await self._spend(caller, 1)
        payload = self._encoded(message)
        message_id = new_message_id()
        body = agent_message(
            channel=channel, sender=Sender(kind="service", id=acting), payload=payload, message_id=message_id,
            intent="chat", context={}, conversation_id=conversation_id or "", traceparent=current_traceparent.get(),
        )  # fmt: skip
        outcome = await self._inbox.send_or_hold(
            Question(
                channel=channel, message_id=message_id, lane=f"~{acting}/{conversation_id or ''}", user=f"~{acting}",
                body=body, route=self._route(caller, reply_to, conversation_id or ""), key=_key(caller, key or ""),
                digest=digest_of(channel, canonical(message), reply_to, conversation_id or "") if key else "",
            )
        )  # fmt: skip
        if isinstance(outcome, Held):
            return AgentAsked(status="held", channel=channel, message_id=outcome.message_id)
        duplicate = outcome.duplicate or None
        return AgentAsked(status="queued", channel=channel, message_id=outcome.message_id, duplicate=duplicate)

    @operation(
        scope="post_office.publish",
        example={"items": [{"channel": "guide", "message": {"n": 1}}, {"channel": "guide", "message": {"n": 2}}]},
        deadline=30,
    )
    async def publish_batch(
        self,
        caller: Identity,
        items: Annotated[list[BatchItem], Field(min_length=1, max_length=MOST_ITEMS)],
        realm: RealmArgument = None,
        key: KeyArgument = None,
    ) -> BatchPublished:
        """Publishes many messages at once.

        They keep their order on each channel; it is not atomic, so every item has its own outcome. A key for the
        whole batch stands for one of each item. Errors of the call itself: `rate_limited`, `forbidden`.
        """
        acting = caller.acting_as(realm)
        await self._spend(caller, len(items))
        channels = {item.channel for item in items}
        refusals = {channel: self._refusal(caller, channel) for channel in channels}
        letter = _letterhead(acting)
        batch = Batch(len(items))
        for index, item in enumerate(items):
            then = partial(batch.tell, index, item.channel)
            if refusal := refusals[item.channel]:
                then(refusal)
            else:
                self._put(caller, letter, item, item.key or (key and f"{key}/{index}"), then)
        return await batch.published()

    @operation(
        scope="post_office.publish",
        example={"connection_id": "c0123456789abcdef0123", "message": {"message": "only for you"}},
    )
    async def send_to_connection(
        self,
        caller: Identity,
        connection_id: ConnectionIdArgument,
        message: MessageArgument,
        key: KeyArgument = None,
    ) -> Sent:
        """Sends a message to one connection.

        Errors: `not_found` (there is no such connection any more), `conflict`, `rate_limited`, `unavailable`.
        """
        await self._spend(caller, 1)
        channel = connection_log(connection_id)
        try:
            outcome = await self._append(caller, channel, message, caller.realm, key or "", owner=connection_id)
        except Gone:
            raise NotFound(f"there is no connection {connection_id!r} (any more)") from None
        return Sent(connected=None if isinstance(outcome, Held) else True, **place_of(outcome))

    @operation(
        scope="post_office.publish",
        example={"user_id": "alice", "message": {"message": "for all your screens"}},
    )
    async def send_to_user(
        self, caller: Identity, user_id: UserId, message: MessageArgument, key: KeyArgument = None
    ) -> Sent:
        """Sends a message to all connections of a user; who is away finds it in the log of `user:ID`.

        Errors: `conflict`, `rate_limited`, `unavailable`.
        """
        await self._spend(caller, 1)
        outcome = await self._append(caller, user_log(user_id), message, caller.realm, key or "")
        connected = None
        if not isinstance(outcome, Held):
            with suppress(Unavailable):  # it is safe, whoever is there
                connected = await self._registry.is_connected(user_id)
        return Sent(connected=connected, **place_of(outcome))

    async def _spend(self, caller: Identity, n: int) -> None:
        credit = self._limits.credit(caller, "messages")
        if not credit.spend(n):
            await credit.refill(n)

    def _put(self, caller: Identity, letter: Letterhead, item: BatchItem, key: str | None, then: Then) -> None:
        try:
            entry = self._entry(caller, item.channel, letter, item.message, key)
        except TooLarge as error:
            then(error)
        else:
            self._log.append(item.channel, entry, then)

    async def _append(
        self,
        caller: Identity,
        channel: str,
        message: dict[str, Any],
        realm: str,
        key: str,
        *,
        owner: str = "",
    ) -> Appended | Held:
        entry = self._entry(caller, channel, _letterhead(realm), message, key)
        return await self._log.append_or_hold(channel, entry, owner=owner)

    def _entry(
        self, caller: Identity, channel: str, letter: Letterhead, message: dict[str, Any], key: str | None
    ) -> Entry:
        message_id = new_message_id()
        data = letter.publication(channel, self._encoded(message), message_id)
        if not key:
            return Entry(data, message_id)
        realm = letter.sender.id
        acting = () if realm == caller.realm else (realm,)  # a frame, which has no intent here, acts for its own
        return Entry(data, message_id, _key(caller, key), digest_of(channel, "", canonical(message), *acting))

    def _encoded(self, message: dict[str, Any]) -> bytes:
        payload = msgspec.json.encode(message)
        if len(payload) > self._max_message_bytes:
            raise TooLarge(f"a message may have {self._max_message_bytes} bytes, and this one has {len(payload)}")
        return payload

    def _check(self, caller: Identity, channel: str) -> None:
        self._channels.check(caller, "publish", channel)

    def _refusal(self, caller: Identity, channel: str) -> CityError | None:
        try:
            self._check(caller, channel)
        except CityError as error:
            return error
        return None

    def _route(self, caller: Identity, reply_to: str, conversation_id: str) -> Route:
        context = current_traceparent.get()
        if reply_to.startswith("user:"):
            user_id = reply_to.removeprefix("user:")
            return Route(user_id=user_id, conversation_id=conversation_id, traceparent=context)
        self._check(caller, reply_to)
        return Route(channel=reply_to, conversation_id=conversation_id, traceparent=context)


def _letterhead(realm: str) -> Letterhead:
    return Letterhead(Sender(kind="service", id=realm), current_traceparent.get())


def _key(caller: Identity, key: str) -> str:
    """An idempotency key belongs to its caller."""
    return f"{caller.subject}/{key}" if key else ""
