"""URLs of stores: what they name, what holds for every node, and what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis.asyncio import SSLConnection

from foundations.valkey import WrongStore, shown_url
from foundations.valkey.address import Address, Endpoint


def test_one_server_is_named_as_always() -> None:
    address = Address.read("redis://valkey:7000/2")
    assert not address.is_cluster
    assert [str(seed) for seed in address.seeds] == ["valkey:7000"]
    assert address.pool.connection_kwargs["db"] == 2


def test_a_cluster_is_named_by_some_of_its_nodes() -> None:
    address = Address.read("redis://a:7000,b,[::1]:7002/?cluster=true")
    assert address.is_cluster
    assert address.seeds == [Endpoint("a", 7000), Endpoint("b", 6379), Endpoint("::1", 7002)]


def test_credentials_and_tls_hold_for_every_node(tmp_path: Path) -> None:
    url = f"rediss://user:p%40ss@a:7000,b:7001/?cluster=true&ssl_ca_certs={tmp_path / 'ca.pem'}"
    pool = Address.read(url).pool_of(Endpoint("c", 7002))
    assert pool.connection_class is SSLConnection
    kept = pool.connection_kwargs
    assert (kept["host"], kept["port"], kept["username"], kept["password"]) == ("c", 7002, "user", "p@ss")
    assert kept["ssl_ca_certs"] == str(tmp_path / "ca.pem")


@pytest.mark.parametrize(
    "url",
    [
        "redis://a:7000,b:7001", "unix:///run/valkey.sock?cluster=true", "redis://a:7000,b:x/?cluster=true", "tcp://a",
        "redis://a:7000,,b:7001/?cluster=true", "redis://:hunter2@a:7000,:hunter2@b:7001/?cluster=true",
        "redis://[::1:6379", "redis://:hunter2[x@a:6379", "redis://:x[hunter2]y@a:6379",
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(url: str) -> None:
    with pytest.raises(WrongStore, match="SMART_CITY_VALKEY_URL") as refused:
        Address.read(url)
    assert "hunter2" not in str(refused.value)


def test_addresses_in_brackets_are_understood() -> None:
    assert [str(seed) for seed in Address.read("redis://[::1]:7000,[::2]:7001/?cluster=true").seeds] == [
        "[::1]:7000",
        "[::2]:7001",
    ]


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:secret@a:7000,b:7001/?cluster=true", "redis://a:7000,b:7001/"),
        ("redis://user:sec/ret@a:7000,b:7001", "redis://…"),
        ("redis://user:sec[ret@a:7000,b:7001", "…"),
    ],
)
def test_of_several_nodes_no_secret_is_shown(url: str, shown: str) -> None:
    assert shown_url(url) == shown
