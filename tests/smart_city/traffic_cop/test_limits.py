"""Rate limits over all instances, with Valkey there and away."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator
from time import monotonic

import pytest

from foundations.errors import RateLimited, Unavailable
from foundations.rates import Rate
from foundations.valkey import Valkey
from smart_city.traffic_cop.limits import Bucket, Limits
from smart_city.traffic_cop.limits.bucket import Standing
from smart_city.vocabulary import Identity
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, ROOM, eventually


def limits_of(valkey: Valkey, rate: Rate, services: Rate | None = None, most: int = 100) -> Limits:
    return Limits(valkey, users={"messages": rate}, services={"messages": services or rate}, most=most)


async def is_allowed(bucket: Bucket, n: int = 1) -> bool:
    """Spends as every user of a bucket does."""
    if not bucket.spend(n):
        try:
            await bucket.refill(n)
        except RateLimited:
            return False
    return True


async def spent_at_once(bucket: Bucket, most: int = 10_000) -> int:
    """How much is allowed until the first refusal."""
    for allowed in range(most):
        if not await is_allowed(bucket):
            return allowed
    return most


async def peek(limits: Limits) -> Standing:
    """How alice stands."""
    return await limits.standing(limits.bucket("alice", "messages"))


async def is_known(valkey: Valkey, subject: str = "alice") -> bool:
    return bool(await valkey.command("EXISTS", valkey.key(f"limit:messages:{subject}")))


async def is_unknown(valkey: Valkey) -> bool:
    return not await is_known(valkey)


async def script_calls(valkey: Valkey) -> int:
    stats = await valkey.command("INFO", "commandstats")
    return sum(int(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"]) for name in ("evalsha", "eval"))


@pytest.fixture
async def other(valkey: Valkey) -> AsyncIterator[Valkey]:
    """Another instance's client on the same keys."""
    connected = await Valkey.connect(valkey.url, prefix=valkey.prefix)
    yield connected
    await connected.close()


@pytest.fixture
async def mortal() -> AsyncIterator[tuple[ValkeyServer, Valkey]]:
    """A server of its own, to be hung or killed."""
    with ValkeyServer(appendonly="no") as server:
        connected = await Valkey.connect(server.url, prefix=f"{secrets.token_hex(2)}:")
        yield server, connected
        await connected.close()


# The rate


@pytest.mark.parametrize("rate", [Rate(1, 1), Rate(1, 3), Rate(10, 20), Rate(100, 5), Rate(100, 200)])
async def test_a_burst_is_allowed_whole_and_then_refused(valkey: Valkey, rate: Rate) -> None:
    began = monotonic()
    allowed = await spent_at_once(limits_of(valkey, rate).bucket("alice", "messages"))
    grown = (monotonic() - began) * rate.per_second
    assert rate.burst <= allowed <= rate.burst + grown


async def test_retry_after_is_when_there_is_credit_again(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(4, 2)).bucket("alice", "messages")
    await spent_at_once(bucket)
    with pytest.raises(RateLimited) as refusal:
        await bucket.refill()
    wait = refusal.value.retry_after
    assert wait is not None
    assert 0 < wait <= 0.25
    refused_at = monotonic()
    await eventually(lambda: is_allowed(bucket), "it is allowed again")
    assert wait - 0.01 <= monotonic() - refused_at < wait + ROOM


async def test_who_waits_as_told_goes_on_at_the_rate(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(50, 5)).bucket("alice", "messages")
    began, allowed = monotonic(), 0
    while monotonic() < began + 0.6:
        try:
            if not bucket.spend():
                await bucket.refill()
            allowed += 1
        except RateLimited as refusal:
            await asyncio.sleep(refusal.retry_after or 0)
    grown = (monotonic() - began) * 50
    assert allowed <= 5 + grown + 1
    assert allowed >= 5 + grown * 0.6


async def test_while_it_is_refused_nobody_asks_valkey(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(0.1, 1)).bucket("alice", "messages")
    await spent_at_once(bucket)
    before = await script_calls(valkey)
    assert not any([await is_allowed(bucket) for _ in range(100)])
    assert await script_calls(valkey) == before


async def test_subjects_and_limits_have_credit_of_their_own(valkey: Valkey) -> None:
    rates = {"messages": Rate(1, 2), "calls": Rate(1, 2)}
    limits = Limits(valkey, users=rates, services=rates)
    await spent_at_once(limits.bucket("alice", "messages"))
    assert await is_allowed(limits.bucket("bob", "messages"))
    assert await is_allowed(limits.bucket("alice", "calls"))
    assert not await is_allowed(limits.bucket("alice", "messages"))


