"""The texts of tokens and what is kept of them."""

from __future__ import annotations

import hashlib

import pytest

from smart_city.traffic_cop.tokens import (
    Token,
    digest,
    new_session_id,
    new_token,
    read_token,
    shard_of_session,
    shard_of_user,
)


def test_a_session_token_names_its_shard_and_256_random_bits() -> None:
    text = new_token("ses", "7f")
    assert text.startswith("ses_7f")
    assert len(text.removeprefix("ses_7f")) == 43  # base64url of 32 bytes
    assert text != new_token("ses", "7f")


@pytest.mark.parametrize(
    ("kind", "shard"), [("ses", "00"), ("tkt", "fe"), ("svc", "")], ids=["session", "ticket", "service"]
)
def test_a_token_that_was_made_can_be_read(kind: str, shard: str) -> None:
    text = new_token(kind, shard)  # type: ignore[arg-type]
    assert read_token(text) == Token(kind, shard, hashlib.sha256(text.encode()).hexdigest())  # type: ignore[arg-type]


def test_a_token_as_it_is_kept_does_not_contain_its_text() -> None:
    text = new_token("ses", "7f")
    assert text[6:] not in repr(read_token(text))


@pytest.mark.parametrize(
    "text",
    [
        "", "ses_", "x", "ses_7f", "ses_7f" + "a" * 42, "ses_7f" + "a" * 44, "ses_7F" + "a" * 43,
        "ses_" + "a" * 43 + "=}", "svc_" + "a" * 42, "tkt_zz" + "a" * 43, "abc_7f" + "a" * 43,
        "ses_7f" + "ä" * 43, "ses_7f" + "a" * 43 + "\n", " ses_7f" + "a" * 43, "ses_7f" + "{" * 43,
        "\ud800" * 49,
    ],
)  # fmt: skip
def test_what_cannot_be_a_token_is_none(text: str) -> None:
    assert read_token(text) is None


def test_all_sessions_of_a_user_are_in_the_users_shard() -> None:
    shard = shard_of_user("alice")
    assert shard_of_session(new_session_id(shard)) == shard


def test_users_are_spread_over_256_shards() -> None:
    assert len({shard_of_user(f"user{number}") for number in range(5000)}) == 256


@pytest.mark.parametrize(
    "session_id", ["", "7f", "zz" + "a" * 22, "7f" + "a" * 21, "7f" + "a" * 22 + "\n", "7f}{" + "a" * 20]
)
def test_what_cannot_be_a_session_id_has_no_shard(session_id: str) -> None:
    assert shard_of_session(session_id) is None


def test_the_digest_is_sha_256() -> None:
    assert digest("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
