"""All channels that a client holds, kept subscribed: what is wanted and not live is asked for.

A first subscribe, coming back after a lost socket, a refusal that may pass and a reader that was too slow are
one thing here. It deliberately does not read the socket: `client` hands in the frames, in their order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

from city_client.errors import ClientError, Ended, LinkLost, Refused
from city_client.events import Broken, Event, FellBehind, Subscribed, Unsubscribed
from city_client.frames import Frame, Position, Problem, Standing
from city_client.held import Held, State
from city_client.link import Link
from city_client.reconnecting import ABNORMAL, Backoff
from city_client.subscription import Publication, Subscription

ANSWER_SECONDS = 20.0
"""A subscribe that is not answered for so long means that the socket is of no use."""


MOST_AT_ONCE = 200
"""Channels in one frame; the platform takes at most 500."""
PASSING = frozenset({"unavailable", "overloaded", "rate_limited", "deadline_exceeded"})
"""Codes that pass by themselves; the error of one channel says no more than its code."""


class Subscriptions:
    """The channels of one client."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._held: dict[str, Held] = {}
        self._own: frozenset[str] = frozenset()
        self._leaving: set[str] = set()
        self._work = asyncio.Event()

    def open(self, channels: Mapping[str, Position | None]) -> Subscription:
        """Begins to listen; `settled` waits for the platform's word.

        Raises:
            ValueError: a reader of this client listens to one of them already.
        """
        if taken := [name for name in channels if name in self._held and self._held[name].reader is not None]:
            raise ValueError(f"already listening to {', '.join(taken)}: one reader per channel and client")
        reader = Subscription(channels, leave=self._close, has_room=self._has_room)
        for name, position in channels.items():
            self._held[name] = Held(position, reader)
            self._leaving.discard(name)
        self._work.set()
        return reader

    async def settled(self, reader: Subscription) -> None:
        """Waits until every channel of the reader is live; raises what the platform refused."""
        for settled in [held.settled for _, held in self._of(reader)]:
            await asyncio.shield(settled)

    def welcomed(self, welcome: Frame) -> None:
        """A new socket: nothing is subscribed, but for what the welcome says."""
        self._leaving.clear()
        self._own = frozenset({f"connection:{welcome.connection_id}", f"user:{welcome.user_id}"})
        for name in [n for n, held in self._held.items() if held.reader is None and n not in self._own]:
            del self._held[name]
        for held in self._held.values():
            if held.state is not State.BEHIND:
                held.state = State.WANTED
        for name, standing in welcome.channels.items():
            self._welcome_channel(name, standing)
        self._work.set()

    async def keep(self, link: Link) -> None:
        """Keeps everything that is wanted subscribed, for as long as the link lives."""
        backoff = Backoff()
        pause: float | None = None
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._work.wait()
            self._work.clear()
            await self._unsubscribe(link)
            retry_after = await self._subscribe(link)
            if retry_after is None:
                backoff.reset()
            pause = None if retry_after is None else max(backoff.next(), retry_after)

    def acknowledged(self, frame: Frame) -> None:
        """A subscribe was answered; applied at once, since the publications after it count on it."""
        for name, standing in frame.channels.items():
            held = self._held.get(name)
            if held is None or held.asked != frame.id or held.state is not State.ASKED:
                continue
            if standing.error is not None:
                self._refused(name, standing.error)
            else:
                self._stands(name, held, standing)

    def take(self, frame: Frame, raw: bytes) -> Subscription | None:
        """Hands a publication to its reader; returns the reader if it has no room, and then nothing was done.

        What comes between a subscribe and its answer belongs to the subscription before: it comes again.
        """
        name = frame.log or frame.channel
        held = self._held.get(name)
        if held is None or held.state is not State.LIVE or frame.offset is None:
            return None
        if held.reader is not None and held.reader.is_full:
            return held.reader
        known = held.cursor.gap
        is_new = held.cursor.take(Position(frame.offset, frame.epoch))
        if held.cursor.gap is not known:
            self._tell_gap(name, held)
        if is_new and held.reader is not None:
            held.reader.put(Publication.of(name, frame, raw, held.cursor.take_gap()))
        return None

    def fall_behind(self, name: str) -> None:
        """Leaves a channel whose reader is too slow, until it has room again."""
        if (held := self._held.get(name)) and held.state is State.LIVE:
            held.state = State.BEHIND
            self._leaving.add(name)
            self._work.set()
            self._tell(FellBehind(name))

    def reset(self, frame: Frame) -> None:
        """Continuity of a channel broke."""
        held = self._held.get(frame.channel)
        if held is not None and held.state is State.LIVE:
            held.cursor.reset(Position(frame.offset or 0, frame.epoch), frame.reason)
            self._tell_gap(frame.channel, held)

    def unsubscribed(self, frame: Frame) -> None:
        """The platform ended a subscription."""
        self._drop(frame.channel, Refused(frame.code or "forbidden", frame.sentence))

    def end(self, error: ClientError | None) -> None:
        """The client is over: every reader is told."""
        for held in self._held.values():
            held.settle(error or Ended(1000, "closed here"))
            if held.reader is not None:
                held.reader.end(error)
        self._held.clear()

    def _welcome_channel(self, name: str, standing: Standing) -> None:
        held = self._held.setdefault(name, Held(None, None))
        if held.reader is None and held.cursor.position in (None, standing.position):
            held.cursor.acknowledged(standing)
            held.state = State.LIVE

    async def _unsubscribe(self, link: Link) -> None:
        if self._leaving:
            leaving = sorted(self._leaving)[:MOST_AT_ONCE]
            self._leaving -= set(leaving)
            self._go_on_if(self._leaving)
            await link.send({"type": "unsubscribe", "channels": leaving})

    async def _subscribe(self, link: Link) -> float | None:
        """Asks for what is wanted; returns the least seconds to wait if some must be asked for again."""
        waiting = [(name, held) for name, held in self._held.items() if held.state is State.WANTED]
        wanted = dict(waiting[:MOST_AT_ONCE])
        if not wanted:
            return None
        self._go_on_if(waiting[MOST_AT_ONCE:])
        frame_id = link.next_id()
        for held in wanted.values():
            held.state, held.asked = State.ASKED, frame_id
        positions = {name: _as_json(held.cursor.position) for name, held in wanted.items()}
        retry_after = 0.0
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await link.request({"type": "subscribe", "channels": positions}, frame_id)
        except TimeoutError:
            raise LinkLost(ABNORMAL, f"a subscribe was not answered for {ANSWER_SECONDS:g} s") from None
        except Refused as refused:
            retry_after = refused.retry_after or 0.0
            for name in wanted:
                self._refused(name, Problem(refused.code, refused.message, refused.retryable))
        return retry_after if any(held.state is State.WANTED for held in wanted.values()) else None

    def _go_on_if(self, left: Collection[object]) -> None:
        if left:
            self._work.set()

    def _stands(self, name: str, held: Held, standing: Standing) -> None:
        held.cursor.acknowledged(standing)
        held.state = State.LIVE
        held.settle()
        event = Subscribed(name, standing.position, standing.recovered, standing.missed, standing.reason)
        self._tell(event)

    def _refused(self, name: str, problem: Problem) -> None:
        held = self._held.get(name)
        if held is None:
            return
        if problem.retryable or problem.code in PASSING:
            held.state = State.WANTED
        else:
            self._drop(name, Refused(problem.code, f"{name}: {problem.message}"))

    def _drop(self, name: str, refused: Refused) -> None:
        held = self._held.pop(name, None)
        if held is None:
            return
        held.settle(refused)
        self._tell(Unsubscribed(name, refused.code, refused.message))
        if held.reader is not None:
            for _, other in self._of(held.reader):
                other.settle(refused)
            self._close(held.reader)
            held.reader.end(refused)

    def _close(self, reader: Subscription) -> None:
        """Leaves a reader's channels; the private ones stay, since answers come in there."""
        self._has_room(reader)
        for name, held in self._of(reader):
            if name in self._own:
                held.reader = None
                continue
            del self._held[name]
            self._leaving.add(name)
            self._work.set()

    def _has_room(self, reader: Subscription) -> None:
        for _, held in self._of(reader):
            if held.state is State.BEHIND:
                held.state = State.WANTED
                self._work.set()

    def _of(self, reader: Subscription) -> list[tuple[str, Held]]:
        return [(name, held) for name, held in self._held.items() if held.reader is reader]

    def _tell_gap(self, name: str, held: Held) -> None:
        if held.cursor.gap is not None:
            self._tell(Broken(name, held.cursor.gap))


def _as_json(position: Position | None) -> dict[str, int | str] | None:
    return position.as_json() if position else None
