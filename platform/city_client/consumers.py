"""The inboxes that a client takes messages from, and the messages in hand.

Whatever is in hand when a link is lost is cancelled: the platform gives it to somebody again. What is done
with a message is the handle's business, and deliberately not known here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from city_client.errors import Dropped, Ended, LinkLost, Refused
from city_client.frames import Frame
from city_client.link import Link
from city_client.questions import Question

LEASE_SHARE = 1 / 3
"""After this share of a lease the platform is told that a message is still worked on."""

Handle = Callable[[Question], Awaitable[None]]

logger = logging.getLogger(__name__)


class Consumer:
    """One inbox, and what was taken from it and is not yet settled."""

    def __init__(self, channel: str, handle: Handle, most: int) -> None:
        self.channel = channel
        self.most = most
        self.is_open = True
        self.refused: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._handle = handle
        self._slots = asyncio.Semaphore(most)
        self._in_hand: dict[str, tuple[Question, asyncio.Task[None]]] = {}

    def delivered(self, question: Question) -> None:
        """Takes a message in hand.

        The platform may send the next one before the task of a settled one has ended, so as many again may wait;
        what is above that was not asked for and is left to its lease.
        """
        delivery_id = question.delivery.delivery_id
        if len(self._in_hand) >= 2 * self.most or delivery_id in self._in_hand:
            logger.warning("%s: %s was not asked for", self.channel, delivery_id)
            return
        task = asyncio.create_task(self._work(question), name=f"answer {delivery_id}")
        self._in_hand[delivery_id] = question, task
        task.add_done_callback(lambda _: self._in_hand.pop(delivery_id, None))

    def drop(self, why: str, delivery_id: str = "") -> None:
        """Cancels the work on one message, or on all."""
        for known, (_, task) in list(self._in_hand.items()):
            if delivery_id in ("", known) and not task.done():
                logger.info("%s: %s is dropped: %s", self.channel, known, why)
                task.cancel()

    def stop(self, delivery_id: str) -> None:
        """Cancels the work on a message to which nobody wants an answer any more."""
        if delivery_id in self._in_hand:
            self._in_hand[delivery_id][0].delivery.stop()
            self.drop("its asker stopped it", delivery_id)

    async def working(self) -> None:
        """Asks for more time for everything in hand."""
        for question, _ in list(self._in_hand.values()):
            if not question.delivery.is_settled:
                with suppress(Dropped):
                    await question.working()

    async def finish(self, seconds: float) -> None:
        """Waits for what is in hand, and drops what takes longer than ``seconds``."""
        tasks = [task for _, task in self._in_hand.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
        self.drop("the agent stops")
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, question: Question) -> None:
        delivery_id = question.delivery.delivery_id
        try:
            async with self._slots:
                await self._handle(question)
        except Dropped as dropped:
            logger.info("%s: the answer to %s is dropped: %s", self.channel, delivery_id, dropped)
        except Exception:  # supervised: one message's failure is not the agent's
            logger.exception("%s: %s failed", self.channel, delivery_id)


class Consumers:
    """The inboxes of one client."""

    def __init__(self) -> None:
        self._consumers: dict[str, Consumer] = {}
        self._link: Link | None = None
        self._lease_seconds = 0.0
        self._leased = asyncio.Event()
        self._work = asyncio.Event()

    def open(self, channel: str, handle: Handle, most: int) -> Consumer:
        """Begins to take messages.

        Raises:
            ValueError: this client consumes the channel already.
        """
        if channel in self._consumers:
            raise ValueError(f"{channel} is consumed by this client already")
        consumer = self._consumers[channel] = Consumer(channel, handle, most)
        self._work.set()
        return consumer

    async def close(self, consumer: Consumer, seconds: float) -> None:
        """Takes no more, and finishes what is in hand within ``seconds``."""
        consumer.is_open = False
        with suppress(Refused, LinkLost, TimeoutError):
            async with asyncio.timeout(seconds):
                if self._link is not None:
                    await self._link.request({"type": "consume", "channel": consumer.channel, "max": 0})
        await consumer.finish(seconds)
        self._consumers.pop(consumer.channel, None)

    def welcomed(self, link: Link) -> None:
        """A link stands."""
        self._link = link

    async def keep(self, link: Link) -> None:
        """Asks for messages on a new link, and later for new consumers."""
        asked: set[Consumer] = set()
        while True:
            self._work.clear()
            new = [each for each in self._consumers.values() if each.is_open and each not in asked]
            asked.update(new)
            await asyncio.gather(*(self._consume(link, consumer) for consumer in new))
            await self._work.wait()

    async def keep_leases(self) -> None:
        """Asks for more time for what is in hand, for as long as the link lives."""
        await self._leased.wait()
        while True:
            await asyncio.sleep(LEASE_SHARE * self._lease_seconds)
            for consumer in list(self._consumers.values()):
                await consumer.working()

    def delivered(self, frame: Frame, link: Link) -> None:
        """A message came."""
        consumer = self._consumers.get(frame.channel)
        if consumer is None:
            logger.warning("%s: %s was not asked for", frame.channel, frame.delivery_id)
            return
        try:
            consumer.delivered(Question.of(frame, link))
        except ValueError as error:
            logger.warning("%s: %s cannot be read: %s", frame.channel, frame.delivery_id, error)

    def stale(self, frame: Frame) -> None:
        """An error about a delivery: the attempt is over."""
        for consumer in self._consumers.values():
            consumer.drop(frame.code, frame.delivery_id)

    def stopped(self, frame: Frame) -> None:
        """Nobody wants an answer to a delivery any more."""
        for consumer in self._consumers.values():
            consumer.stop(frame.delivery_id)

    def lost(self) -> None:
        """The link is gone, and with it every attempt."""
        self._link = None
        for consumer in self._consumers.values():
            consumer.drop("the socket is gone")

    def ended(self, error: Ended | None) -> None:
        """There will be no further link."""
        for consumer in self._consumers.values():
            consumer.drop(str(error or "closed here"))

    async def _consume(self, link: Link, consumer: Consumer) -> None:
        frame = {"type": "consume", "channel": consumer.channel, "max": consumer.most}
        try:
            told = await link.insist(frame)
            self._lease_seconds = told.lease_seconds
            self._leased.set()
        except Refused as refused:
            logger.error("%s cannot be consumed: %s", consumer.channel, refused)
            if not consumer.refused.done():
                consumer.refused.set_exception(refused)
                consumer.refused.exception()
