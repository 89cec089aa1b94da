"""Which key a command goes by, held against what the server itself says."""

from __future__ import annotations

import pytest

from foundations.valkey import Valkey
from foundations.valkey.routing import key_of
from foundations.valkey.wire import Argument

pytestmark = pytest.mark.on_both_loops


@pytest.mark.parametrize(
    "command",
    [
        ("GET", "k"), ("HSET", "k", "f", "v"), ("DEL", "k", "l"), ("MGET", "k", "l"), ("ZADD", "k", "1", "m"),
        ("XRANGE", "k", "-", "+"), ("XADD", "k", "*", "f", "v"),
        ("PEXPIRE", "k", "1"), ("GETEX", "k", "EX", "1"), ("EVAL", "return 1", "2", "k", "l"),
        ("EVALSHA", "0", "1", "k"),
        ("XINFO", "STREAM", "k"), ("OBJECT", "ENCODING", "k"), ("MEMORY", "USAGE", "k"), ("RENAME", "k", "l"),
    ],
)  # fmt: skip
async def test_a_command_goes_by_its_first_key(valkey: Valkey, command: tuple[Argument, ...]) -> None:
    keys = await valkey.store.ask(("COMMAND", "GETKEYS", *command))
    assert key_of(command) == keys[0] == b"k"


@pytest.mark.parametrize(
    "command", [("PING",), ("INFO", "memory"), ("TIME",), ("CLUSTER", "INFO"), ("EVAL", "", 0, "x")]
)
def test_some_commands_have_none(command: tuple[Argument, ...]) -> None:
    assert key_of(command) is None


def test_keys_may_be_given_as_bytes_or_text() -> None:
    assert key_of(("GET", b"k")) == key_of(("GET", "k")) == b"k"


def test_a_shard_channel_lies_in_a_slot_like_a_key() -> None:
    assert key_of(("SPUBLISH", "channel", "k")) == b"channel"
