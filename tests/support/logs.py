"""Channel logs for tests: small limits, entries that tell themselves apart, and what was announced."""

from __future__ import annotations

import itertools

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.keep import Keep
from smart_city.post_office.log import ChannelLog, Entry, LogLimits, Patience, Retention, Stretch
from smart_city.post_office.log.values import Provisional, Withdrawn

_numbers = itertools.count(1)


def some_limits(
    *, count: int = 1000, size: int = 1024 * 1024, age: float = 3600, window: float = 60, keys: float = 600
) -> LogLimits:
    """Limits as they follow from settings, with room for most tests."""
    return LogLimits.within(count=count, size=size, age=age, resume_window=window, idempotency=keys)


ROOMY = some_limits()
PATIENT = Patience(seconds=10)
"""For machines on which other tests keep a Valkey from answering for a while."""


def short_lived(age: float) -> LogLimits:
    """Limits under which entries grow old within a test, and logs are forgotten soon after."""
    kept = Retention(count=1000, bytes=1024 * 1024, age=age, idle=2 * age)
    return LogLimits(history=kept, connection=kept)


def an_entry(text: str = "", *, key: str = "", digest: str = "", size: int = 0) -> Entry:
    """An entry like no other, of at least ``size`` bytes."""
    number = next(_numbers)
    data = f'{{"n":{number},"text":"{text}"'.ljust(max(0, size - 1)) + "}"
    return Entry(data.encode(), f"message-{number}", key, digest)


class ALog(ChannelLog):
    """A log that remembers what it announced, and what it told of what is held."""

    def __init__(
        self,
        valkey: Valkey,
        tasks: Tasks,
        limits: LogLimits | None = None,
        *,
        patience: Patience | None = None,
        keep: Keep | None = None,
    ) -> None:
        self.announced: list[Stretch] = []
        self.told_on: list[Provisional | Withdrawn] = []
        super().__init__(
            valkey, tasks, limits or some_limits(), self.announced.append, patience=patience or Patience(), keep=keep,
            on_held=self.told_on.append,
        )  # fmt: skip

    async def write(self, channel: str, *entries: Entry) -> list[bytes]:
        """Appends entries and returns their data, as `read` will."""
        for entry in entries:
            await self.append_now(channel, entry)
        return [entry.data for entry in entries]
