"""The shared words: positions as text, grants and what they cover, and in whose name a caller acts."""

from __future__ import annotations

import pytest

from foundations.errors import Forbidden, UnknownChannel
from smart_city.post_office.channels import Channels
from smart_city.vocabulary import Grant, Identity, Position

CHANNELS = Channels(("content", "insights"))
ALICE = Identity(
    kind="session", subject="alice", credential="s1",
    grants=(Grant("guide", frozenset({"subscribe", "send"})), Grant("pillar:*", frozenset({"history"}))),
)  # fmt: skip
SERVICE = Identity(kind="service", subject="~content", credential="t1", scopes=frozenset({"post_office.publish"}))
OPERATOR = Identity(kind="operator", subject="~operator", credential="operator")


@pytest.mark.parametrize(
    ("text", "position"), [("41.k3f9", Position(41, "k3f9")), ("0", Position(0)), ("7.", Position(7))]
)
def test_a_position_is_read_from_its_text(text: str, position: Position) -> None:
    assert Position.parse(text) == position


@pytest.mark.parametrize("text", ["", "x", "-1", "1.2.3", "1.k-f", "41\n", "1" * 17, " 1", "1.é"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        Position.parse(text)


def test_a_position_is_written_as_it_is_read() -> None:
    assert str(Position(41, "k3f9")) == "41.k3f9"
    assert str(Position(41)) == "41"


def test_a_grant_covers_its_channel_or_all_that_begin_like_its_pattern() -> None:
    assert Grant("guide", frozenset()).covers("guide")
    assert not Grant("guide", frozenset()).covers("guidebook")
    assert Grant("pillar:*", frozenset()).covers("pillar:content")
    assert not Grant("pillar:*", frozenset()).covers("guide")


def test_who_may_do_what() -> None:
    assert ALICE.may("send", "guide")
    assert not ALICE.may("publish", "guide")
    assert ALICE.may("history", "pillar:content")
    assert SERVICE.may("publish", "guide")
    assert not SERVICE.may("subscribe", "guide")
    assert not SERVICE.may("send", "guide")
    assert OPERATOR.may("publish", "guide")


def test_a_service_acts_as_itself_and_the_operator_as_anybody() -> None:
    assert SERVICE.acting_as(None) == "content"
    assert SERVICE.acting_as("content") == "content"
    assert OPERATOR.acting_as("content") == "content"
    assert OPERATOR.acting_as(None) == "operator"
    with pytest.raises(Forbidden):
        SERVICE.acting_as("insights")


@pytest.mark.parametrize("name", ["guide", "pillar:content", "user:alice", "connection:c1"])
def test_channels_that_exist(name: str) -> None:
    assert CHANNELS.kind(name) in {"agent", "user", "connection"}


@pytest.mark.parametrize(
    "name",
    ["", "guide:x", "pillar", "pillar:nowhere", "user:", "user:a b", "connection:c1\n", "system:health", "USER:a"],
)
def test_channels_that_do_not(name: str) -> None:
    with pytest.raises(UnknownChannel):
        CHANNELS.kind(name)


def test_private_logs_are_their_owners_alone() -> None:
    CHANNELS.check(ALICE, "subscribe", "user:alice")
    CHANNELS.check(ALICE, "history", "connection:c1", connection_id="c1")
    CHANNELS.check(OPERATOR, "history", "user:alice")
    for who, right, channel in (
        (ALICE, "subscribe", "user:bob"),
        (ALICE, "publish", "user:alice"),
        (ALICE, "subscribe", "connection:c2"),
        (OPERATOR, "subscribe", "user:alice"),
        (OPERATOR, "publish", "user:alice"),
        (SERVICE, "history", "user:alice"),
    ):
        with pytest.raises(Forbidden):
            CHANNELS.check(who, right, channel, connection_id="c1")  # type: ignore[arg-type]
