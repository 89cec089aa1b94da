"""Rounds that are held: what a store that is full, or away for too long, makes of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from foundations.errors import CityError, Overloaded, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.kept_rounds import Attempt, KeptRounds

AWAY = Unavailable("away", retry_after=1)


class Store:
    """It fails as it is told to, one time after the other, and then answers."""

    def __init__(self, tasks: Tasks, keep: Keep, *failures: CityError) -> None:
        self.rounds: list[list[int]] = []
        self.words: defaultdict[int, list[int | CityError | Held]] = defaultdict(list)
        self._failures = list(failures)
        self.kept = KeptRounds("questions", tasks, self._prepare, lambda n, word: self.words[n].append(word), keep)

    def _prepare(self, items: Sequence[int]) -> Attempt[int]:
        self.rounds.append(list(items))

        async def attempt() -> Sequence[int]:
            if self._failures:
                raise self._failures.pop(0)
            return items

        return attempt


async def test_a_store_that_is_full_says_nothing_of_a_round_that_it_may_have_carried_out(tasks: Tasks) -> None:
    full = Overloaded("full", retry_after=1)
    store = Store(tasks, Keep(after=5), AWAY, full, full)
    store.kept.add(1)
    assert await store.kept.idle(5) == 0
    assert store.words == {1: [1]}
    store = Store(tasks, Keep(after=0), AWAY, full)
    store.kept.add(1)
    assert await store.kept.idle(5) == 0
    assert [isinstance(word, Held) for word in store.words[1]] == [True, False]
    assert store.words[1][-1] == 1


async def test_a_store_that_is_full_at_once_refuses(tasks: Tasks) -> None:
    store = Store(tasks, Keep(), Overloaded("full", retry_after=1))
    store.kept.add(1)
    assert await store.kept.idle(5) == 0
    assert [type(word) for word in store.words[1]] == [Overloaded]


async def test_nothing_is_held_longer_than_it_may_be_whatever_it_waits_behind(tasks: Tasks) -> None:
    keep = Keep(after=0.01, seconds=0.2)
    store = Store(tasks, keep, *[AWAY] * 1000)
    for n in range(2000):
        store.kept.add(n)
    assert await store.kept.idle(5) == 0
    assert all([type(word) for word in words] == [Held, Unavailable] for words in store.words.values())
    assert (len(store.rounds), keep.messages, keep.bytes) == (1, 0, 0)
