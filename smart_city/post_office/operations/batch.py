"""One call's publications on their way: each is told what became of it, and the call once all are.

It publishes nothing: a future and a task for each of a thousand cost more than everything else that is done for them.
"""

from __future__ import annotations

import asyncio

from foundations.errors import CityError
from smart_city.post_office.keep import Held
from smart_city.post_office.log import Appended
from smart_city.post_office.operations.published import BatchPublished, ItemOutcome, Refused


class Batch:
    """So many items, each with the first word about it: its place, that it is held, or why not."""

    def __init__(self, count: int) -> None:
        self._outcomes: list[ItemOutcome | None] = [None] * count
        self._left = count
        self._is_held = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def tell(self, index: int, channel: str, outcome: Appended | Held | Exception) -> None:
        """What became of an item; what was held is told a second time, which comes too late for the answer."""
        if self._outcomes[index] is not None or self._done.done():
            return
        if isinstance(outcome, CityError):
            self._outcomes[index] = _refused(channel, outcome)
        elif isinstance(outcome, Exception):
            self._done.set_exception(outcome)
            return
        else:
            self._outcomes[index] = _taken(channel, outcome)
            self._is_held = self._is_held or isinstance(outcome, Held)
        self._left -= 1
        if not self._left:
            self._done.set_result(None)

    async def published(self) -> BatchPublished:
        """The answer, once every item has an outcome."""
        await self._done
        return BatchPublished.model_construct(status="held" if self._is_held else None, results=self._outcomes)


def _taken(channel: str, outcome: Appended | Held) -> ItemOutcome:
    if isinstance(outcome, Held):
        return {"status": "held", "channel": channel, "message_id": outcome.message_id}
    taken: ItemOutcome = {
        "status": "published", "channel": channel, "message_id": outcome.message_id, "offset": outcome.offset,
        "epoch": outcome.epoch,
    }  # fmt: skip
    if outcome.duplicate:
        taken["duplicate"] = True
    return taken


def _refused(channel: str, error: CityError) -> ItemOutcome:
    refused = Refused(code=error.code, message=error.message, retryable=error.retryable)
    return {"status": "refused", "channel": channel, "error": refused}
