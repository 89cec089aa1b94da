"""Whose address counts: the peer's, unless a trusted proxy says another, which cannot be made up."""

from __future__ import annotations

import pytest

from foundations.proxies import TrustedProxies, household


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "client"),
    [
        ([], "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        (["10.0.0.1"], "9.9.9.9", ["1.1.1.1"], "9.9.9.9"),
        (["10.0.0.1"], "10.0.0.1", [], "10.0.0.1"),
        (["10.0.0.1"], "10.0.0.1", ["1.1.1.1"], "1.1.1.1"),
        (["10.0.0.1"], "10.0.0.1", ["6.6.6.6, 1.1.1.1"], "1.1.1.1"),  # the client made up the first
        (["10.0.0.0/8"], "10.0.0.1", ["6.6.6.6, 1.1.1.1, 10.2.3.4"], "1.1.1.1"),
        (["10.0.0.0/8"], "10.0.0.1", ["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
        (["10.0.0.0/8"], "10.0.0.1", ["10.2.3.4"], "10.2.3.4"),
        (["10.0.0.1"], "10.0.0.1", ["1.1.1.1:4711"], "1.1.1.1"),
        (["10.0.0.1"], "10.0.0.1", ["[2001:db8::1]:4711"], "2001:db8::1"),
        (["10.0.0.1"], "::ffff:10.0.0.1", ["::ffff:1.1.1.1"], "1.1.1.1"),
        (["10.0.0.1"], "10.0.0.1", ["6.6.6.6, unknown"], "10.0.0.1"),
        (["*"], "10.0.0.1", ["1.1.1.1, 10.2.3.4"], "1.1.1.1"),
        (["10.0.0.1"], "", ["1.1.1.1"], ""),  # a Unix socket
    ],
)
def test_the_client_is_the_last_one_whom_no_trusted_proxy_is(
    proxies: list[str], peer: str, forwarded: list[str], client: str
) -> None:
    assert TrustedProxies(proxies).client(peer, forwarded) == client


def test_a_network_of_ipv6_is_one_place() -> None:
    assert household("2001:db8:0:1::1") == household("[2001:db8:0:1:ffff::2]:80") == "2001:db8:0:1::"
    assert household("2001:db8:0:2::1") != household("2001:db8:0:1::1")
    assert household("1.1.1.1") == household("::ffff:1.1.1.1") == "1.1.1.1"
    assert household("nonsense") == "unknown"


def test_a_zone_makes_no_place_of_its_own_and_none_that_is_long() -> None:
    zoned = "fe80::%" + "x" * 60_000
    assert household(zoned) == household("fe80::1%eth0") == "fe80::"
    assert TrustedProxies(["*"]).client("10.0.0.1", [zoned]) == "fe80::"
    assert TrustedProxies(["fe80::/64"]).trust("fe80::1%eth0")
