"""A connection that comes back: one link after the other, until it is closed or told not to return.

It knows when to connect, wait and give up. What is said over a link is the receiver's, which it is handed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Mapping
from typing import Protocol

from city_client.addresses import Address
from city_client.encodings import Name
from city_client.errors import Ended, LinkLost, Refused, Unconfirmed, Unreachable
from city_client.events import Connected, Disconnected, Event, NotReached, Reconnecting
from city_client.frames import Frame
from city_client.link import DONE, Link
from city_client.reconnecting import ABNORMAL, BAD_FRAME_CODES, MOMENT_SECONDS, Backoff, Return, after_close

MAX_UNDER_WAY = 128
"""Messages sent and not yet acknowledged; further ones wait their turn."""
STEADY_SECONDS = 5.0
"""A link that lived for so long was a success: back-off starts over after it."""

logger = logging.getLogger(__name__)


class Receiver(Protocol):
    """What happens over a link, in the order in which it is called."""

    def welcomed(self, link: Link) -> None:
        """A link stands."""

    def beside(self, link: Link) -> list[Coroutine[None, None, None]]:
        """What runs for as long as the link lives."""

    async def received(self, frame: Frame, raw: bytes, link: Link) -> None:
        """A frame came; while this waits, nothing further is read."""

    def lost(self) -> None:
        """The link is gone."""

    def ended(self, error: Ended | None) -> None:
        """There will be no further link; without an error it was closed here."""


class Connection:
    """The way to the platform, for as long as it is open."""

    def __init__(
        self, address: Address, receiver: Receiver, tell: Callable[[Event], None], encoding: Name = "json"
    ) -> None:
        self.address = address
        self._encoding = encoding
        self._receiver = receiver
        self._tell = tell
        self._backoff = Backoff()
        self._resume = ""
        self._failure = "no attempt was made"
        self._under_way = asyncio.Semaphore(MAX_UNDER_WAY)
        self._standing: asyncio.Future[Link] = asyncio.get_running_loop().create_future()
        self._is_over = False
        self._ended_by_platform: Ended | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to connect, and never stops until `close`."""
        self._task = asyncio.create_task(self._run(), name="city connection")

    async def reach(self, seconds: float) -> None:
        """Waits for the first link.

        Raises:
            Unreachable: there was none within ``seconds``.
            Ended: the platform does not want this client.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.link()
        except TimeoutError:
            raise Unreachable(self._failure) from None

    @property
    def current(self) -> Link | None:
        """The living link, if there is one."""
        standing = self._standing
        return standing.result() if standing.done() and not standing.exception() else None

    async def link(self) -> Link:
        """The living link, or the next one.

        Raises:
            Ended: there will be none.
        """
        return await asyncio.shield(self._standing)

    async def deliver(self, frame: Mapping[str, object], what: str, seconds: float) -> Frame:
        """Sends until acknowledged, over as many links as it takes.

        Raises:
            Refused: the platform does not take it.
            Unconfirmed: nothing was acknowledged within ``seconds``.
            Ended: the connection is over.
        """
        try:
            async with asyncio.timeout(seconds), self._under_way:
                while True:
                    link = await self.link()
                    try:
                        return await link.insist(frame)
                    except LinkLost as lost:
                        if code := BAD_FRAME_CODES.get(lost.code):
                            raise Refused(code, f"{what} was under way when {lost}") from None
                        await link.gone()
        except TimeoutError:
            raise Unconfirmed(what, seconds, str(frame.get("key", ""))) from None

    async def wait_ended(self) -> None:
        """Returns when the connection was closed here; raises `Ended` when the platform ended it."""
        if self._task is not None:
            await asyncio.wait([self._task])
        if self._ended_by_platform is not None:
            raise self._ended_by_platform

    async def close(self) -> None:
        """Closes for good; the platform is told that this client is done."""
        link = self.current
        self._end(Ended(DONE, "closed here"), None)
        if link is not None:
            await link.close(DONE)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        """Link after link. A defect in here ends the connection instead of leaving it hanging."""
        try:
            while True:
                await self._come_back(await self._live())
        except Ended as ended:
            self._tell(Disconnected(ended.code, ended.reason))
            self._end(ended, ended)
        except Exception as error:  # supervised: whoever waits must hear of it
            logger.exception("the connection failed")
            self._end(failed := Ended(ABNORMAL, repr(error)), failed)

    async def _live(self) -> Return:
        """One link from its opening to its loss; says how to come back."""
        try:
            link = await Link.open(self.address, encoding=self._encoding, resume=self._resume)
        except Unreachable as error:
            self._failure = str(error)
            self._tell(NotReached(str(error)))
            return Return()
        except LinkLost as lost:
            return self._lost(lost.code, lost.reason)
        loop = asyncio.get_running_loop()
        opened = loop.time()
        loss = await self._serve(link)
        is_steady = loop.time() - opened >= STEADY_SECONDS
        if is_steady:
            self._backoff.reset()
        how = self._lost(loss.code, loss.reason)
        return how if is_steady or not how.at_once else Return(resume=how.resume)

    async def _serve(self, link: Link) -> LinkLost:
        """Reads a link until it is lost."""
        welcome = link.welcome
        self._resume = welcome.connection_id
        self._receiver.welcomed(link)
        self._tell(Connected(welcome.connection_id, welcome.user_id, welcome.instance_id, welcome.resumed))
        self._standing.set_result(link)
        works = (link.watch(), *self._receiver.beside(link))
        beside = [asyncio.create_task(self._supervise(link, work)) for work in works]
        try:
            while True:
                frame, raw = await link.receive()
                await self._receiver.received(frame, raw, link)
        except LinkLost as lost:
            if not self._is_over:
                self._standing = asyncio.get_running_loop().create_future()
            link.lose(lost)
            self._receiver.lost()
            return lost
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await link.close()

    async def _supervise(self, link: Link, work: Coroutine[None, None, None]) -> None:
        """Runs work beside a link; where it fails the link is of no use, and is given up."""
        try:
            await work
        except LinkLost as lost:
            await link.give_up(lost)
        except Exception as error:  # supervised: a defect costs the link, not the client
            logger.exception("work beside the link failed")
            await link.give_up(LinkLost(ABNORMAL, repr(error)))

    def _lost(self, code: int, reason: str) -> Return:
        self._failure = reason or f"closed with {code}"
        how = after_close(code, reason)
        if how is None:
            raise Ended(code, reason)
        if not how.resume:
            self._resume = ""
        self._tell(Disconnected(code, reason))
        return how

    async def _come_back(self, how: Return) -> None:
        delay = self._backoff.next() + how.wait
        if how.at_once:
            delay = random.uniform(0.0, MOMENT_SECONDS)  # noqa: S311  # spreads, keeps no secret
        self._tell(Reconnecting(self._backoff.attempt, delay))
        await asyncio.sleep(delay)

    def _end(self, ended: Ended, error: Ended | None) -> None:
        """Tells everyone, once, that there will be no further link."""
        if self._is_over:
            return
        self._is_over = True
        self._ended_by_platform = error
        if link := self.current:
            link.lose(LinkLost(ended.code, ended.reason))
            self._standing = asyncio.get_running_loop().create_future()
        self._standing.set_exception(ended)
        self._standing.exception()  # whoever waits has it; nobody need wait
        self._receiver.ended(error)
