"""Grants as callers write them."""

from __future__ import annotations

import pytest

from foundations.errors import InvalidArgument
from smart_city.traffic_cop.grants import DEFAULT_GRANTS, MAX_GRANTS, channels_of, parse_grants
from smart_city.vocabulary import Grant, Identity


def may(grants: tuple[Grant, ...], right: str, channel: str) -> bool:
    return Identity(kind="session", subject="alice", credential="x", grants=grants).may(right, channel)


def test_a_channel_grants_its_rights_and_no_others() -> None:
    grants = parse_grants({"guide": ["subscribe", "publish"]})
    assert may(grants, "subscribe", "guide")
    assert may(grants, "publish", "guide")
    assert not may(grants, "send", "guide")
    assert not may(grants, "subscribe", "pillar:content")


def test_a_star_at_the_end_stands_for_all_that_begin_like_it() -> None:
    grants = parse_grants({"pillar:*": ["send"]})
    assert may(grants, "send", "pillar:content")
    assert not may(grants, "send", "guide")


@pytest.mark.parametrize("pattern", ["guide", "pillar:content", "pillar:con*", "pillar*", "*", "system:health"])
def test_channels_and_beginnings_of_channels_are_patterns(pattern: str) -> None:
    assert parse_grants({pattern: ["subscribe"]}) == (Grant(pattern, frozenset({"subscribe"})),)


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "Guide",
        "pillar:",
        "pil*ar",
        "*:content",
        "pillar:**",
        "guide ",
        "guide\n",
        "a:b:c",
        ":x",
        "x" * 200 + "!",
    ],
)
def test_anything_else_is_refused_and_named(pattern: str) -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse_grants({"guide": ["send"], pattern: ["send"]})
    assert [error.field for error in refusal.value.errors] == [f"channels.{pattern[:160]}"]


@pytest.mark.parametrize("pattern", ["user:bob", "user:*", "connection:c1", "conversation:7", "user:"])
def test_private_channels_can_be_granted_to_nobody(pattern: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_grants({pattern: ["subscribe"]})


def test_an_unknown_right_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument) as refusal:
        parse_grants({"guide": ["reed"], "pillar:*": ["send", "shout"]})
    assert [error.field for error in refusal.value.errors] == ["channels.guide", "channels.pillar:*"]
    assert "subscribe" in refusal.value.errors[0].message


def test_a_session_has_at_most_so_many_grants() -> None:
    channels = {f"pillar:p{number}": ["send"] for number in range(MAX_GRANTS)}
    assert len(parse_grants(channels)) == MAX_GRANTS
    with pytest.raises(InvalidArgument):
        parse_grants(channels | {"guide": ["send"]})


def test_no_rights_are_no_grant() -> None:
    assert parse_grants({"guide": []}) == ()
    assert parse_grants({}) == ()


def test_grants_are_shown_as_they_are_written() -> None:
    channels = {"guide": ["history", "send"], "pillar:*": ["publish"]}
    assert channels_of(parse_grants(channels)) == channels


def test_without_any_a_session_may_talk_to_agents_and_see_health() -> None:
    for channel in ("guide", "pillar:content", "pillar:of_next_year"):
        assert all(may(DEFAULT_GRANTS, right, channel) for right in ("subscribe", "send", "history"))
        assert not may(DEFAULT_GRANTS, "publish", channel)
    assert may(DEFAULT_GRANTS, "subscribe", "system:health")
    for channel in ("system:alerts", "system:presence", "user:alice", "conversation:7"):
        assert not any(may(DEFAULT_GRANTS, right, channel) for right in ("subscribe", "send", "history", "publish"))