async def test_services_have_a_rate_of_their_own(valkey: Valkey) -> None:
    limits = limits_of(valkey, Rate(1, 2), services=Rate(1, 7))
    assert await spent_at_once(limits.bucket("~content", "messages")) == 7
    assert await spent_at_once(limits.bucket("content", "messages")) == 2


async def test_several_are_taken_together_or_not_at_all(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(1, 10)).bucket("alice", "messages")
    assert await is_allowed(bucket, 8)
    with pytest.raises(RateLimited) as refusal:
        await bucket.refill(3)
    assert refusal.value.retry_after == pytest.approx(1, abs=0.2)
    assert await is_allowed(bucket, 2)
    assert not await is_allowed(bucket)


async def test_more_than_a_burst_costs_a_burst(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(1, 10)).bucket("alice", "messages")
    assert await is_allowed(bucket, 1000)
    assert not await is_allowed(bucket)


# The slices


async def test_at_human_speed_valkey_is_never_asked(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(100, 200)).bucket("alice", "messages")
    assert all([await is_allowed(bucket) for _ in range(10)])
    assert not await is_known(valkey)
    assert await is_allowed(bucket)
    assert await is_known(valkey)


async def test_a_fast_sender_asks_once_in_a_slice(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(1000, 1000)).bucket("alice", "messages")
    before = await script_calls(valkey)
    assert all([await is_allowed(bucket) for _ in range(500)])
    assert await script_calls(valkey) - before <= 5


async def test_what_was_given_on_account_is_settled(valkey: Valkey, other: Valkey) -> None:
    rate = Rate(1, 20)  # slices of one
    first = limits_of(valkey, rate).bucket("alice", "messages")
    assert await is_allowed(first)
    assert await is_allowed(first)
    assert (await peek(limits_of(other, rate))).remaining == 18


async def test_all_instances_share_one_rate(valkey: Valkey, other: Valkey) -> None:
    rate = Rate(50, 100)
    buckets = [limits_of(one, rate).bucket("alice", "messages") for one in (valkey, other)]
    began = monotonic()
    allowed = await asyncio.gather(*map(spent_at_once, buckets))
    grown = (monotonic() - began) * rate.per_second
    assert rate.burst - rate.per_second * 0.1 <= sum(allowed) <= rate.burst + grown + 1


async def test_nobody_takes_more_than_half_of_what_is_left_beyond_need(valkey: Valkey, other: Valkey) -> None:
    rate = Rate(20, 5)  # slices of two
    bucket = limits_of(valkey, rate).bucket("alice", "messages")
    assert bucket.spend(2)
    await bucket.refill()  # settles two, needs one, would have two of the three
    assert (await peek(limits_of(other, rate))).remaining >= 2


async def test_no_instance_starves_another(valkey: Valkey, other: Valkey) -> None:
    rate = Rate(200, 100)
    buckets = [limits_of(one, rate).bucket("alice", "messages") for one in (valkey, other)]

    async def send(bucket: Bucket, until: float) -> int:
        sent = 0
        while monotonic() < until:
            if await is_allowed(bucket):
                sent += 1
            else:
                await asyncio.sleep(0.001)
        return sent

    sent = await asyncio.gather(*(send(bucket, monotonic() + 0.8) for bucket in buckets))
    assert min(sent) >= sum(sent) * 0.2


async def test_who_asks_while_another_is_asking_shares_what_comes(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(1000, 2000)).bucket("alice", "messages")
    await bucket.refill(200)  # the server knows the script from here on
    before = await script_calls(valkey)
    await asyncio.gather(*(bucket.refill() for _ in range(500)))
    assert await script_calls(valkey) - before <= 3  # one for whoever came first, one for all others


async def test_of_many_who_ask_at_once_as_many_pass_as_there_is_credit(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(1, 50)).bucket("alice", "messages")
    allowed = await asyncio.gather(*(is_allowed(bucket) for _ in range(120)))
    assert 50 <= sum(allowed) <= 52


