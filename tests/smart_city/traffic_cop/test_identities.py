"""Who stands behind a token, with Valkey there and away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import monotonic

import pytest

from foundations.errors import Unauthenticated, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from smart_city.traffic_cop.attempts import Attempts
from smart_city.traffic_cop.identities import OPERATOR_IDENTITY, Identities
from smart_city.traffic_cop.limits import Limits
from smart_city.traffic_cop.revocations import CHANNEL, Revocation
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Issued, Sessions
from smart_city.vocabulary import SCOPES
from tests.smart_city.traffic_cop.conftest import ADDRESSES, OPERATOR_TOKEN, RATES, CreateSession
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until


async def outcome(identities: Identities, token: str) -> str:
    """The subject behind a token, or the code of the refusal."""
    try:
        return (await identities.admit(token)).subject
    except (Unauthenticated, Unavailable) as refusal:
        return refusal.code


async def has_outcome(identities: Identities, token: str, wanted: str) -> bool:
    return await outcome(identities, token) == wanted


class Town:
    """Identities on a Valkey of their own, which can be killed."""

    def __init__(self, server: ValkeyServer, valkey: Valkey) -> None:
        self.server = server
        self.sessions = Sessions(valkey)
        self.service_tokens = ServiceTokens(valkey)
        self.limits = Limits(valkey, users=RATES, services=RATES, addresses=ADDRESSES)
        self.identities = self.seen_for(60.0)

    def seen_for(self, seconds: float, size: int = 100) -> Identities:
        return Identities(
            self.sessions,
            self.service_tokens,
            Attempts(self.limits),
            operator_token=OPERATOR_TOKEN,
            cache_seconds=seconds,
            cache_size=size,
        )

    async def session(self, user_id: str = "alice", lifetime: float = 60.0) -> Issued:
        return await self.sessions.create(user_id, session_type="user", context={}, grants=(), lifetime=lifetime)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    with ValkeyServer(appendonly="no") as server:
        valkey = await Valkey.connect(server.url, timeout=0.5)
        yield Town(server, valkey)
        await valkey.close()


# With Valkey there


async def test_each_kind_of_token_opens_its_caller(
    identities: Identities, create: CreateSession, service_tokens: ServiceTokens
) -> None:
    token, session = await create("alice")
    service, _ = await service_tokens.create("content", ["post_office.publish"], None)
    assert await identities.identify(token) == session.identity()
    assert (await identities.identify(service)).subject == "~content"
    assert await identities.admit(token) == session.identity()
    assert await identities.admit(await identities.ticket_for(token)) == session.identity()


async def test_the_operators_token_opens_everything(identities: Identities) -> None:
    operator = await identities.identify(OPERATOR_TOKEN)
    assert (operator.kind, operator.subject, operator.credential) == ("operator", "~operator", "operator")
    assert operator.scopes == set(SCOPES)
    assert operator.expires_at == 0


async def test_without_an_operators_token_there_is_no_operator(
    sessions: Sessions, service_tokens: ServiceTokens, limits: Limits
) -> None:
    identities = Identities(sessions, service_tokens, Attempts(limits), operator_token="")
    for token in ("", OPERATOR_TOKEN):
        assert await outcome(identities, token) == "unauthenticated"


@pytest.mark.parametrize(
    "token",
    ["", "x", "Bearer", OPERATOR_TOKEN + "x", OPERATOR_TOKEN[:-1], "ses_7f" + "a" * 43, "tkt_7f" + "a" * 43,
     "svc_" + "a" * 43, "ses_" + "ä" * 45, "\ud800", "a" * 100_000],
)  # fmt: skip
async def test_any_other_text_opens_nothing(identities: Identities, token: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        await identities.identify(token)
    assert refusal.value.close_code == 4501


async def test_a_revocation_holds_at_once_without_any_event(
    identities: Identities, create: CreateSession, sessions: Sessions
) -> None:
    token, session = await create()
    await identities.identify(token)
    await sessions.revoke(session.session_id)
    assert await outcome(identities, token) == "unauthenticated"


async def test_a_ticket_opens_once(identities: Identities, create: CreateSession) -> None:
    ticket = await identities.ticket_for((await create()).token)
    assert [await outcome(identities, ticket) for _ in range(2)] == ["alice", "unauthenticated"]


async def test_a_ticket_is_no_token_for_calls(identities: Identities, create: CreateSession) -> None:
    ticket = await identities.ticket_for((await create()).token)
    with pytest.raises(Unauthenticated):
        await identities.identify(ticket)
    assert await outcome(identities, ticket) == "alice"


async def test_only_a_sessions_token_is_exchanged_for_a_ticket(
    identities: Identities, create: CreateSession, service_tokens: ServiceTokens
) -> None:
    token, _ = await create()
    service, _ = await service_tokens.create("content", [], None)
    for text in (await identities.ticket_for(token), service, OPERATOR_TOKEN, "", "ses_7f" + "a" * 43):
        with pytest.raises(Unauthenticated):
            await identities.ticket_for(text)


async def test_who_may_have_missed_revocations_learns_who_still_stands(
    identities: Identities, create: CreateSession, sessions: Sessions, service_tokens: ServiceTokens
) -> None:
    (gone, gone_session), (stays, _) = await create("alice"), await create("bob")
    gone_service, gone_token = await service_tokens.create("content", [], None)
    stays_service, _ = await service_tokens.create("content", [], None)
    texts = [gone, stays, gone_service, stays_service, OPERATOR_TOKEN]
    callers = [await identities.identify(text) for text in texts]
    assert await identities.still_valid(callers) == [True] * 5
    await sessions.revoke(gone_session.session_id)
    await service_tokens.revoke(gone_token.token_id)
    assert await identities.still_valid(callers) == [False, True, False, True, True]
    assert await identities.still_valid([]) == []


async def test_a_token_that_ended_does_not_stand_although_its_session_does(
    identities: Identities, create: CreateSession, sessions: Sessions
) -> None:
    token, session = await create(lifetime=0.1)
    caller = await identities.identify(token)
    await sessions.refresh(session, 60)

    async def has_ended() -> bool:
        return await identities.still_valid([caller]) == [False]

    await eventually(has_ended, "it has ended")
    assert await sessions.standing([session.session_id]) == {session.session_id}


# With Valkey away


async def test_who_was_seen_lately_passes_while_valkey_is_away(town: Town) -> None:
    session, (service, _) = await town.session(), await town.service_tokens.create("content", [], None)
    unseen = await town.session()
    for token in (session.token, service):
        await town.identities.identify(token)
    town.server.kill()
    assert await outcome(town.identities, session.token) == "alice"
    assert await outcome(town.identities, service) == "~content"
    assert await outcome(town.identities, OPERATOR_TOKEN) == "~operator"
    assert await outcome(town.identities, unseen.token) == "unavailable"
    assert await outcome(town.identities, "ses_nonsense") == "unauthenticated"
    with pytest.raises(Unavailable):
        await town.identities.still_valid([session.session.identity()])


async def test_who_was_seen_lately_passes_while_valkey_hangs(town: Town) -> None:
    token = (await town.session()).token
    await town.identities.identify(token)
    town.server.hang()
    assert await outcome(town.identities, token) == "alice"
    town.server.resume()


async def test_a_ticket_is_not_remembered(town: Town) -> None:
    ticket = await town.identities.ticket_for((await town.session()).token)
    assert await outcome(town.identities, ticket) == "alice"
    town.server.kill()
    assert await outcome(town.identities, ticket) == "unavailable"


async def test_who_was_seen_too_long_ago_does_not_pass(town: Town) -> None:
    identities, token = town.seen_for(0.2), (await town.session()).token
    await identities.identify(token)
    town.server.kill()
    assert await outcome(identities, token) == "alice"
    await eventually(lambda: has_outcome(identities, token, "unavailable"), "it is unavailable")


async def test_whose_token_ends_meanwhile_does_not_pass(town: Town) -> None:
    token = (await town.session(lifetime=0.2)).token
    await town.identities.identify(token)
    town.server.kill()
    await eventually(lambda: has_outcome(town.identities, token, "unavailable"), "it is unavailable")


async def test_whom_valkey_has_denied_is_not_remembered(town: Town) -> None:
    token, session = await town.session()
    await town.identities.identify(token)
    await town.sessions.revoke(session.session_id)
    assert await outcome(town.identities, token) == "unauthenticated"
    town.server.kill()
    assert await outcome(town.identities, token) == "unavailable"


@pytest.mark.parametrize("revoked", ["session", "user", "token"])
async def test_whose_revocation_was_heard_does_not_pass(town: Town, revoked: str) -> None:
    token, session = await town.session()
    service, kept = await town.service_tokens.create("content", [], None)
    other = (await town.session("bob")).token
    for text in (token, service, other):
        await town.identities.identify(text)
    named = {"session": session.session_id, "user": "alice", "token": kept.token_id}[revoked]
    town.identities.forget(f'{{"v":1,"revoked":"{revoked}","id":"{named}"}}'.encode())
    town.server.kill()
    passes = ["alice", "~content", "bob"]
    passes[1 if revoked == "token" else 0] = "unavailable"
    assert [await outcome(town.identities, text) for text in (token, service, other)] == passes


async def test_who_comes_back_after_all_of_a_users_sessions_were_revoked_passes(town: Town) -> None:
    town.identities.forget(b'{"v":1,"revoked":"user","id":"alice"}')
    token = (await town.session()).token
    await town.identities.identify(token)
    town.server.kill()
    assert await outcome(town.identities, token) == "alice"


async def test_no_more_than_so_many_are_remembered(town: Town) -> None:
    identities = town.seen_for(60, size=2)
    tokens = [(await town.session()).token for _ in range(3)]
    for token in (tokens[0], tokens[1], tokens[0], tokens[2]):
        await identities.identify(token)
    town.server.kill()
    assert [await outcome(identities, token) for token in tokens] == ["alice", "unavailable", "alice"]


async def test_when_too_many_revocations_are_heard_nobody_passes_who_was_seen_before(town: Town) -> None:
    identities, token = town.seen_for(60, size=2), (await town.session()).token
    await identities.identify(token)
    for number in range(3):
        identities.forget(f'{{"v":1,"revoked":"session","id":"other{number}"}}'.encode())
    town.server.kill()
    assert await outcome(identities, token) == "unavailable"


# On the bus


async def test_a_revocation_is_heard_by_every_instance(
    identities: Identities, create: CreateSession, valkey: Valkey, tasks: Tasks
) -> None:
    began = monotonic()
    caller = await identities.identify((await create()).token)
    bus = Subscriptions(valkey, tasks)
    await bus.start()
    await bus.listen(CHANNEL, identities.forget)
    assert not identities.revoked_since(caller, began)
    await Revocation("session", caller.credential).publish(valkey)
    await until(lambda: identities.revoked_since(caller, began), "the revocation was heard")
    assert not identities.revoked_since(caller, monotonic() + 1)
    assert not identities.revoked_since(OPERATOR_IDENTITY, began)
    await bus.close()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"nonsense",
        b"[]",
        b"{}",
        b'{"v":2,"revoked":"city","id":"x"}',
        b'{"v":1,"revoked":"user"}',
        b"\xff",
    ],
)
async def test_an_event_that_is_not_understood_revokes_nobody(
    identities: Identities, create: CreateSession, payload: bytes
) -> None:
    began = monotonic()
    caller = await identities.identify((await create()).token)
    identities.forget(payload)
    assert not identities.revoked_since(caller, began)
