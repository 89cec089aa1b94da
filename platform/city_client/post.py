"""The frames of a link, handed to whom they concern, in the order in which they came.

It sorts; what a frame means is said in `subscriptions`, `answers` and `consumers`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine

from city_client.answers import Answers
from city_client.consumers import Consumers
from city_client.errors import Ended
from city_client.events import Complained, Event, Expiring, Held
from city_client.frames import Frame
from city_client.link import Link
from city_client.subscriptions import Subscriptions

STALL_SECONDS = 0.5
"""How long a reader without room may hold the socket up, on which acknowledgements travel too."""


class Post:
    """What a client keeps from link to link, as the `connection.Receiver` of all of them."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self.subscriptions = Subscriptions(tell)
        self.answers = Answers()
        self.consumers = Consumers()
        self._tell = tell

    def welcomed(self, link: Link) -> None:
        self.subscriptions.welcomed(link.welcome)
        self.consumers.welcomed(link)

    def beside(self, link: Link) -> list[Coroutine[None, None, None]]:
        return [
            self.subscriptions.keep(link),
            self.consumers.keep(link),
            self.consumers.keep_leases(),
        ]

    async def received(self, frame: Frame, raw: bytes, link: Link) -> None:
        """Hands a frame over; waits, a little, only for a reader that has no room."""
        match frame.type:
            case "message":
                await self._publication(frame, raw)
            case "chat_response":
                self.answers.take(frame)
                await self._publication(frame, raw)
            case "delivery":
                self.consumers.delivered(frame, link)
            case "stop":
                self.consumers.stopped(frame)
            case "ack":
                self.subscriptions.acknowledged(frame)
                link.settle(frame)
                if frame.status == "held":
                    self._tell(Held(frame.channel, frame.message_id))
            case "error":
                self._error(frame, link)
            case "reset":
                self.subscriptions.reset(frame)
            case "unsubscribed":
                self.subscriptions.unsubscribed(frame)
            case "system" if frame.event == "session_expiring":
                self._tell(Expiring(frame.expires_at))

    def lost(self) -> None:
        self.consumers.lost()

    def ended(self, error: Ended | None) -> None:
        self.subscriptions.end(error)
        self.answers.end(error or Ended(1000, "closed here"))
        self.consumers.ended(error)

    async def _publication(self, frame: Frame, raw: bytes) -> None:
        full = self.subscriptions.take(frame, raw)
        if full is None:
            return
        if await full.room(STALL_SECONDS):
            self.subscriptions.take(frame, raw)
        else:
            self.subscriptions.fall_behind(frame.log or frame.channel)

    def _error(self, frame: Frame, link: Link) -> None:
        if link.settle(frame):
            return
        if frame.delivery_id:
            self.consumers.stale(frame)
        else:
            self._tell(Complained(frame.code, frame.sentence))
