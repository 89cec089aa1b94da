"""Askers who want no answer any more: the question is taken from its agent, or out of its inbox, and ends.

Whoever asked is told by an `error` with the code `stopped`, as of every other end. A connection that is lost stops
nothing, and whose question it is decides the inbox.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal

from foundations.errors import Unavailable
from smart_city.post_office.answers.askers import Askers
from smart_city.post_office.answers.returns import Returns
from smart_city.post_office.inbox import Inbox

Outcome = Literal["stopped", "finished", "unknown"]
LOOKS = 20
LOOK_SECONDS = 0.1
"""A question on its way from one inbox to another is looked for again, so often."""


class Stopping:
    """Stops questions, wherever they are."""

    def __init__(self, inbox: Inbox, returns: Returns, askers: Askers) -> None:
        self._inbox = inbox
        self._returns = returns
        self._askers = askers

    async def stop(self, user: str, message_id: str, logs: Callable[[], Awaitable[Iterable[str]]]) -> Outcome:
        """Ends a question of ``user`` without an answer; ``logs`` are where an answer to it may stand already.

        Raises:
            Unavailable: it is on its way from one inbox to another for too long, or a store is away.
        """
        for _ in range(LOOKS):
            words = await self._look(user, message_id) or await self._look(user, message_id)
            if "leaving" not in words:
                break
            await asyncio.sleep(LOOK_SECONDS)
        else:
            raise Unavailable("an agent is handing the question on; stop it again", retry_after=1)
        if "stopped" in words:
            return "stopped"
        if words or await self._askers.has_final_word(message_id, await logs()):
            return "finished"
        return "unknown"

    async def _look(self, user: str, message_id: str) -> set[str]:
        """What the inboxes say; asked twice, it is found also if it went from one to another meanwhile."""
        channels = self._inbox.channels
        return set(await asyncio.gather(*(self._stop_in(channel, user, message_id) for channel in channels))) - {""}

    async def _stop_in(self, channel: str, user: str, message_id: str) -> str:
        found = await self._inbox.deliveries.stop(channel, message_id, user)
        if isinstance(found, str):
            return found
        return "finished" if await self._returns.end(found) else "stopped"
