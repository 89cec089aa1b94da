"""What is remembered of identities and revocations, and for how long."""

from __future__ import annotations

from time import monotonic

from smart_city.traffic_cop.memory import Memory
from smart_city.traffic_cop.revocations import Revocation
from smart_city.vocabulary import Identity
from tests.support.waiting import until

ALICE = Identity(kind="session", subject="alice", credential="s1")


def test_who_was_seen_is_recalled_until_dropped() -> None:
    memory = Memory(seconds=60, size=10)
    assert memory.recall("digest") is None
    memory.remember("digest", ALICE, monotonic())
    assert memory.recall("digest") is ALICE
    memory.drop("digest")
    assert memory.recall("digest") is None


def test_an_answer_that_was_asked_for_before_a_revocation_does_not_outlive_it() -> None:
    memory, asked_at = Memory(seconds=60, size=10), monotonic()
    memory.revoke(Revocation("session", "s1"))
    memory.remember("digest", ALICE, asked_at)  # the answer was under way when the revocation was heard
    assert memory.recall("digest") is None


def test_what_is_revoked_again_counts_from_the_last_time() -> None:
    memory = Memory(seconds=60, size=2)
    memory.revoke(Revocation("user", "alice"))
    memory.revoke(Revocation("user", "bob"))
    memory.revoke(Revocation("user", "alice"))
    memory.revoke(Revocation("user", "carol"))  # bob's is the oldest and makes room
    assert memory.revoked_since(ALICE, 0)


async def test_revocations_make_room_once_they_are_older_than_anybody_seen() -> None:
    memory, began = Memory(seconds=0.2, size=2), monotonic()
    memory.revoke(Revocation("session", "other1"))
    memory.revoke(Revocation("session", "other2"))
    await until(lambda: monotonic() > began + 0.25, "both are old")
    memory.remember("digest", ALICE, monotonic())
    memory.revoke(Revocation("session", "other3"))
    assert memory.recall("digest") is ALICE
