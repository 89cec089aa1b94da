"""Agents by tools alone: operations to take what waits on a channel, to answer it, and to read its log.

The same life as on a socket, in single calls: a consumer is made once, then used from anywhere. Deliveries have
leases; whatever is not answered or given back in time goes to somebody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from foundations.errors import Conflict, InvalidArgument
from foundations.operations import Result, Rule, operation
from smart_city.post_office.answers import Answers
from smart_city.post_office.channels import Channels
from smart_city.post_office.consumers import Consumer, Consumers, Mode
from smart_city.post_office.gateway.draining import Drain
from smart_city.post_office.gateway.hub import Hub
from smart_city.post_office.gateway.watching import watching
from smart_city.post_office.inbox.dispatch import Dispatcher
from smart_city.post_office.inbox.questions import Delivery
from smart_city.post_office.log import ChannelLog, Page
from smart_city.post_office.operations.publishing import RealmArgument
from smart_city.post_office.publications import end_of, publications_of
from smart_city.vocabulary import ChannelName, Identity, JsonObject, Position, PositionText

LONGEST_WAIT_MS = 30_000
FIRST_TAKE_SECONDS = 0.25
"""What the store gets to hand out what waits already, also to a call that does not want to wait."""
ConsumerArgument = Annotated[str, Field(pattern=r"^[0-9a-f]{20}$", description="from subscribe_to_channel")]
DeliveryArgument = Annotated[str, Field(min_length=1, max_length=256, description="from receive_messages")]
HeldStatus = Annotated[
    Literal["held"] | None,
    Field(description="the store is away: kept here and carried out on the return, before the delivery goes elsewhere"),
]
LeaseArgument = Annotated[float, Field(gt=0, le=600, description="seconds in which it must be answered")]
EXAMPLE_CONSUMER = "0123456789abcdef0123"
EXAMPLE_DELIVERY = "guide/01938f3a-7c11-7000-8000-000000000000/1"


_NO_POSITION_IN_AN_INBOX: Rule = {
    "not": {"required": ["since"], "properties": {"mode": {"const": "inbox"}, "since": {"type": "string"}}}
}


class ConsumerMade(Result):
    """A consumer, and where it begins."""

    consumer: str
    channel: str
    mode: Mode
    offset: int | None = Field(
        default=None, description="in mode log: the position before the first publication it gets"
    )
    epoch: str | None = None


class DeliveryReceived(Result):
    """One message of an inbox, for this consumer alone until its lease lapses."""

    delivery_id: str
    attempt: int
    message: JsonObject


class Received(Result):
    """What waited: deliveries in mode inbox, publications in mode log. Empty when nothing came in time."""

    deliveries: list[DeliveryReceived] | None = None
    publications: list[JsonObject] | None = None
    offset: int | None = Field(default=None, description="in mode log: acknowledge this position to go on")
    epoch: str | None = None
    recovered: bool | None = Field(
        default=None, description="in mode log: false when something was lost; then see reason"
    )
    reason: str | None = None


class Acknowledged(Result):
    """How many deliveries were settled, or the position that was noted."""

    status: HeldStatus = None
    acknowledged: int | None = None
    offset: int | None = None
    epoch: str | None = None


class Done(Result):
    """It was carried out, or is held."""

    status: HeldStatus = None
    delivery_id: str


class Agents:
    """The operations of agents that have no socket."""

    def __init__(
        self, *, consumers: Consumers, log: ChannelLog, hub: Hub, answers: Answers, dispatcher: Dispatcher,
        channels: Channels,
        draining: Drain,
    ) -> None:  # fmt: skip
        self._consumers = consumers
        self._log = log
        self._hub = hub
        self._answers = answers
        self._dispatcher = dispatcher
        self._channels = channels
        self._draining = draining

    @operation(
        scope="post_office.consume", example={"channel": "guide", "mode": "inbox"},
        rules=[_NO_POSITION_IN_AN_INBOX],
    )  # fmt: skip
    async def subscribe_to_channel(
        self,
        caller: Identity,
        channel: ChannelName,
        mode: Annotated[
            Literal["log", "inbox"], Field(description="inbox: questions to answer; log: all publications")
        ],
        realm: RealmArgument = None,
        since: Annotated[PositionText | None, Field(description="mode log: OFFSET.EPOCH; else from now on")] = None,
    ) -> ConsumerMade:
        """Makes a consumer of a channel's inbox, or of its log.

        It can be used on any instance, and is gone ten minutes after its last call. Errors: `unknown_channel`,
        `forbidden` (another realm), `invalid_argument` (a position for an inbox).
        """
        acting = caller.acting_as(realm)
        self._channels.check_inbox(channel)
        if mode == "inbox":
            if since is not None:
                raise InvalidArgument("since belongs to mode log; an inbox hands out what waits")
            made = await self._consumers.create(realm=acting, channel=channel, mode=mode, position=Position(0))
            return ConsumerMade(consumer=made.consumer, channel=channel, mode=mode)
        start = Position.parse(since) if since else (await self._log.read(channel, None, create=True)).newest
        made = await self._consumers.create(realm=acting, channel=channel, mode=mode, position=start)
        return ConsumerMade(consumer=made.consumer, channel=channel, mode=mode, offset=start.offset, epoch=start.epoch)

    @operation(
        scope="post_office.consume",
        example={"consumer": EXAMPLE_CONSUMER, "max": 1, "wait_ms": 1000},
        deadline=45,
    )
    async def receive_messages(
        self,
        caller: Identity,
        consumer: ConsumerArgument,
        max: Annotated[int, Field(ge=1, le=100)] = 10,  # noqa: A002  # the public name
        wait_ms: Annotated[int, Field(ge=0, le=LONGEST_WAIT_MS, description="how long to wait for the first")] = 0,
        lease_seconds: LeaseArgument | None = None,
    ) -> Received:
        """Takes what waits for a consumer, or waits for it.

        Mode inbox: deliveries, each to be answered, acknowledged or failed within its lease. Mode log: the
        publications after the acknowledged position. Errors: `not_found` (the consumer is gone), `forbidden`.
        """
        found = await self._consumers.find(consumer, caller)
        if found.mode == "inbox":
            return await self._take(found, max, wait_ms / 1000, lease_seconds)
        return await self._read(found, max, wait_ms / 1000)

    @operation(
        scope="post_office.consume", idempotent=True,
        example={"consumer": EXAMPLE_CONSUMER, "delivery_ids": [EXAMPLE_DELIVERY]},
    )  # fmt: skip
    async def acknowledge_messages(
        self,
        caller: Identity,
        consumer: ConsumerArgument,
        delivery_ids: Annotated[list[DeliveryArgument], Field(min_length=1, max_length=100)] | None = None,
        position: PositionText | None = None,
    ) -> Acknowledged:
        """Says what is dealt with: deliveries of an inbox, or a log up to a position.

        A reply acknowledges its delivery by itself. Errors: `not_found`, `stale_delivery` (a lease lapsed; the
        others were acknowledged), `conflict` (name the one that fits the consumer's mode).
        """
        found = await self._consumers.find(consumer, caller)
        if found.mode == "inbox":
            if delivery_ids is None or position is not None:
                raise Conflict("a consumer of an inbox acknowledges delivery_ids")
            held = await self._say(self._answers.done(delivery_ids))
            return Acknowledged(status=held, acknowledged=len(delivery_ids))
        if position is None or delivery_ids is not None:
            raise Conflict("a consumer of a log acknowledges a position")
        reached = Position.parse(position)
        await self._consumers.move(found, reached)
        return Acknowledged(offset=reached.offset, epoch=reached.epoch)

    @operation(
        scope="post_office.consume",
        example={"delivery_id": EXAMPLE_DELIVERY, "payload": {"message": "Here is the answer."}},
    )
    async def reply(self, caller: Identity, delivery_id: DeliveryArgument, payload: JsonObject) -> Done:
        """Answers a message and acknowledges its delivery.

        The answer reaches whoever asked: as `chat_response` on the connection, through its reconnections, or as
        a message on the channel that the asking service named. Errors: `stale_delivery`, `unavailable`.
        """
        data = msgspec.json.encode(payload)
        held = await self._say(self._answers.reply(delivery_id, caller.realm, data), len(data))
        return Done(status=held, delivery_id=delivery_id)

    @operation(
        scope="post_office.consume", idempotent=True,
        example={"delivery_id": EXAMPLE_DELIVERY, "lease_seconds": 120},
    )  # fmt: skip
    async def extend_delivery(
        self, caller: Identity, delivery_id: DeliveryArgument, lease_seconds: LeaseArgument
    ) -> Done:
        """Takes more time for a delivery; it never shortens what there is. Errors: `stale_delivery`."""
        held = await self._say(self._answers.working(delivery_id, lease_seconds))
        return Done(status=held, delivery_id=delivery_id)

    @operation(
        scope="post_office.consume",
        example={"delivery_id": EXAMPLE_DELIVERY, "reason": "the model is busy", "retry": True},
    )
    async def fail_delivery(
        self,
        caller: Identity,
        delivery_id: DeliveryArgument,
        reason: Annotated[str, Field(max_length=1000)] = "",
        retry: Annotated[bool, Field(description="false: tell the asker, and keep it as a dead letter")] = True,
    ) -> Done:
        """Gives a delivery back, to be tried again or not. Errors: `stale_delivery`."""
        held = await self._say(self._answers.failed(delivery_id, reason, retry=retry), len(reason))
        return Done(status=held, delivery_id=delivery_id)

    @operation(scope="post_office.consume", example={"delivery_id": EXAMPLE_DELIVERY, "channel": "pillar:content"})
    async def forward_delivery(self, caller: Identity, delivery_id: DeliveryArgument, channel: ChannelName) -> Done:
        """Hands a message to another inbox, under its id and for the same asker.

        Errors: `stale_delivery`, `unknown_channel`, `overloaded` (that inbox is full).
        """
        held = await self._say(self._answers.forward(delivery_id, channel))
        return Done(status=held, delivery_id=delivery_id)

    async def _say(self, work: Coroutine[Any, Any, None], size: int = 0) -> Literal["held"] | None:
        """Carries out a word; while the store is away it is held, and carried out on the return."""
        return "held" if await self._answers.spoken.say_or_hold(work, size) else None

    async def _take(self, found: Consumer, most: int, wait: float, lease: float | None) -> Received:
        basket = _Basket(found.consumer, most)
        self._dispatcher.attach(found.channel, basket, lease_seconds=lease, stays=True)
        try:
            await self._until(basket.some, max(wait, FIRST_TAKE_SECONDS))
            basket.room = 0
        except asyncio.CancelledError:
            self._dispatcher.give_back(basket.taken)  # the caller left and never saw them
            raise
        finally:
            self._dispatcher.detach(found.channel, basket)
        return Received(
            deliveries=[
                DeliveryReceived(
                    delivery_id=delivery.delivery_id, attempt=delivery.attempt,
                    message=msgspec.json.decode(delivery.body),
                )
                for delivery in basket.taken
            ]
        )  # fmt: skip

    async def _until(self, something: asyncio.Event, seconds: float) -> None:
        """Waits for something, for so long, and not while the instance drains."""
        waits = [asyncio.ensure_future(something.wait()), asyncio.ensure_future(self._draining.turn())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _read(self, found: Consumer, most: int, wait: float) -> Received:
        page = await self._log.read(found.channel, found.position, limit=most)
        if not page.entries and page.recovered and wait:
            page = await self._read_when_written(found, most, wait)
        end = end_of(page)
        return Received(
            publications=publications_of(page), offset=end.offset, epoch=end.epoch,
            recovered=page.recovered, reason=page.reason or None,
        )  # fmt: skip

    async def _read_when_written(self, found: Consumer, most: int, wait: float) -> Page:
        """Reads again as soon as the hub hears something, or the wait is over."""
        heard = asyncio.Event()
        async with watching(self._hub, found.channel, heard.set):
            page = await self._log.read(found.channel, found.position, limit=most)
            if not page.entries:
                await self._until(heard, wait)
                page = await self._log.read(found.channel, found.position, limit=most)
            return page


class _Basket:
    """A waiting call as a taker: what it is given, it hands out and keeps leased."""

    def __init__(self, name: str, room: int) -> None:
        self.name = name
        self.room = room
        self.taken: list[Delivery] = []
        self.some = asyncio.Event()
        self.is_paused = False

    def deliver(self, delivery: Delivery) -> None:
        """Takes one."""
        self.room -= 1
        self.taken.append(delivery)
        self.some.set()

    def stop(self, delivery_id: str) -> None:
        """Nobody wants an answer any more to what was not handed out yet."""
        self.taken = [delivery for delivery in self.taken if delivery.delivery_id != delivery_id]
