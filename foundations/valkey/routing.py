"""Which key a command goes by, so that a cluster's client knows where to send it.

It knows the commands that this platform and its operators send, no others; scripts go by the first key they declare.
"""

from __future__ import annotations

from collections.abc import Sequence

from foundations.valkey.wire import Argument

_SCRIPTS = frozenset(("EVALSHA", "EVAL", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"))
_OF_A_NODE = frozenset(
    ("ACL", "CLIENT", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "ECHO", "FLUSHALL", "FLUSHDB", "FUNCTION", "HELLO",
     "INFO", "KEYS", "LASTSAVE", "LATENCY", "PING", "PUBLISH", "PUBSUB", "RANDOMKEY", "ROLE", "SCAN", "SCRIPT",
     "SLOWLOG", "TIME", "WAIT", "WAITAOF")
)  # fmt: skip
_WITH_SUBCOMMAND = frozenset(("XINFO", "XGROUP", "OBJECT", "MEMORY"))


def key_of(command: Sequence[Argument]) -> bytes | None:
    """The key, or shard channel, that decides where a command goes; `None` for one that any node may answer."""
    name = command[0]
    if name in _SCRIPTS:
        return _as_bytes(command[3]) if command[2] else None
    if name in _OF_A_NODE:
        return None
    return _as_bytes(command[2 if name in _WITH_SUBCOMMAND else 1])


def _as_bytes(key: Argument) -> bytes:
    return key if isinstance(key, bytes) else str(key).encode()
