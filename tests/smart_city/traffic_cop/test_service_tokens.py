"""The store of service tokens."""

from __future__ import annotations

import contextlib

import pytest

from foundations.errors import Overloaded, Unauthenticated
from foundations.valkey import Valkey
from smart_city.traffic_cop import service_tokens as module
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.tokens import Token, read_token
from tests.support.valkey import keys_in
from tests.support.waiting import eventually


def token_of(text: str) -> Token:
    token = read_token(text)
    assert token is not None
    return token


async def test_a_token_opens_its_realm_with_its_scopes(service_tokens: ServiceTokens) -> None:
    text, made = await service_tokens.create("content", ["post_office.publish"], None)
    identity = (await service_tokens.by_token(token_of(text))).identity()
    assert (identity.kind, identity.subject, identity.realm) == ("service", "~content", "content")
    assert identity.scopes == {"post_office.publish"}
    assert (identity.credential, identity.expires_at) == (made.token_id, 0)


async def test_only_its_digest_is_kept(service_tokens: ServiceTokens, valkey: Valkey) -> None:
    text, _ = await service_tokens.create("content", [], None)
    for key in await keys_in(valkey):
        assert text[4:].encode() not in key + await valkey.command("DUMP", key)


async def test_a_token_without_a_time_lives_on(service_tokens: ServiceTokens, valkey: Valkey) -> None:
    await service_tokens.create("content", [], None)
    for key in await keys_in(valkey):
        assert await valkey.command("PTTL", key) == -1


async def test_a_token_with_a_time_ends_with_it_and_is_listed_no_more(service_tokens: ServiceTokens) -> None:
    text, made = await service_tokens.create("content", [], 0.05)
    assert made.expires_at > 0

    async def has_ended() -> bool:
        with contextlib.suppress(Unauthenticated):
            await service_tokens.by_token(token_of(text))
            return False
        return await service_tokens.list() == []

    await eventually(has_ended, "it has ended")
    assert await service_tokens.standing([made.token_id]) == set()


async def test_no_time_at_all_is_not_for_ever(service_tokens: ServiceTokens) -> None:
    for lifetime in (0.0, 0.0001, -7.0):
        await service_tokens.create("content", [], lifetime)

    async def have_ended() -> bool:
        return await service_tokens.list() == []

    await eventually(have_ended, "they have ended")


async def test_a_revoked_token_is_gone(service_tokens: ServiceTokens, valkey: Valkey) -> None:
    text, made = await service_tokens.create("content", [], 60)
    assert await service_tokens.revoke(made.token_id)
    with pytest.raises(Unauthenticated):
        await service_tokens.by_token(token_of(text))
    assert await service_tokens.list() == []
    assert await keys_in(valkey) == []
    assert not await service_tokens.revoke(made.token_id)


async def test_tokens_are_listed_by_realm_the_oldest_first(service_tokens: ServiceTokens) -> None:
    made = [(await service_tokens.create(realm, [], None))[1] for realm in ("b", "a", "b")]
    assert await service_tokens.list() == [made[1], made[0], made[2]]


async def test_of_many_tokens_those_that_stand_are_told(service_tokens: ServiceTokens) -> None:
    made = [(await service_tokens.create("a", [], None))[1].token_id for _ in range(3)]
    await service_tokens.revoke(made[0])
    assert await service_tokens.standing([*made, "unknown", made[1]]) == {made[1], made[2]}
    assert await service_tokens.standing([]) == set()


async def test_there_are_so_many_tokens(service_tokens: ServiceTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_SERVICE_TOKENS", 1)
    _, made = await service_tokens.create("a", [], None)
    with pytest.raises(Overloaded):
        await service_tokens.create("a", [], None)
    await service_tokens.revoke(made.token_id)
    await service_tokens.create("a", [], None)
