"""The operations of the Traffic Cop, called as a caller that was let through."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from foundations.errors import (
    CityError,
    Forbidden,
    InvalidArgument,
    NotFound,
    RateLimited,
    Unauthenticated,
)
from foundations.operations import Result
from foundations.rates import Rate
from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from smart_city.traffic_cop.grants import ChannelGrant, RatedGrant
from smart_city.traffic_cop.identities import OPERATOR_IDENTITY, Identities
from smart_city.traffic_cop.limits import Limits
from smart_city.traffic_cop.operations import TrafficCop
from smart_city.traffic_cop.own_rates import Limited, OwnRate, ShownRate
from smart_city.traffic_cop.revocations import CHANNEL
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Sessions
from smart_city.vocabulary import SCOPES, Identity
from tests.smart_city.traffic_cop.conftest import RATES
from tests.support.valkey import ValkeyServer, keys_in
from tests.support.waiting import eventually, until

OPERATOR = OPERATOR_IDENTITY
SERVICE = Identity(
    kind="service",
    subject="~desk",
    credential="t1",
    scopes=frozenset({"traffic_cop.sessions", "traffic_cop.admin"}),
)
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def seconds_until(text: str) -> float:
    assert RFC3339.fullmatch(text), text
    return (datetime.fromisoformat(text) - datetime.now(UTC)) / timedelta(seconds=1)


async def code_of(call: Awaitable[Result]) -> str:
    """The code of a refusal; empty when there was none."""
    try:
        await call
    except CityError as refusal:
        return refusal.code
    return ""


async def field_of(call: Awaitable[Result]) -> str:
    """The argument that an `invalid_argument` names."""
    with pytest.raises(InvalidArgument) as refusal:
        await call
    return refusal.value.errors[0].field


# Sessions


async def test_a_created_session_opens_as_its_user(cop: TrafficCop, identities: Identities) -> None:
    created = await cop.create_session(SERVICE, "alice", context={"tenant": 7}, channels={"guide": ["publish"]})
    assert created.status == "active"
    assert seconds_until(created.expires_at) == pytest.approx(3600, abs=5)
    caller = await identities.identify(created.session_token)
    assert (caller.subject, caller.credential, caller.context) == ("alice", created.session_id, {"tenant": 7})
    assert caller.may("publish", "guide")
    assert not caller.may("subscribe", "guide")


async def test_a_session_lives_as_long_as_it_is_given(cop: TrafficCop) -> None:
    created = await cop.create_session(SERVICE, "alice", ttl_seconds=7)
    assert seconds_until(created.expires_at) == pytest.approx(7, abs=2)


async def test_a_session_without_channels_may_talk_to_agents(cop: TrafficCop, identities: Identities) -> None:
    by_default = await identities.identify((await cop.create_session(SERVICE, "alice")).session_token)
    nothing = await identities.identify((await cop.create_session(SERVICE, "alice", channels={})).session_token)
    assert by_default.may("send", "pillar:content")
    assert not nothing.may("send", "pillar:content")


@pytest.mark.parametrize("user_id", ["~operator", "~content", "", "a b", "a:b", "alice\n", "{x}", "x" * 129])
async def test_a_session_belongs_to_a_user(cop: TrafficCop, user_id: str) -> None:
    assert await field_of(cop.create_session(OPERATOR, user_id)) == "user_id"


async def test_a_session_with_impossible_grants_is_not_created(cop: TrafficCop) -> None:
    for pattern in ("user:bob", "pil*ar"):
        call = cop.create_session(SERVICE, "alice", channels={pattern: ["subscribe"]})
        assert await field_of(call) == f"channels.{pattern}"
    assert (await cop.list_sessions(SERVICE, "alice")).total == 0


async def test_a_session_is_described_by_token_and_by_id(cop: TrafficCop) -> None:
    created = await cop.create_session(
        SERVICE, "alice", session_type="web", context={"a": None}, channels={"guide": ["send"]}
    )
    by_token = await cop.validate_session(SERVICE, created.session_token)
    assert by_token == await cop.get_session(SERVICE, created.session_id)
    assert (by_token.user_id, by_token.session_type, by_token.status) == ("alice", "web", "active")
    assert (by_token.context, by_token.channels) == ({"a": None}, {"guide": ["send"]})
    assert by_token.expires_at == created.expires_at
    assert seconds_until(by_token.created_at) == pytest.approx(0, abs=5)


async def test_what_is_no_living_session_is_not_described(cop: TrafficCop, identities: Identities) -> None:
    created = await cop.create_session(SERVICE, "alice")
    ticket = await identities.ticket_for(created.session_token)
    service = await cop.create_service_token(OPERATOR, "content", [])
    await cop.revoke_session(SERVICE, session_id=created.session_id)
    for token in (created.session_token, ticket, service.token, "ses_7f" + "a" * 43, "nonsense"):
        assert await code_of(cop.validate_session(SERVICE, token)) == "unauthenticated"
    for session_id in (created.session_id, "nonsense"):
        with pytest.raises(NotFound):
            await cop.get_session(SERVICE, session_id)


async def test_a_service_refreshes_the_session_of_a_token(cop: TrafficCop) -> None:
    created = await cop.create_session(SERVICE, "alice", ttl_seconds=100)
    renewed = await cop.refresh_session(SERVICE, created.session_token)
    assert renewed.session_id == created.session_id
    assert renewed.session_token != created.session_token
    assert seconds_until(renewed.expires_at) == pytest.approx(100, abs=5)
    longer = await cop.refresh_session(SERVICE, renewed.session_token, ttl_seconds=5000)
    assert seconds_until(longer.expires_at) == pytest.approx(5000, abs=5)
    for token in (created.session_token, renewed.session_token, longer.session_token):
        assert (await cop.validate_session(SERVICE, token)).session_id == created.session_id
    assert await code_of(cop.refresh_session(SERVICE)) == "forbidden"
    assert await code_of(cop.refresh_session(SERVICE, "nonsense")) == "unauthenticated"


async def test_a_session_refreshes_itself_and_nobody_else(cop: TrafficCop, identities: Identities) -> None:
    created = await cop.create_session(SERVICE, "alice", ttl_seconds=100)
    others = await cop.create_session(SERVICE, "alice")
    caller = await identities.identify(created.session_token)
    assert (await cop.refresh_session(caller)).session_id == created.session_id
    assert (await cop.refresh_session(caller, created.session_token)).session_id == created.session_id
    with pytest.raises(Forbidden):
        await cop.refresh_session(caller, others.session_token)


async def test_a_session_gives_itself_no_more_time_than_it_was_given(cop: TrafficCop, identities: Identities) -> None:
    created = await cop.create_session(SERVICE, "alice", ttl_seconds=100)
    caller = await identities.identify((await cop.refresh_session(SERVICE, created.session_token)).session_token)
    assert seconds_until((await cop.refresh_session(caller, ttl_seconds=50)).expires_at) < 51
    with pytest.raises(Forbidden):
        await cop.refresh_session(caller, ttl_seconds=101)


async def test_a_session_that_has_ended_cannot_refresh_itself(cop: TrafficCop, identities: Identities) -> None:
    caller = await identities.identify((await cop.create_session(SERVICE, "alice")).session_token)
    await cop.revoke_session(SERVICE, user_id="alice")
    with pytest.raises(Unauthenticated):
        await cop.refresh_session(caller)


async def test_a_users_sessions_are_listed(cop: TrafficCop) -> None:
    made = [await cop.create_session(SERVICE, "alice", ttl_seconds=ttl) for ttl in (10, 30, 20)]
    await cop.create_session(SERVICE, "bob")
    listed = await cop.list_sessions(SERVICE, "alice", limit=2)
    assert (listed.user_id, listed.total) == ("alice", 3)
    assert [one.session_id for one in listed.sessions] == [made[1].session_id, made[2].session_id]
    nobodys = await cop.list_sessions(SERVICE, "carol")
    assert (nobodys.total, nobodys.sessions) == (0, [])


async def test_everybodys_sessions_are_listed_those_that_live_longest_first(cop: TrafficCop) -> None:
    lifetimes = {"alice": 10, "bob": 40, "carol": 30, "dave": 20}
    for user, ttl in lifetimes.items():
        await cop.create_session(SERVICE, user, ttl_seconds=ttl)
    listed = await cop.list_sessions(SERVICE, limit=3)
    assert (listed.user_id, listed.total) == (None, 4)
    assert [one.user_id for one in listed.sessions] == ["bob", "carol", "dave"]
    await cop.revoke_session(SERVICE, user_id="bob")
    await cop.revoke_session(SERVICE, session_id=listed.sessions[1].session_id)
    listed = await cop.list_sessions(SERVICE)
    assert (listed.total, [one.user_id for one in listed.sessions]) == (2, ["dave", "alice"])


async def test_sessions_that_have_ended_are_not_listed_and_refreshed_ones_move_up(
    cop: TrafficCop, identities: Identities
) -> None:
    brief = await cop.create_session(SERVICE, "brief", ttl_seconds=1)
    renewed = await cop.create_session(SERVICE, "renewed", ttl_seconds=10)
    await cop.create_session(SERVICE, "steady", ttl_seconds=20)
    await cop.refresh_session(SERVICE, renewed.session_token, ttl_seconds=30)

    async def has_ended() -> bool:
        return await code_of(cop.validate_session(SERVICE, brief.session_token)) == "unauthenticated"

    await eventually(has_ended, "the brief one ends")
    listed = await cop.list_sessions(SERVICE)
    assert (listed.total, [one.user_id for one in listed.sessions]) == (2, ["renewed", "steady"])


# Who calls


async def test_a_token_tells_whose_it_is_and_what_it_may(cop: TrafficCop, identities: Identities) -> None:
    grants: dict[str, ChannelGrant] = {"guide": ["subscribe"]}
    created = await cop.create_session(SERVICE, "alice", ttl_seconds=60, channels=grants)
    session = await cop.get_caller_identity(await identities.identify(created.session_token))
    assert (session.kind, session.id, session.credential) == ("session", "alice", created.session_id)
    assert (session.channels, session.scopes, session.expires_at) == (grants, [], created.expires_at)
    made = await cop.create_service_token(OPERATOR, "content", ["traffic_cop.observe", "post_office.publish"])
    service = await cop.get_caller_identity(await identities.identify(made.token))
    assert (service.kind, service.id, service.credential) == ("service", "content", made.token_id)
    assert (service.scopes, service.expires_at) == (["post_office.publish", "traffic_cop.observe"], None)
    operator = await cop.get_caller_identity(OPERATOR)
    assert (operator.kind, operator.id, operator.scopes) == ("operator", "operator", list(SCOPES))


# Revocation


@pytest.fixture
async def heard(valkey: Valkey, tasks: Tasks) -> Any:
    """What comes over the bus of identities."""
    events: list[dict[str, Any]] = []
    bus = Subscriptions(valkey, tasks)
    await bus.start()
    await bus.listen(CHANNEL, lambda payload: events.append(json.loads(payload)))
    yield events
    await bus.close()


async def test_a_revoked_session_is_gone_and_everybody_hears_of_it(
    cop: TrafficCop, heard: list[dict[str, Any]]
) -> None:
    created, other = await cop.create_session(SERVICE, "alice"), await cop.create_session(SERVICE, "alice")
    assert (await cop.revoke_session(SERVICE, session_id=created.session_id)).revoked == 1
    await until(lambda: heard == [{"v": 1, "revoked": "session", "id": created.session_id}], "it was told")
    assert await code_of(cop.validate_session(SERVICE, created.session_token)) == "unauthenticated"
    assert await code_of(cop.validate_session(SERVICE, other.session_token)) == ""


async def test_a_revoked_user_has_no_session_and_everybody_hears_of_it(
    cop: TrafficCop, heard: list[dict[str, Any]]
) -> None:
    for _ in range(3):
        await cop.create_session(SERVICE, "alice")
    assert (await cop.revoke_session(SERVICE, user_id="alice")).revoked == 3
    await until(lambda: heard == [{"v": 1, "revoked": "user", "id": "alice"}], "it was told")
    assert (await cop.list_sessions(SERVICE, "alice")).total == 0


async def test_a_revoked_service_token_is_gone_and_everybody_hears_of_it(
    cop: TrafficCop, identities: Identities, heard: list[dict[str, Any]]
) -> None:
    created = await cop.create_service_token(OPERATOR, "content", [])
    assert (await cop.revoke_service_token(OPERATOR, created.token_id)).revoked == 1
    await until(lambda: heard == [{"v": 1, "revoked": "token", "id": created.token_id}], "it was told")
    with pytest.raises(Unauthenticated):
        await identities.identify(created.token)


async def test_a_revocation_that_failed_half_way_is_finished_by_calling_again(
    cop: TrafficCop, sessions: Sessions, service_tokens: ServiceTokens, heard: list[dict[str, Any]]
) -> None:
    session = await cop.create_session(SERVICE, "alice")
    token = await cop.create_service_token(OPERATOR, "content", [])
    await sessions.revoke(session.session_id)  # taken away, but whoever did it died before telling
    await service_tokens.revoke(token.token_id)
    assert (await cop.revoke_session(SERVICE, session_id=session.session_id)).revoked == 0
    assert (await cop.revoke_session(SERVICE, user_id="alice")).revoked == 0
    assert (await cop.revoke_service_token(OPERATOR, token.token_id)).revoked == 0
    await until(lambda: [event["revoked"] for event in heard] == ["session", "user", "token"], "all were told")


async def test_a_revocation_names_a_session_or_a_user(cop: TrafficCop) -> None:
    assert await field_of(cop.revoke_session(SERVICE)) == "session_id"
    assert await field_of(cop.revoke_session(SERVICE, session_id="x", user_id="alice")) == "session_id"


# Service tokens


async def test_a_service_token_is_shown_once(cop: TrafficCop) -> None:
    created = await cop.create_service_token(OPERATOR, "content", ["post_office.publish"], ttl_seconds=60)
    assert created.expires_at is not None
    assert seconds_until(created.expires_at) == pytest.approx(60, abs=5)
    listed = await cop.list_service_tokens(OPERATOR)
    assert [one.token_id for one in listed.tokens] == [created.token_id]
    assert created.token[4:] not in listed.model_dump_json()


async def test_service_tokens_are_listed_by_realm(cop: TrafficCop) -> None:
    for realm in ("content", "insights", "content"):
        await cop.create_service_token(OPERATOR, realm, [])
    realms = [one.realm for one in (await cop.list_service_tokens(OPERATOR, "content")).tokens]
    assert realms == ["content", "content"]
    assert len((await cop.list_service_tokens(OPERATOR)).tokens) == 3
    assert (await cop.list_service_tokens(OPERATOR, "unknown")).tokens == []


async def test_a_service_hands_on_only_scopes_that_it_has(cop: TrafficCop) -> None:
    created = await cop.create_service_token(SERVICE, "content", ["traffic_cop.sessions"])
    assert created.scopes == ["traffic_cop.sessions"]
    for scopes in (["post_office.admin"], ["traffic_cop.sessions", "nurse.observe"]):
        with pytest.raises(Forbidden):
            await cop.create_service_token(SERVICE, "content", scopes)


async def test_what_a_service_makes_does_not_outlive_its_own_token(cop: TrafficCop, identities: Identities) -> None:
    own = await cop.create_service_token(OPERATOR, "desk", ["traffic_cop.admin"], ttl_seconds=100)
    caller = await identities.identify(own.token)
    shorter = await cop.create_service_token(caller, "content", [], ttl_seconds=50)
    as_long = await cop.create_service_token(caller, "content", [])
    assert seconds_until(shorter.expires_at or "") == pytest.approx(50, abs=5)
    assert seconds_until(as_long.expires_at or "") == pytest.approx(100, abs=5)
    with pytest.raises(Forbidden):
        await cop.create_service_token(caller, "content", [], ttl_seconds=101)


async def test_the_operator_hands_on_any_scope(cop: TrafficCop) -> None:
    created = await cop.create_service_token(OPERATOR, "content", [*reversed(SCOPES), SCOPES[0]])
    assert created.scopes == list(SCOPES)


async def test_an_unknown_scope_and_a_reserved_realm_are_refused(cop: TrafficCop) -> None:
    assert await field_of(cop.create_service_token(OPERATOR, "content", ["post_office.everything"])) == "scopes"
    assert await field_of(cop.create_service_token(OPERATOR, "operator", [])) == "realm"
    assert (await cop.list_service_tokens(OPERATOR)).tokens == []


# Rates


async def test_looking_at_a_limit_spends_nothing(cop: TrafficCop, limits: Limits) -> None:
    burst = RATES["calls"].burst
    assert (await cop.check_rate_limit(SERVICE, "alice", "calls")).remaining == burst
    assert limits.bucket("alice", "calls").spend()
    standing = await cop.check_rate_limit(SERVICE, "alice", "calls")
    assert (standing.allowed, standing.remaining, standing.retry_after) == (True, burst - 1, 0)


async def test_who_has_spent_everything_is_told_when_to_return(cop: TrafficCop, limits: Limits) -> None:
    await limits.bucket("~content", "calls").refill(RATES["calls"].burst)
    standing = await cop.check_rate_limit(SERVICE, "~content", "calls")
    assert not standing.allowed
    assert standing.remaining == 0
    assert 0 < standing.retry_after <= 0.5


async def test_a_session_and_a_token_show_the_rates_they_were_given(cop: TrafficCop, identities: Identities) -> None:
    slow = OwnRate(per_second=0.5, burst=3)
    created = await cop.create_session(OPERATOR, "alice", rates={"messages": slow})
    shown = {"messages": ShownRate(per_second=0.5, burst=3)}
    assert (await cop.get_session(OPERATOR, created.session_id)).rates == shown
    assert [one.rates for one in (await cop.list_sessions(OPERATOR, "alice")).sessions] == [shown]
    renewed = await cop.refresh_session(OPERATOR, created.session_token)
    caller = await identities.identify(renewed.session_token)
    assert caller.rates == {"messages": Rate(0.5, 3)}
    assert (await cop.get_caller_identity(caller)).rates == shown
    token = await cop.create_service_token(OPERATOR, "content", [], rates={"calls": slow})
    assert [one.rates for one in (await cop.list_service_tokens(OPERATOR)).tokens] == [token.rates]
    assert token.rates == {"calls": ShownRate(per_second=0.5, burst=3)}
    assert (await identities.identify(token.token)).rates == {"calls": Rate(0.5, 3)}


async def test_without_rates_of_its_own_it_shows_none(cop: TrafficCop) -> None:
    created = await cop.create_session(OPERATOR, "alice")
    assert (await cop.get_session(OPERATOR, created.session_id)).rates is None


@pytest.mark.parametrize("rate", [(101.0, 1), (1.0, 201)])
async def test_nobody_is_given_more_than_everybody_has(cop: TrafficCop, rate: tuple[float, int]) -> None:
    rates: dict[Limited, OwnRate] = {"messages": OwnRate(per_second=rate[0], burst=rate[1])}
    assert await code_of(cop.create_session(OPERATOR, "alice", rates=rates)) == "forbidden"
    assert await code_of(cop.create_service_token(OPERATOR, "content", [], rates=rates)) == "forbidden"


async def test_who_has_rates_of_its_own_gives_no_more_and_those_if_none_are_named(
    cop: TrafficCop, identities: Identities
) -> None:
    scopes = ["traffic_cop.admin", "traffic_cop.sessions"]
    slow: dict[Limited, OwnRate] = {"messages": OwnRate(per_second=5, burst=10)}
    own = await cop.create_service_token(OPERATOR, "desk", scopes, rates=slow)
    caller = await identities.identify(own.token)
    assert (await cop.create_service_token(caller, "content", [])).rates == own.rates
    session = await cop.create_session(caller, "alice")
    assert (await cop.get_session(caller, session.session_id)).rates == own.rates
    slower: dict[Limited, OwnRate] = {
        "messages": OwnRate(per_second=1, burst=1),
        "calls": OwnRate(per_second=1, burst=1),
    }
    narrowed = await cop.create_service_token(caller, "content", [], rates=slower)
    assert narrowed.rates == {name: ShownRate(per_second=1, burst=1) for name in slower}
    faster: dict[Limited, OwnRate] = {"messages": OwnRate(per_second=5, burst=11)}
    assert await code_of(cop.create_service_token(caller, "content", [], rates=faster)) == "forbidden"
    assert await code_of(cop.create_session(caller, "alice", rates=faster)) == "forbidden"


async def test_a_grant_may_bound_what_is_sent(cop: TrafficCop, identities: Identities, limits: Limits) -> None:
    rated = RatedGrant(rights=["send"], rate=OwnRate(per_second=0.1, burst=3))
    created = await cop.create_session(OPERATOR, "alice", channels={"guide": ["send"], "pillar:*": rated})
    shown = await cop.get_session(OPERATOR, created.session_id)
    assert shown.channels == {"guide": ["send"], "pillar:*": ["send"]}
    assert shown.rates == {"channel.pillar:*": ShownRate(per_second=0.1, burst=3)}
    caller = await identities.identify(created.session_token)
    assert limits.sending(caller, "guide") is None
    for channel in ("pillar:content", "pillar:insights"):
        credit = limits.sending(caller, channel)
        assert credit is not None
        await credit.refill()
    standing = await cop.check_rate_limit(OPERATOR, created.session_id, "channel.pillar:*")
    assert standing.remaining == 1
    assert await code_of(cop.check_rate_limit(OPERATOR, created.session_id, "channel.guide")) == "not_found"


async def test_every_grant_that_covers_a_channel_bounds_it(
    cop: TrafficCop, identities: Identities, limits: Limits
) -> None:
    wide = RatedGrant(rights=["send"], rate=OwnRate(per_second=0.1, burst=9))
    narrow = RatedGrant(rights=["publish"], rate=OwnRate(per_second=0.1, burst=2))
    created = await cop.create_session(OPERATOR, "alice", channels={"*": wide, "guide": narrow})
    caller = await identities.identify(created.session_token)
    credit = limits.sending(caller, "guide")
    assert credit is not None
    await credit.refill(2)
    with pytest.raises(RateLimited) as refusal:
        await credit.refill()
    assert refusal.value.limit == "channel.guide"
    other = limits.sending(caller, "pillar:content")
    assert other is not None
    assert other.spend()


async def test_a_grant_gives_no_more_than_its_giver_may(cop: TrafficCop, identities: Identities) -> None:
    above = RatedGrant(rights=["send"], rate=OwnRate(per_second=101, burst=3))
    assert await code_of(cop.create_session(OPERATOR, "alice", channels={"guide": above})) == "forbidden"
    slow: dict[Limited, OwnRate] = {"messages": OwnRate(per_second=5, burst=10)}
    own = await cop.create_service_token(OPERATOR, "desk", ["traffic_cop.sessions"], rates=slow)
    caller = await identities.identify(own.token)
    faster = RatedGrant(rights=["send"], rate=OwnRate(per_second=6, burst=1))
    assert await code_of(cop.create_session(caller, "alice", channels={"guide": faster})) == "forbidden"


async def test_a_rate_that_would_bound_nothing_is_refused(cop: TrafficCop) -> None:
    reading = RatedGrant(rights=["subscribe"], rate=OwnRate(per_second=1, burst=1))
    refused = cop.create_session(OPERATOR, "alice", channels={"guide": reading})
    assert await field_of(refused) == "channels.guide"


async def test_every_limit_can_be_looked_at(cop: TrafficCop, limits: Limits, identities: Identities) -> None:
    slow = OwnRate(per_second=0.1, burst=3)
    created = await cop.create_session(OPERATOR, "alice", rates={"messages": slow})
    token = await cop.create_service_token(OPERATOR, "content", [], rates={"calls": slow})
    limits.hold({"post_office.search": Rate(1, 7)})
    await limits.credit(await identities.identify(created.session_token), "messages").refill(2)

    async def remaining(subject: str, limit: str) -> int:
        return (await cop.check_rate_limit(OPERATOR, subject, limit)).remaining

    assert await remaining(created.session_id, "session.messages") == 1
    assert await remaining("alice", "messages") == 198
    assert await remaining(created.session_id, "session.calls") == 20  # its user's: it has none of its own
    assert await remaining(token.token_id, "token.calls") == 3
    assert await remaining(token.token_id, "token.messages") == 200
    assert await remaining("alice", "post_office.search") == 7
    assert await code_of(cop.check_rate_limit(OPERATOR, "alice", "post_office.list_channels")) == "not_found"
    assert await code_of(cop.check_rate_limit(OPERATOR, "alice", "session.nonsense")) == "not_found"
    for limit in ("session.messages", "token.calls", "address.failures"):
        assert await code_of(cop.check_rate_limit(OPERATOR, "nobody", limit)) == "not_found"


async def test_a_session_of_an_older_release_has_no_rates_of_its_own(
    cop: TrafficCop, valkey: Valkey, identities: Identities
) -> None:
    created = await cop.create_session(OPERATOR, "alice")
    [key] = await keys_in(valkey, "token:*")
    kept = json.loads(await valkey.command("GET", key))
    del kept["rates"]
    await valkey.command("SET", key, json.dumps(kept))
    assert (await identities.identify(created.session_token)).rates == {}


# Valkey away


async def test_while_valkey_is_away_everything_is_unavailable() -> None:
    with ValkeyServer(appendonly="no") as server:
        valkey = await Valkey.connect(server.url)
        sessions, service_tokens = Sessions(valkey), ServiceTokens(valkey)
        cop = TrafficCop(valkey, sessions, service_tokens, Limits(valkey, users=RATES, services=RATES))
        server.kill()
        calls: list[Awaitable[Result]] = [
            cop.create_session(SERVICE, "alice"), cop.validate_session(SERVICE, "ses_7f" + "a" * 43),
            cop.get_session(SERVICE, "7f" + "a" * 22), cop.refresh_session(SERVICE, "ses_7f" + "a" * 43),
            cop.revoke_session(SERVICE, user_id="alice"), cop.list_sessions(SERVICE, "alice"),
            cop.list_sessions(SERVICE), cop.create_service_token(OPERATOR, "content", []),
            cop.list_service_tokens(OPERATOR),
            cop.revoke_service_token(OPERATOR, "x"), cop.check_rate_limit(SERVICE, "alice", "calls"),
        ]  # fmt: skip
        assert set(await asyncio.gather(*map(code_of, calls))) == {"unavailable"}
        await valkey.close()
