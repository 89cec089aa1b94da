"""Members by a name that they share: one alone, several, and none any more."""

from __future__ import annotations

from smart_city.post_office.gateway.groups import Groups


class Member:
    """Somebody."""


def test_members_are_found_by_the_name_that_they_share() -> None:
    groups: Groups[Member] = Groups()
    ann, another, bob = Member(), Member(), Member()
    for name, member in (("ann", ann), ("ann", another), ("bob", bob), ("bob", bob)):
        groups.add(name, member)
    assert set(groups.of("ann")) == {ann, another}
    assert list(groups.of("bob")) == [bob]
    assert set(groups) == {ann, another, bob}
    assert not groups.of("carol")


def test_who_is_taken_out_is_in_no_group_and_the_others_stay() -> None:
    groups: Groups[Member] = Groups()
    ann, another = Member(), Member()
    groups.add("ann", ann)
    groups.discard("ann", another)
    groups.add("ann", another)
    groups.discard("ann", ann)
    assert list(groups.of("ann")) == [another]
    groups.discard("ann", another)
    groups.discard("ann", another)
    assert not list(groups)


def test_a_group_may_change_while_its_members_are_told() -> None:
    groups: Groups[Member] = Groups()
    for _ in range(3):
        groups.add("ann", Member())
    for member in groups.of("ann"):
        groups.discard("ann", member)
    assert not groups.of("ann")