async def test_who_stops_asking_disturbs_nobody(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(100, 200)).bucket("alice", "messages")
    assert bucket.spend(10)
    asking = [asyncio.create_task(bucket.refill()) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    asking[1].cancel()
    await asyncio.wait_for(asking[2], PATIENCE)
    await asyncio.wait(asking)
    assert asking[1].cancelled()


async def test_credit_is_never_made_out_of_nothing(valkey: Valkey, other: Valkey) -> None:
    dice, rate = random.Random(7), Rate(40, 60)  # noqa: S311  # the same throws every time
    limits = [limits_of(one, rate) for one in (valkey, other)]
    began, allowed = monotonic(), 0
    while monotonic() < began + 1:
        n = dice.choice([1, 1, 1, 2, 5, 30])
        allowed += n * await is_allowed(dice.choice(limits).bucket("alice", "messages"), n)
    grown = (monotonic() - began) * rate.per_second
    assert allowed <= rate.burst + grown + 1
    assert allowed >= rate.burst + grown * 0.5


async def test_only_so_many_buckets_are_kept(valkey: Valkey) -> None:
    limits = limits_of(valkey, Rate(1, 1), most=2)
    alice = limits.bucket("alice", "messages")
    limits.bucket("bob", "messages")
    assert limits.bucket("alice", "messages") is alice
    limits.bucket("carol", "messages")  # bob was used least lately
    assert limits.bucket("alice", "messages") is alice
    limits.bucket("dave", "messages")
    limits.bucket("erin", "messages")
    assert limits.bucket("alice", "messages") is not alice


async def test_a_full_bucket_leaves_nothing_behind(valkey: Valkey) -> None:
    bucket = limits_of(valkey, Rate(100, 20)).bucket("alice", "messages")
    await spent_at_once(bucket)
    assert await is_known(valkey)
    await eventually(lambda: is_unknown(valkey), "it is forgotten")


# Looking


async def test_looking_spends_nothing_and_counts_what_was_spent_here(valkey: Valkey) -> None:
    limits = limits_of(valkey, Rate(1, 20))
    assert (await peek(limits)).remaining == 20
    await is_allowed(limits.bucket("alice", "messages"))
    for _ in range(3):
        assert (await peek(limits)).remaining == 19
    await spent_at_once(limits.bucket("alice", "messages"))
    standing = await peek(limits)
    assert standing.remaining == 0
    assert 0 < standing.retry_after <= 1


# Valkey away


@pytest.mark.parametrize("fate", ["kill", "hang"])
async def test_while_valkey_is_away_a_share_of_the_rate_goes_on_and_nobody_waits(
    mortal: tuple[ValkeyServer, Valkey], fate: str
) -> None:
    server, valkey = mortal
    bucket = limits_of(valkey, Rate(100, 200)).bucket("alice", "messages")
    assert await spent_at_once(bucket) >= 200
    getattr(server, fate)()
    await eventually(lambda: is_allowed(bucket), "it is allowed again")
    began = monotonic()
    assert await spent_at_once(bucket) == 9  # with the one before, a slice of ten
    with pytest.raises(RateLimited) as refusal:
        await bucket.refill()
    assert 0 < (refusal.value.retry_after or 0) <= 1
    assert monotonic() - began < 3  # each of the ten would wait for half a second
    server.resume()


async def test_while_valkey_is_away_an_address_goes_on_at_its_rate(mortal: tuple[ValkeyServer, Valkey]) -> None:
    server, valkey = mortal
    limits = Limits(valkey, users={}, services={}, addresses={"handshakes": Rate(50, 200)})
    server.kill()
    bucket = limits.handshakes("10.1.1.1")
    assert await spent_at_once(bucket) == 100  # a second's worth on account, and one while it is away
    with pytest.raises(RateLimited) as refusal:
        await bucket.refill()
    assert 0 < (refusal.value.retry_after or 0) <= 1


async def test_of_several_limits_each_gives_its_share_while_valkey_is_away(
    mortal: tuple[ValkeyServer, Valkey],
) -> None:
    server, valkey = mortal
    limits = Limits(valkey, users={"messages": Rate(100, 200)}, services={}, session_share=0.5)
    alice = Identity(kind="session", subject="alice", credential="s1")
    server.kill()
    chain = limits.credit(alice, "messages")
    allowed = 0
    with pytest.raises(RateLimited) as refusal:
        while True:
            if not chain.spend():
                await chain.refill()
            allowed += 1
    assert allowed == 10  # the session's slice on account, and one while it is away
    assert refusal.value.limit == "session.messages"


async def test_when_valkey_is_back_it_is_asked_again(mortal: tuple[ValkeyServer, Valkey]) -> None:
    server, valkey = mortal
    bucket = limits_of(valkey, Rate(100, 200)).bucket("alice", "messages")
    server.kill()
    await spent_at_once(bucket)
    server.start()

    async def has_asked() -> bool:
        await is_allowed(bucket)
        return await is_known(valkey)

    await eventually(has_asked, "it has asked")


async def test_a_full_valkey_counts_as_away(mortal: tuple[ValkeyServer, Valkey]) -> None:
    _, valkey = mortal
    await valkey.command("CONFIG", "SET", "maxmemory", "1")
    bucket = limits_of(valkey, Rate(100, 200)).bucket("alice", "messages")
    assert await spent_at_once(bucket) == 20  # what is given on account, and a slice while it is away


async def test_nobody_can_look_while_valkey_is_away(mortal: tuple[ValkeyServer, Valkey]) -> None:
    server, valkey = mortal
    server.kill()
    with pytest.raises(Unavailable):
        await peek(limits_of(valkey, Rate(1, 2)))
