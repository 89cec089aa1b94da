"""What nodes tell of their cluster: under which address each is reached, and whom to believe."""

from __future__ import annotations

from typing import Any

import pytest

from foundations.valkey.address import Endpoint
from foundations.valkey.topology import Topology, read

ASKED = Endpoint("asked", 7000)
UP = b"cluster_state:ok\r\ncluster_current_epoch:7\r\n"


def node(host: bytes | None, port: int = 7001, metadata: Any = ()) -> list[Any]:
    return [host, port, b"0123", metadata]


@pytest.mark.parametrize(
    ("told", "reached"),
    [
        (node(b"10.0.0.1"), "10.0.0.1:7001"),
        (node(b"valkey-1.example", 6379, {b"ip": b"10.0.0.1"}), "valkey-1.example:6379"),
        (node(b"2001:db8::1"), "[2001:db8::1]:7001"),
        (node(None), "asked:7001"),
        (node(b""), "asked:7001"),
        (node(b"?", 7001, {b"ip": b"10.0.0.1"}), "10.0.0.1:7001"),
        (node(b"?", 7001, [b"ip", b"10.0.0.1"]), "10.0.0.1:7001"),
        (node(b"?"), "asked:7001"),
    ],
)
def test_a_node_is_reached_as_it_wants_to_be(told: list[Any], reached: str) -> None:
    known = read(UP, [[0, 16383, told]], ASKED)
    assert str(known.ranges[0].primary) == reached


def test_the_first_of_a_range_is_its_primary_and_the_rest_are_replicas() -> None:
    known = read(UP, [[0, 99, node(b"a"), node(b"b"), node(b"c")], [100, 16383, node(b"d")]], ASKED)
    assert [(found.first, found.last, found.primary.host) for found in known.ranges] == [
        (0, 99, "a"),
        (100, 16383, "d"),
    ]
    assert [endpoint.host for endpoint in known.endpoints()] == ["a", "b", "c", "d"]


def told(*, up: bool = True, epoch: int = 7, last: int = 16383) -> Topology:
    info = f"cluster_state:{'ok' if up else 'fail'}\r\ncluster_current_epoch:{epoch}\r\n".encode()
    return read(info, [[0, last, node(b"a")]], ASKED)


def test_who_has_seen_the_latest_election_is_believed() -> None:
    assert max([told(epoch=7), told(epoch=8, last=99)], key=lambda each: each.worth).epoch == 8


def test_who_is_cut_off_is_not_believed_whatever_it_has_seen() -> None:
    assert max([told(epoch=9, up=False), told(epoch=8)], key=lambda each: each.worth).epoch == 8


def test_of_two_that_are_cut_off_who_knows_more_slots_is_believed() -> None:
    best = max([told(up=False, last=99), told(up=False)], key=lambda each: each.worth)
    assert best.ranges[0].last == 16383
