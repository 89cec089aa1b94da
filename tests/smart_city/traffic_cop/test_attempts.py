"""Guessing tokens from one address: slowed there, and nowhere else."""

from __future__ import annotations

import pytest

from foundations.errors import RateLimited, Unauthenticated
from smart_city.traffic_cop.identities import Identities
from smart_city.traffic_cop.limits import Limits
from tests.smart_city.traffic_cop.conftest import ADDRESSES, OPERATOR_TOKEN, CreateSession
from tests.support.waiting import eventually

GUESS = "ses_7f" + "x" * 43
HERE, THERE = "10.1.1.1", "10.1.1.2"
MOST = ADDRESSES["failures"].burst


async def code_of(identities: Identities, token: str, address: str) -> str:
    try:
        return (await identities.admit(token, address=address)).subject
    except (Unauthenticated, RateLimited) as refusal:
        return refusal.code


async def guessed(identities: Identities, times: int, address: str = HERE) -> list[str]:
    return [await code_of(identities, GUESS, address) for _ in range(times)]


async def test_after_so_many_failures_nothing_is_looked_up_for_a_while(
    identities: Identities, create: CreateSession
) -> None:
    codes = await guessed(identities, 3 * MOST)
    assert MOST <= codes.count("unauthenticated") <= MOST + 2
    assert codes[-1] == "rate_limited"
    good = (await create()).token
    assert await code_of(identities, good, HERE) == "rate_limited"
    assert await code_of(identities, good, THERE) == "alice"

    async def is_let_in() -> bool:
        return await code_of(identities, good, HERE) == "alice"

    await eventually(is_let_in, "it is let in")


async def test_who_was_here_a_short_while_ago_is_let_in_all_the_same(
    identities: Identities, create: CreateSession
) -> None:
    good = (await create()).token
    for token, subject in ((good, "alice"), (OPERATOR_TOKEN, "~operator")):
        assert await code_of(identities, token, HERE) == subject
    assert "rate_limited" in await guessed(identities, 3 * MOST)
    for token, subject in ((good, "alice"), (OPERATOR_TOKEN, "~operator")):
        assert await code_of(identities, token, HERE) == subject


async def test_the_operators_token_cannot_be_guessed_faster_than_others(identities: Identities) -> None:
    assert "rate_limited" in await guessed(identities, 3 * MOST)
    assert await code_of(identities, OPERATOR_TOKEN, HERE) == "rate_limited"


async def test_success_costs_nothing_however_often(identities: Identities, create: CreateSession) -> None:
    good = (await create()).token
    assert {await code_of(identities, good, HERE) for _ in range(5 * MOST)} == {"alice"}
    assert await code_of(identities, GUESS, HERE) == "unauthenticated"


async def test_an_address_that_is_not_known_is_held_to_nothing(identities: Identities) -> None:
    assert set(await guessed(identities, 5 * MOST, "")) == {"unauthenticated"}


async def test_addresses_of_one_ipv6_network_count_together(identities: Identities) -> None:
    codes = [await code_of(identities, GUESS, f"2001:db8::{n:x}") for n in range(3 * MOST)]
    assert "rate_limited" in codes
    assert await code_of(identities, GUESS, "2001:db8:1::1") == "unauthenticated"


async def test_a_refusal_says_that_it_was_the_address(identities: Identities, limits: Limits) -> None:
    with pytest.raises(RateLimited) as refusal:
        while True:
            await code_of_failure(identities)
    assert refusal.value.limit == "address.failures"
    assert HERE in refusal.value.message
    assert 0 < (refusal.value.retry_after or 0) <= 1


async def code_of_failure(identities: Identities) -> None:
    try:
        await identities.identify(GUESS, address=HERE)
    except Unauthenticated:
        return
