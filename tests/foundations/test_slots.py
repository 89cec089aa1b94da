"""Hash slots: where a key lies, as Valkey itself says, and what may travel together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from foundations.valkey import Valkey
from foundations.valkey.slots import SLOTS, by_slot, slot_of
from tests.support.ports import free_port
from tests.support.valkey import ValkeyServer

KEYS = (
    "", "foo", "123456789", "log:{guide}:meta", "{user1000}.following", "foo{}{bar}", "foo{{bar}}zap", "foo{bar}{zap}",
    "}{", "{", "{}", "täxt:{ü}", "connections:alice", "a{b}c{d}", "subscriptions:host-8000-1",
)  # fmt: skip


@pytest.fixture(scope="module")
def node() -> Iterator[Any]:
    """A client whose stub does not type the commands needed here."""
    with (
        ValkeyServer(tcp=True, cluster_enabled="yes", cluster_port=str(free_port()), appendonly="no") as server,
        redis.Redis.from_url(server.url) as client,
    ):
        yield client


@pytest.mark.parametrize("key", KEYS)
def test_a_key_lies_where_valkey_says(node: Any, key: str) -> None:
    assert slot_of(key) == node.execute_command("CLUSTER", "KEYSLOT", key)


@given(st.lists(st.binary(max_size=30) | st.text("{}ab", max_size=12).map(str.encode), min_size=1, max_size=50))
def test_any_key_lies_where_valkey_says(node: Any, keys: list[bytes]) -> None:
    with node.pipeline(transaction=False) as asked:
        for key in keys:
            asked.execute_command("CLUSTER", "KEYSLOT", key)
        assert [slot_of(key) for key in keys] == asked.execute()


def test_keys_with_one_tag_lie_together() -> None:
    assert slot_of("p:log:{user:alice}:meta") == slot_of("p:owner:{user:alice}") == slot_of("user:alice") < SLOTS


def test_items_are_grouped_in_the_order_in_which_they_came() -> None:
    assert by_slot([5, 2, 4, 7, 2, 9], lambda item: item % 2) == [[5, 7, 9], [2, 4, 2]]
    assert by_slot([], lambda item: 0) == []


@pytest.mark.on_one_server
def test_on_a_single_server_everything_may_travel_together(valkey: Valkey) -> None:
    assert valkey.slot_of("a") == valkey.slot_of("b") == 0
    assert valkey.by_slot(iter("abc"), str) == [["a", "b", "c"]]
    assert valkey.by_slot([], str) == []
