"""Handshakes go on in order, so many a turn of the loop, and none waits for ever."""

from __future__ import annotations

import asyncio
from functools import partial

from city_hall.turnstile import Turnstile
from tests.support.waiting import until


async def test_so_many_go_on_in_each_turn_and_in_order() -> None:
    turnstile, through, turns = Turnstile(a_turn=3, seconds=60), list[int](), list[int]()
    for number in range(8):
        turnstile.enter(lambda _, number=number: through.append(number))  # type: ignore[misc]
    assert through == []
    while len(through) < 8:
        await asyncio.sleep(0)
        turns.append(len(through))
    assert through == list(range(8))
    assert [turn for turn in turns if turn] == [3, 6, 8]


async def test_who_waited_too_long_is_told_so() -> None:
    turnstile, told = Turnstile(a_turn=1, seconds=0), list[bool]()
    turnstile.enter(told.append)
    await until(lambda: bool(told), "its turn")
    assert told == [False]


async def test_the_defect_of_one_is_not_the_others() -> None:
    turnstile, told, reported = Turnstile(a_turn=2, seconds=60), list[bool](), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context["exception"]))
    turnstile.enter(partial(int, "not a number"))  # type: ignore[arg-type]
    turnstile.enter(told.append)
    await until(lambda: bool(told), "the other's turn")
    assert len(reported) == 1
