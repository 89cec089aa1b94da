"""The store of sessions."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

import msgspec
import pytest

from foundations.errors import InvalidArgument, Overloaded, Unauthenticated
from foundations.valkey import Valkey
from smart_city.traffic_cop import sessions as module
from smart_city.traffic_cop.grants import DEFAULT_GRANTS
from smart_city.traffic_cop.sessions import MAX_CONTEXT_BYTES, Sessions
from smart_city.traffic_cop.tokens import Token, read_token
from tests.smart_city.traffic_cop.conftest import CreateSession
from tests.support.valkey import keys_in
from tests.support.waiting import eventually


def token_of(text: str) -> Token:
    token = read_token(text)
    assert token is not None
    return token


async def opens(sessions: Sessions, text: str) -> bool:
    try:
        await sessions.by_token(token_of(text))
    except Unauthenticated:
        return False
    return True


async def all_keys(valkey: Valkey) -> set[bytes]:
    return set(await keys_in(valkey))


def key_of(valkey: Valkey, text: str) -> str:
    token = token_of(text)
    return valkey.key(f"token:{{{token.shard}}}:{token.digest}")


async def ends(sessions: Sessions, text: str) -> None:
    """Waits until a token opens nothing any more."""

    async def has_ended() -> bool:
        return not await opens(sessions, text)

    await eventually(has_ended, "it has ended")


async def test_a_token_opens_the_session_as_it_was_made(sessions: Sessions) -> None:
    token, made = await sessions.create(
        "alice", session_type="web", context={"tenant": {"id": 7}}, grants=DEFAULT_GRANTS, lifetime=60
    )
    found = await sessions.by_token(token_of(token))
    assert found == made
    assert (found.user_id, found.session_type, found.context) == ("alice", "web", {"tenant": {"id": 7}})
    assert found.grants == DEFAULT_GRANTS
    assert found.expires_at == pytest.approx(time.time() + 60, abs=5)


async def test_the_identity_of_a_session_is_its_users(create: CreateSession) -> None:
    _, session = await create("alice")
    identity = session.identity()
    assert (identity.kind, identity.subject, identity.scopes) == ("session", "alice", frozenset())
    assert (identity.credential, identity.expires_at) == (session.session_id, session.expires_at)


async def test_no_token_is_kept_only_digests(create: CreateSession, sessions: Sessions, valkey: Valkey) -> None:
    token, session = await create()
    ticket = await sessions.ticket(session)
    kept = b"".join([key + await valkey.command("DUMP", key) for key in await all_keys(valkey)])
    for secret in (token, ticket):
        assert secret[6:].encode() not in kept


async def test_all_keys_of_a_user_are_in_one_slot_and_end_by_themselves(
    create: CreateSession, sessions: Sessions, valkey: Valkey
) -> None:
    for _ in range(3):
        _, session = await create("alice")
        await sessions.refresh(session, 30)
        await sessions.ticket(session)
    keys = await all_keys(valkey)
    assert len({await valkey.command("CLUSTER", "KEYSLOT", key) for key in keys}) == 1
    assert all([0 < await valkey.command("PTTL", key) <= 60_000 for key in keys])


async def test_a_session_ends_with_its_time(create: CreateSession, sessions: Sessions, valkey: Valkey) -> None:
    token, session = await create(lifetime=0.05)
    await ends(sessions, token)
    assert await sessions.by_id(session.session_id) is None
    assert (await sessions.of_user("alice", 10)) == (0, [])
    assert await all_keys(valkey) == set()


async def test_a_refreshed_session_has_two_tokens_that_each_live_to_their_own_end(
    create: CreateSession, sessions: Sessions
) -> None:
    old, session = await create(lifetime=0.2)
    new, renewed = await sessions.refresh(session, 60)
    assert renewed.session_id == session.session_id
    assert (await sessions.by_token(token_of(old))).expires_at == session.expires_at
    await ends(sessions, old)
    assert (await sessions.by_token(token_of(new))).expires_at == renewed.expires_at
    assert await sessions.by_id(session.session_id) == renewed
    assert (await sessions.of_user("alice", 10)) == (1, [renewed])


async def test_a_shorter_refresh_does_not_shorten_the_session(create: CreateSession, sessions: Sessions) -> None:
    old, session = await create(lifetime=60)
    new, _ = await sessions.refresh(session, 0.05)
    await ends(sessions, new)
    assert await opens(sessions, old)
    assert await sessions.by_id(session.session_id) == session
    assert await sessions.of_user("alice", 10) == (1, [session])
    assert await sessions.revoke_user("alice") == 1


async def test_a_session_that_has_ended_is_not_refreshed(create: CreateSession, sessions: Sessions) -> None:
    _, session = await create()
    await sessions.revoke(session.session_id)
    with pytest.raises(Unauthenticated):
        await sessions.refresh(session, 60)
    with pytest.raises(Unauthenticated):
        await sessions.ticket(session)


async def test_a_session_has_so_many_tokens_at_a_time(
    create: CreateSession, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_TOKENS", 3)
    _, session = await create()
    await sessions.refresh(session, 0.3)
    await sessions.refresh(session, 60)
    with pytest.raises(Overloaded) as refusal:
        await sessions.refresh(session, 60)
    assert refusal.value.retry_after is not None
    assert 0 < refusal.value.retry_after <= 0.3

    async def has_room() -> bool:
        with contextlib.suppress(Overloaded):
            await sessions.refresh(session, 60)
            return True
        return False

    await eventually(has_room, "there is room")


async def test_a_user_has_so_many_sessions_at_a_time(
    create: CreateSession, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_SESSIONS", 2)
    _, first = await create("alice")
    await create("alice")
    with pytest.raises(Overloaded):
        await create("alice")
    await create("bob")
    await sessions.revoke(first.session_id)
    await create("alice")


async def test_a_ticket_opens_its_session_once(create: CreateSession, sessions: Sessions) -> None:
    _, session = await create()
    ticket = await sessions.ticket(session)
    assert await sessions.by_token(token_of(ticket)) == session
    assert not await opens(sessions, ticket)


async def test_of_many_who_come_with_one_ticket_one_comes_in(create: CreateSession, sessions: Sessions) -> None:
    ticket = await sessions.ticket((await create()).session)
    assert sum(await asyncio.gather(*(opens(sessions, ticket) for _ in range(20)))) == 1


async def test_a_ticket_ends_with_its_time(valkey: Valkey, create: CreateSession) -> None:
    sessions = Sessions(valkey, ticket_seconds=0.05)
    _, session = await create()
    ticket = await sessions.ticket(session)

    async def has_ended() -> bool:
        return not await valkey.command("EXISTS", key_of(valkey, ticket))

    await eventually(has_ended, "it has ended")
    assert not await opens(sessions, ticket)
    assert await sessions.by_id(session.session_id) == session


async def test_a_ticket_never_outlives_what_it_was_made_from(
    create: CreateSession, sessions: Sessions, valkey: Valkey
) -> None:
    _, session = await create(lifetime=2)
    ticket = await sessions.ticket(session)
    assert 0 < await valkey.command("PTTL", key_of(valkey, ticket)) <= 2000
    with pytest.raises(Unauthenticated):
        await sessions.ticket(msgspec.structs.replace(session, expires_at=1.0))


async def test_a_revoked_session_is_gone_with_all_its_tokens_and_tickets(
    create: CreateSession, sessions: Sessions, valkey: Valkey
) -> None:
    token, session = await create()
    texts = [token, (await sessions.refresh(session, 60)).token, await sessions.ticket(session)]
    assert await sessions.revoke(session.session_id) == 1
    assert [await opens(sessions, text) for text in texts] == [False, False, False]
    assert await all_keys(valkey) == set()
    assert await sessions.revoke(session.session_id) == 0


async def test_revoking_one_session_leaves_the_users_others(create: CreateSession, sessions: Sessions) -> None:
    _, one = await create("alice")
    other, _ = await create("alice")
    await sessions.revoke(one.session_id)
    assert await opens(sessions, other)
    assert (await sessions.of_user("alice", 10)).total == 1


async def test_revoking_a_user_ends_all_the_users_sessions_and_nobody_elses(
    create: CreateSession, sessions: Sessions, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REVOKED_AT_ONCE", 7)
    made = await asyncio.gather(*(create("alice") for _ in range(30)))
    bobs, _ = await create("bob")
    assert await sessions.revoke_user("alice") == 30
    assert not any(await asyncio.gather(*(opens(sessions, token) for token, _ in made)))
    assert await opens(sessions, bobs)
    assert await sessions.revoke_user("alice") == 0
    assert len(await all_keys(valkey)) == 5


async def test_no_token_survives_a_refresh_that_races_with_a_revocation(
    create: CreateSession, sessions: Sessions
) -> None:
    for _ in range(20):
        _, session = await create()
        outcomes = await asyncio.gather(
            sessions.refresh(session, 60), sessions.revoke(session.session_id), sessions.refresh(session, 60),
            return_exceptions=True,
        )  # fmt: skip
        for outcome in outcomes:
            if isinstance(outcome, module.Issued):
                assert not await opens(sessions, outcome.token)
            else:
                assert isinstance(outcome, int | Unauthenticated)


async def test_sessions_are_listed_by_their_end_and_all_are_counted(create: CreateSession, sessions: Sessions) -> None:
    made = [(await create("alice", lifetime)).session for lifetime in (30, 90, 60)]
    await create("bob")
    total, listed = await sessions.of_user("alice", 2)
    assert total == 3
    assert listed == [made[1], made[2]]


async def test_a_session_that_has_ended_is_not_counted(create: CreateSession, sessions: Sessions) -> None:
    _, stays = await create("alice", 60)
    ended, _ = await create("alice", 0.05)
    await ends(sessions, ended)
    assert await sessions.of_user("alice", 10) == (1, [stays])


@pytest.mark.parametrize("session_id", ["", "nonsense", "7f" + "a" * 22, "{}" * 12])
async def test_an_unknown_id_names_no_session(sessions: Sessions, session_id: str) -> None:
    assert await sessions.by_id(session_id) is None
    assert await sessions.revoke(session_id) == 0
    assert await sessions.standing([session_id]) == set()


async def test_of_many_sessions_those_that_stand_are_told(
    create: CreateSession, sessions: Sessions, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [session.session_id for _, session in [await create(f"user{number}") for number in range(20)]]
    for session_id in made[:5]:
        await sessions.revoke(session_id)
    assert await sessions.standing([*made, *made]) == set(made[5:])


@pytest.mark.parametrize(
    "context",
    [{"x": "y" * MAX_CONTEXT_BYTES}, {"x": 10**5000}, {"x": "\ud800"}, {"x": object()}],
    ids=["too big", "a number without end", "half a character", "no JSON"],
)
async def test_a_context_that_cannot_be_kept_is_refused(sessions: Sessions, context: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        await sessions.create("alice", session_type="user", context=context, grants=(), lifetime=60)
    assert [error.field for error in refusal.value.errors] == ["context"]
