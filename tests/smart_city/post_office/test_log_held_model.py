"""The writer over a store that answers, cannot say what it did, is away or full: what was said holds."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import pytest

from foundations.errors import CityError, Overloaded, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Script, Valkey
from foundations.valkey.client import Argument, Then
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log import Appended
from smart_city.post_office.log.values import Provisional, Withdrawn
from smart_city.vocabulary import Position
from tests.support.logs import ALog, an_entry

CHANNELS = ("guide", "pillar:content", "user:a")


class Moody(Valkey):
    """The real store behind a way that loses calls, or the answers to them; at times it is full."""

    def __init__(self, like: Valkey, chance: random.Random, begun: Tasks) -> None:
        super().__init__(like.store, url=like.url, prefix=like.prefix, timeout=like.timeout)
        self._chance = chance
        self._begun = begun
        self.is_calm = False

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        fates = ("answers", "is mute", "is away", "is away", "is full")
        fate = "answers" if self.is_calm else self._chance.choice(fates)
        if fate == "is away":
            raise Unavailable("the store is away")
        if fate == "is full":
            raise Overloaded("the store is full", retry_after=1)
        answer = await super().run(script, keys, args)
        if fate == "is mute":
            raise Unavailable("the answer was lost")
        return answer

    def begin(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], then: Then, *, seconds: float
    ) -> bool:
        async def run() -> None:
            try:
                then(await self.run(script, keys, args))
            except CityError as error:
                then(error)

        has_begun = self._chance.random() < 0.8
        if has_begun:
            self._begun.spawn("begun", run())
        return has_begun


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_the_store_does_each_publication_is_logged_once_in_order_and_told_so(
    valkey: Valkey, tasks: Tasks, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # keeps no secret
    moody = Moody(valkey, chance, tasks)
    log = ALog(moody, tasks, keep=Keep(after=0.01))
    sent: defaultdict[str, list[str]] = defaultdict(list)
    told: defaultdict[str, list[object]] = defaultdict(list)
    for _ in range(chance.randrange(10, 40)):
        for _ in range(chance.randrange(1, 6)):
            channel = chance.choice(CHANNELS)
            entry = an_entry(key=f"k{chance.randrange(6)}" if chance.random() < 0.2 else "", digest="d")
            sent[channel].append(entry.message_id)
            log.append(channel, entry, told[entry.message_id].append)
        await log.flush(0.005)
    moody.is_calm = True
    assert await log.flush(10) == 0

    logged: dict[str, list[str]] = {}
    ahead = [entry for news in log.told_on if isinstance(news, Provisional) for entry in news.entries]
    ids = {entry.data: entry.message_id for entry in ahead}
    for channel, mine in sent.items():
        page = await log.read(channel, Position(0), limit=10_000)
        places = {
            outcome.offset: message_id
            for message_id in mine
            for outcome in told[message_id]
            if isinstance(outcome, Appended) and not outcome.duplicate
        }
        assert sorted(places) == list(range(1, page.newest.offset + 1)), "what was told is there, without a hole"
        logged[channel] = [places[offset] for offset in sorted(places)]
        assert [ids.get(data, message_id) for data, message_id in zip(page.entries, logged[channel], strict=True)] == (
            logged[channel]
        )
        assert logged[channel] == [message_id for message_id in mine if message_id in set(logged[channel])], "in order"
    for words in told.values():
        assert [isinstance(word, Held) for word in words] in ([False], [True, False]), words
        assert isinstance(words[-1], Appended | Overloaded), "what a full store refused is not there"
    shown = [entry.message_id for entry in ahead]
    assert Counter(shown) == Counter(message_id for message_id, words in told.items() if len(words) == 2)
    void = {news.entry.message_id for news in log.told_on if isinstance(news, Withdrawn)}
    assert void == set(shown) - {message_id for mine in logged.values() for message_id in mine}
