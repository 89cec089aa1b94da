"""Several limits at once: a session within its user, a token within its realm, one operation within all calls."""

from __future__ import annotations

from time import monotonic
from types import MappingProxyType

import pytest

from foundations.errors import RateLimited
from foundations.invocation import Credit
from foundations.rates import Rate
from foundations.valkey import Valkey
from smart_city.traffic_cop.limits import Limits
from smart_city.vocabulary import Identity
from tests.support.waiting import eventually

RATES = MappingProxyType({"messages": Rate(1, 20), "calls": Rate(1, 20)})


def limits_of(valkey: Valkey, **options: float) -> Limits:
    return Limits(valkey, users=RATES, services=RATES, **options)  # type: ignore[arg-type]  # session_share alone


def session(name: str, user: str = "alice", **rates: Rate) -> Identity:
    return Identity(kind="session", subject=user, credential=name, rates=rates)


def service(name: str, **rates: Rate) -> Identity:
    return Identity(kind="service", subject="~content", credential=name, rates=rates)


async def spent(credit: Credit, most: int = 100) -> int:
    """How much is allowed until the first refusal."""
    for allowed in range(most):
        try:
            if not credit.spend():
                await credit.refill()
        except RateLimited:
            return allowed
    return most


async def refusal(credit: Credit) -> RateLimited:
    with pytest.raises(RateLimited) as refused:
        while True:
            if not credit.spend():
                await credit.refill()
    return refused.value


async def test_a_session_with_a_rate_of_its_own_is_held_to_it_and_its_user_has_the_rest(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    narrow, wide = session("s1", messages=Rate(1, 5)), session("s2")
    assert await spent(limits.credit(narrow, "messages")) == 5
    assert 14 <= await spent(limits.credit(wide, "messages")) <= 16  # a second may pass meanwhile


async def test_all_sessions_together_stay_within_their_user(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    allowed = [await spent(limits.credit(session(f"s{n}", messages=Rate(1, 9)), "messages")) for n in range(4)]
    assert allowed[0] == 9
    assert 20 <= sum(allowed) <= 22


async def test_what_lies_here_in_slices_is_taken_from_every_bucket(valkey: Valkey) -> None:
    limits = Limits(valkey, users={"messages": Rate(50, 100)}, services=RATES)
    began = monotonic()
    own = Rate(50, 60)
    allowed = [await spent(limits.credit(session(f"s{n}", messages=own), "messages"), 200) for n in range(3)]
    grown = (monotonic() - began) * 50
    assert 60 <= allowed[0] <= 60 + grown + 1
    assert 100 <= sum(allowed) <= 100 + grown + 1


async def test_what_a_session_cannot_have_costs_its_user_nothing(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    narrow = limits.credit(session("s1", messages=Rate(0.01, 1)), "messages")
    assert await spent(narrow) == 1
    assert not any([await spent(narrow) for _ in range(50)])
    assert (await limits.standing(limits.bucket("alice", "messages"))).remaining >= 19


async def test_what_the_user_cannot_have_costs_the_session_nothing(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    await spent(limits.credit(session("s1"), "messages"))
    second = session("s2", messages=Rate(0.01, 10))
    for _ in range(5):
        assert (await refusal(limits.credit(second, "messages"))).limit == "messages"
    own = limits.bucket_of_credential(second, "messages")
    assert own is not None
    assert (await limits.standing(own)).remaining >= 8  # a second or two may have given one each


async def test_by_default_one_session_leaves_others_something_in_the_long_run(valkey: Valkey) -> None:
    limits = Limits(valkey, users={"messages": Rate(40, 10)}, services=RATES, session_share=0.5)
    greedy, modest = (limits.credit(session(name), "messages") for name in ("s1", "s2"))
    assert await spent(greedy) >= 10  # the whole burst, if nobody else wants it
    told = await refusal(greedy)
    assert told.limit in {"session.messages", "messages"}

    async def modest_is_served() -> bool:
        await spent(greedy)  # keeps trying
        return await spent(modest, 1) == 1

    await eventually(modest_is_served, "the modest one is served")
    assert (await refusal(greedy)).limit == "session.messages"


async def test_a_service_token_may_have_a_rate_of_its_own(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    assert await spent(limits.credit(service("t1", calls=Rate(1, 3)), "calls")) == 3
    assert 16 <= await spent(limits.credit(service("t2"), "calls")) <= 18
    assert await spent(limits.credit(service("t1", calls=Rate(1, 3)), "messages")) >= 20


async def test_an_operation_may_have_a_rate_for_each_caller(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    limits.hold({"a.search": Rate(1, 4)})
    assert await spent(limits.credit(service("t1"), "calls", "a.search")) == 4
    assert await spent(limits.credit(session("s1"), "calls", "a.search")) == 4
    assert await spent(limits.credit(service("t1"), "calls", "a.list")) >= 16


async def test_own_rates_hold_on_every_instance(valkey: Valkey) -> None:
    one, other = limits_of(valkey), limits_of(valkey)
    who = session("s1", messages=Rate(1, 6))
    assert await spent(one.credit(who, "messages")) >= 5
    assert await spent(other.credit(who, "messages")) <= 2  # a slice on account


@pytest.mark.parametrize(
    ("who", "operation", "limit", "whose"),
    [
        (session("s1", calls=Rate(1, 3)), "", "session.calls", "this session"),
        (session("s2"), "", "calls", "the user alice"),
        (service("t1", calls=Rate(1, 3)), "", "token.calls", "this token"),
        (service("t2"), "", "calls", "the service content"),
        (service("t2"), "a.search", "a.search", "calls of a.search"),
    ],
)
async def test_a_refusal_says_which_limit_was_hit(
    valkey: Valkey, who: Identity, operation: str, limit: str, whose: str
) -> None:
    limits = limits_of(valkey)
    limits.hold({"a.search": Rate(1, 4)})
    told = await refusal(limits.credit(who, "calls", operation))
    assert told.limit == limit
    assert whose in told.message
    assert 0 < (told.retry_after or 0) <= 1
    assert told.quota == told.window > 0  # at one a second


async def test_several_are_taken_from_each_bucket_or_from_none(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    credit = limits.credit(session("s1", messages=Rate(1, 8)), "messages")
    await credit.refill(7)
    with pytest.raises(RateLimited):
        await credit.refill(5)
    assert await spent(credit) >= 1
    assert (await limits.standing(limits.bucket("alice", "messages"))).remaining >= 11


async def test_more_than_a_burst_costs_a_burst_of_each(valkey: Valkey) -> None:
    limits = limits_of(valkey)
    credit = limits.credit(session("s1", messages=Rate(1, 8)), "messages")
    await credit.refill(1000)
    assert await spent(credit) <= 1
    assert (await limits.standing(limits.bucket("alice", "messages"))).remaining <= 1
