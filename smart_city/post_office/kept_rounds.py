"""Rounds whose items are held while the store is away: told so, bounded with all else that is held, and sent again.

A round that was sent is sent again as it was, so that the store knows it; what came after it waits behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Generic, TypeVar

from msgspec import Struct

from foundations.errors import CityError, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.rounds import Rounds

Item = TypeVar("Item")
Reply = TypeVar("Reply")
HELD = Held()
Attempt = Callable[[], Awaitable[Sequence[Reply]]]
"""Sends one round; sent again, it is carried out no second time."""


class _Kept(Struct, Generic[Item], eq=False, gc=False):
    """An item without its final word. A struct: see `questions`."""

    item: Item
    size: int
    sender: str
    is_held: bool = False
    is_told: bool = False


class KeptRounds(Generic[Item, Reply]):
    """As `Rounds`; but ``tell`` may hear `HELD` of an item before its reply, and ``prepare`` makes the attempt."""

    def __init__(
        self,
        name: str,
        tasks: Tasks,
        prepare: Callable[[Sequence[Item]], Attempt[Reply]],
        tell: Callable[[Item, Reply | CityError | Held], None],
        keep: Keep,
    ) -> None:
        self._prepare = prepare
        self._tell = tell
        self._keep = keep
        self._rounds: Rounds[_Kept[Item], Reply | None] = Rounds(name, tasks, self._send, self._conclude)
        self._pending = 0
        self._is_away = False
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def add(self, item: Item, size: int = 0, sender: str = "") -> None:
        """Puts an item of about ``size`` bytes into the next round, or holds it for the store's return."""
        kept = _Kept(item, size, sender)
        if not self._pending:
            self._is_idle.clear()
        self._pending += 1
        if not self._is_away or self._hold(kept):
            self._rounds.add(kept, size)

    async def idle(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every item has its reply, at most ``timeout`` seconds; returns how many have not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._is_idle.wait()
        return self._pending

    async def _send(self, round_: Sequence[_Kept[Item]]) -> Sequence[Reply | None]:
        sent = [kept for kept in round_ if not kept.is_told]
        if not sent:
            return [None] * len(round_)
        attempt = self._prepare([kept.item for kept in sent])
        try:
            replies = iter(await Patience(seconds=self._keep.after).until_answered(attempt))
        except Unavailable:
            replies = iter(await self._send_again(sent, attempt))
        return [None if kept.is_told else next(replies) for kept in round_]

    async def _send_again(self, sent: Sequence[_Kept[Item]], attempt: Attempt[Reply]) -> Sequence[Reply]:
        """Holds what is here and what comes, until the store answers or all patience is at its end: for all of them."""
        self._is_away = True
        for kept in sent:
            self._hold(kept, is_sent=True)
        for kept in self._rounds.unanswered:
            self._hold(kept)
        try:
            return await Patience(seconds=self._keep.seconds).until_answered(attempt, is_repeated=True)
        except Unavailable as error:
            for kept in self._rounds.unanswered:
                self._conclude(kept, error)
            raise
        finally:
            self._is_away = False

    def _hold(self, kept: _Kept[Item], *, is_sent: bool = False) -> bool:
        """Holds an item, once; one that does not fit is refused, unless it may have arrived already."""
        if kept.is_held or kept.is_told:
            return kept.is_held
        if is_sent:
            self._keep.add(kept.size, kept.sender)
        elif not self._keep.take(kept.size, kept.sender):
            self._conclude(kept, self._keep.full())
            return False
        kept.is_held = True
        self._tell(kept.item, HELD)
        return True

    def _conclude(self, kept: _Kept[Item], reply: Reply | CityError | None) -> None:
        """Tells the final word, once: what was refused while it waited is left out of its round."""
        if kept.is_told or reply is None:
            return
        kept.is_told = True
        self._pending -= 1
        if not self._pending:
            self._is_idle.set()
        if kept.is_held:
            self._keep.release(kept.size, kept.sender)
        self._tell(kept.item, reply)
