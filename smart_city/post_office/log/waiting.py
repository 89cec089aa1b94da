"""What a writer has taken and not given its final word on: counted, bounded, awaited, and held while Valkey is away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress

from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log.calls import Outcome, Post
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.log.values import Appended, Provisional, Withdrawn

_log = logging.getLogger(__name__)

OnHeld = Callable[[Provisional | Withdrawn], None]


class Waiting:
    """The posts of one writer. Those that are held count in ``keep`` and not against the ``patience``."""

    def __init__(self, patience: Patience, keep: Keep, on_held: OnHeld) -> None:
        self.entries = 0
        self.held = 0
        self._bytes = 0
        self._patience = patience
        self._keep = keep
        self._on_held = on_held
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def has_room(self, size: int) -> bool:
        """Whether one more of this size may wait for its first answer."""
        return self.entries < self._patience.entries and self._bytes + size <= self._patience.bytes

    def add(self, size: int) -> None:
        """One more waits."""
        if not self.entries:
            self._is_idle.clear()
        self.entries += 1
        self._bytes += size

    def remove(self, posts: list[Post]) -> None:
        """These have had their final word."""
        if self.held:
            posts = [post for post in posts if not self._release(post)]
        self.entries -= len(posts)
        self._bytes -= sum([len(post.entry.data) for post in posts])
        if not self.entries and not self.held:
            self._is_idle.set()

    async def idle(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until nothing waits, at most ``timeout`` seconds; returns how many do."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._is_idle.wait()
        return self.entries + self.held

    # Holding

    def hold(self, channel: str, posts: Iterable[Post], *, sent: bool = False) -> list[Post]:
        """Holds posts, tells their senders so, and subscribers what is coming; those without room are refused.

        What was ``sent`` may be logged already, and is held whether there is room or not. What is known to be logged
        has reached its subscribers, and waits for its acknowledgement alone.
        """
        kept, fresh = [], []
        for post in posts:
            if not post.is_held:
                if not self._moved(post, sent=sent):
                    continue
                post = post._replace(is_held=True)  # the same post from here on
                fresh.append(post)
            kept.append(post)
        if fresh:
            if coming := tuple(post.entry for post in fresh if not post.is_logged):
                self._tell_on(Provisional(channel, coming))
            for post in fresh:
                tell(post, Held(post.entry.message_id))
        return kept

    def conclude(self, channel: str, post: Post, outcome: Outcome) -> None:
        """Gives a post that was not newly appended its final word, and withdraws what subscribers had of it."""
        if post.is_held and not post.is_logged:
            earlier = outcome.message_id if isinstance(outcome, Appended) else ""
            self._tell_on(Withdrawn(channel, post.entry, earlier))
        tell(post, outcome)

    def _moved(self, post: Post, *, sent: bool) -> bool:
        size, sender = len(post.entry.data), post.entry.sender
        if sent:
            self._keep.add(size, sender)
        elif not self._keep.take(size, sender):
            tell(post, self._keep.full())
            self.remove([post])
            return False
        self.held += 1
        self.entries -= 1
        self._bytes -= size
        return True

    def _release(self, post: Post) -> bool:
        if post.is_held:
            self.held -= 1
            self._keep.release(len(post.entry.data), post.entry.sender)
        return post.is_held

    def _tell_on(self, news: Provisional | Withdrawn) -> None:
        try:
            self._on_held(news)
        except Exception:  # it is held all the same, and its senders are to hear so
            _log.exception("subscribers of %s could not be told of what is held", news.channel)


def tell(post: Post, outcome: Outcome | Held) -> None:
    """Tells one sender; its defect must not keep the others from being told."""
    try:
        post.then(outcome)
    except Exception:
        _log.exception("a sender failed when it was told what became of its publication")
