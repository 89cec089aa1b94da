"""Rounds: what is gathered, what is bounded, and that every item is told once, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from foundations.errors import CityError, Internal, Overloaded, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.rounds import AT_ONCE, BYTES_AT_ONCE, WAITING, Rounds
from tests.support.waiting import until


class Sender:
    """Doubles numbers, a round at a time, when it is let; ``replies`` says otherwise."""

    def __init__(self, tasks: Tasks) -> None:
        self.sent: list[list[int]] = []
        self.told: list[tuple[int, int | CityError]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.failure: Exception | None = None
        self.missing = 0
        self.rounds: Rounds[int, int] = Rounds("doubling", tasks, self.send, self.tell)

    async def send(self, items: Sequence[int]) -> Sequence[int]:
        self.sent.append(list(items))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await self.may_answer.wait()
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return [2 * item for item in items][self.missing :]

    def tell(self, item: int, reply: int | CityError) -> None:
        self.told.append((item, reply))
        if item == 13:
            raise RuntimeError("this listener fails")


async def test_what_one_turn_brings_goes_in_one_round(tasks: Tasks) -> None:
    sender = Sender(tasks)
    for n in range(5):
        sender.rounds.add(n)
    await until(lambda: len(sender.told) == 5, "all are told")
    assert sender.sent == [[0, 1, 2, 3, 4]]
    assert sender.told == [(n, 2 * n) for n in range(5)]


async def test_one_round_is_in_flight_and_the_rest_waits_for_the_next(tasks: Tasks) -> None:
    sender = Sender(tasks)
    sender.may_answer.clear()
    sender.rounds.add(1)
    await until(lambda: bool(sender.sent), "the first is sent")
    for n in (2, 3):
        sender.rounds.add(n)
    sender.may_answer.set()
    await until(lambda: len(sender.told) == 3, "all are told")
    assert (sender.sent, sender.most_at_once) == ([[1], [2, 3]], 1)


async def test_a_round_is_bounded_in_count_and_bytes_and_something_large_goes_alone(tasks: Tasks) -> None:
    sender = Sender(tasks)
    for n in range(AT_ONCE + 1):
        sender.rounds.add(n)
    sender.rounds.add(-1, BYTES_AT_ONCE)
    sender.rounds.add(-2, BYTES_AT_ONCE + 1)
    sender.rounds.add(-3, 1)
    await until(lambda: len(sender.told) == AT_ONCE + 4, "all are told")
    assert [len(each) for each in sender.sent] == [AT_ONCE, 2, 1, 1]


async def test_what_cannot_wait_is_told_so_at_once(tasks: Tasks) -> None:
    sender = Sender(tasks)
    for n in range(WAITING + 1):
        sender.rounds.add(n)
    ((refused, reply),) = sender.told
    assert refused == WAITING
    assert isinstance(reply, Overloaded)


async def test_a_refusal_is_told_to_every_item_of_its_round(tasks: Tasks) -> None:
    sender = Sender(tasks)
    sender.failure = Unavailable("away")
    sender.rounds.add(1)
    sender.rounds.add(2)
    await until(lambda: len(sender.told) == 2, "both are told")
    assert {type(reply) for _, reply in sender.told} == {Unavailable}


async def test_a_failure_nobody_foresaw_is_told_as_internal_and_the_next_round_goes_on(tasks: Tasks) -> None:
    sender = Sender(tasks)
    sender.failure = ValueError("a defect")
    sender.rounds.add(1)
    await until(lambda: len(sender.told) == 1, "it is told")
    assert isinstance(sender.told[0][1], Internal)
    sender.failure = None
    sender.rounds.add(2)
    await until(lambda: len(sender.told) == 2, "the next is told")
    assert sender.told[1] == (2, 4)


async def test_replies_that_do_not_fit_their_items_are_not_handed_out(tasks: Tasks) -> None:
    sender = Sender(tasks)
    sender.missing = 1
    sender.rounds.add(1)
    sender.rounds.add(2)
    await until(lambda: len(sender.told) == 2, "both are told")
    assert {type(reply) for _, reply in sender.told} == {Internal}


async def test_a_listener_that_fails_keeps_nobody_in_the_dark(tasks: Tasks) -> None:
    sender = Sender(tasks)
    sender.rounds.add(13)
    sender.rounds.add(14)
    await until(lambda: len(sender.told) == 2, "both are told")


async def test_closing_tells_those_in_flight_those_who_wait_and_those_who_come(tasks: Tasks) -> None:
    own = Tasks("closing")
    sender = Sender(own)
    sender.may_answer.clear()
    sender.rounds.add(1)
    await until(lambda: bool(sender.sent), "the first is sent")
    sender.rounds.add(2)
    await own.close()
    await until(lambda: len(sender.told) == 2, "both are told")
    sender.rounds.add(3)
    assert [item for item, _ in sender.told] == [1, 2, 3]
    assert {type(reply) for _, reply in sender.told} == {Unavailable}


async def test_closing_before_the_first_step_tells_everybody(tasks: Tasks) -> None:
    own = Tasks("closing")
    sender = Sender(own)
    sender.rounds.add(1)
    await own.close()
    await until(lambda: len(sender.told) == 1, "it is told")
    assert not sender.sent
