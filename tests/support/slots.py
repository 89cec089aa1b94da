"""Every test's Valkey is asked as if it were a cluster: what one call touches lies in one hash slot.

A single server would take anything, so a call that mixes slots fails here, and so does the test in which it was made.
Processes that tests start are not watched; what runs on a real cluster is in `tests/faults/test_cluster_keys.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pytest

from foundations.valkey import Script, Valkey, slots
from foundations.valkey.wire import Argument

ALL_KEYS = frozenset({"DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "SUNION", "SINTER", "SDIFF", "PFMERGE", "PFCOUNT"})
TWO_KEYS = frozenset({"RENAME", "RENAMENX", "COPY", "SMOVE", "LMOVE", "RPOPLPUSH", "ZRANGESTORE", "GEOSEARCHSTORE"})
NO_KEYS = frozenset(
    {"INFO", "PING", "TIME", "CONFIG", "CLIENT", "CLUSTER", "SCRIPT", "KEYS", "SCAN", "FLUSHALL", "DBSIZE"}
)

_run, _begin, _command = Valkey.run, Valkey.begin, Valkey.command
ON_ONE_SERVER = {name: vars(Valkey)[name] for name in ("run", "begin", "command", "slot_of", "by_slot")}


class Mixed:
    """The calls that touched several slots."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def check(self, what: str, keys: Iterable[str | bytes]) -> None:
        """Raises and remembers: whoever made the call may have caught the error."""
        found = {slots.slot_of(key): key for key in keys}
        if len(found) > 1:
            self.calls.append(f"{what} touches several slots: {sorted(map(str, found.values()))[:3]}")
            raise AssertionError(self.calls[-1])


def keys_of(words: Sequence[Argument]) -> list[str | bytes]:
    """The keys of a plain command."""
    name, keys = str(words[0]).upper(), [word for word in words[1:] if isinstance(word, str | bytes)]
    if name in NO_KEYS:
        return []
    return keys if name in ALL_KEYS else keys[: 2 if name in TWO_KEYS else 1]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_one_server: shows what travels together where all keys lie in one place")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--cluster`` there is no single server to show that on."""
    if config.getoption("--cluster"):
        apart = [item for item in items if item.get_closest_marker("on_one_server")]
        items[:] = [item for item in items if item not in apart]
        config.hook.pytest_deselected(items=apart)


@pytest.fixture(scope="session", autouse=True)
def mixed_calls() -> Iterator[Mixed]:
    """Makes clients of a single server group by the real slots, and watches what they ask: also between two tests,
    where a platform that lives longer than one of them goes on."""
    mixed = Mixed()

    async def run(valkey: Valkey, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        mixed.check(f"the script {script.name}", keys)
        return await _run(valkey, script, keys, args)

    def begin(valkey: Valkey, script: Script, keys: Sequence[str], *rest: Any, **more: Any) -> bool:
        mixed.check(f"the script {script.name}", keys)
        return _begin(valkey, script, keys, *rest, **more)

    async def command(valkey: Valkey, *words: Argument) -> Any:
        mixed.check(f"the command {words[0]!s}", keys_of(words))
        return await _command(valkey, *words)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Valkey, "run", run)
        patch.setattr(Valkey, "begin", begin)
        patch.setattr(Valkey, "command", command)
        patch.setattr(Valkey, "slot_of", staticmethod(slots.slot_of))
        patch.setattr(
            Valkey, "by_slot", lambda _, items, key: slots.by_slot(items, lambda item: slots.slot_of(key(item)))
        )
        yield mixed


@pytest.fixture(autouse=True)
def one_slot_a_call(
    request: pytest.FixtureRequest, mixed_calls: Mixed, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Mixed]:
    """Fails the test in which a call touched several slots, unless it shows what one server does."""
    if request.node.get_closest_marker("on_one_server"):
        for name, method in ON_ONE_SERVER.items():
            monkeypatch.setattr(Valkey, name, method)
    mixed_calls.calls.clear()
    yield mixed_calls
    assert not mixed_calls.calls
