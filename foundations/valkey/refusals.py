"""What the store refuses, in the city's words; and which stores the platform refuses.

It only judges and translates; who asks, and whether to ask again, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import exceptions

from foundations.errors import Overloaded, Unavailable

OLDEST_VALKEY = (9, 0)
OLDEST_REDIS = (7, 4)

_PASSING = frozenset(("LOADING", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "NOREPLICAS", "BUSY"))
"""Refusals that pass: it starts, fails over, moves keys, lacks replicas or disk, or a script runs too long."""


NOT_COPIED = "NOTCOPIED"
"""Our own word, in which a connection that waits for replicas refuses what too few of them have."""


class NotCopied(Unavailable):
    """It was carried out, but on too few replicas for it to be told: it may be lost with its server."""


class WrongStore(Exception):
    """A store that the platform must not run on; the sentence names what to set."""


def translated(refusal: str) -> Exception:
    """A refusal in the city's words, or in redis-py's when only a defect of ours explains it."""
    code = refusal.partition(" ")[0]
    if code == "OOM":
        return Overloaded("Valkey has reached its maxmemory and takes no more writes", retry_after=1)
    if code == NOT_COPIED:
        return NotCopied(refusal.removeprefix(NOT_COPIED).lstrip())
    if code in _PASSING:
        return Unavailable(f"Valkey cannot do this at the moment: {refusal}")
    return exceptions.ResponseError(refusal.removeprefix("ERR "))


def unrepeated(refusal: str) -> str:
    """A refusal of a greeting, without what a server that does not know HELLO repeats of it: the password, too."""
    return refusal.partition(", with args")[0]


def check(info: Mapping[str, Any], *, as_cluster: bool = False) -> None:
    """Refuses a store that would forget what was acknowledged.

    Raises:
        WrongStore: too old, evicting, full, or a cluster where one server is expected.
    """
    name, version, oldest = "Redis", str(info.get("redis_version", "0")), OLDEST_REDIS
    if "valkey_version" in info:
        name, version, oldest = "Valkey", str(info["valkey_version"]), OLDEST_VALKEY
    if _numbers(version) < oldest:
        raise WrongStore(
            f"SMART_CITY_VALKEY_URL names a {name} {version}, which is too old: "
            "the platform needs Valkey 9.0 or Redis 7.4, or newer ones."
        )
    if int(info.get("cluster_enabled", 0)) and not as_cluster:
        raise WrongStore("SMART_CITY_VALKEY_URL names a node of a cluster: add ?cluster=true to it.")
    policy = str(info.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        raise WrongStore(
            f"The store evicts keys (its maxmemory-policy is {policy}) and would forget what it has "
            "acknowledged: set maxmemory-policy to noeviction."
        )
    most, used = memory(info)
    if 0 < most <= used:
        raise WrongStore(f"The store is full ({used} of {most} bytes): raise its maxmemory, or set it to 0.")


def memory(info: Mapping[str, Any]) -> tuple[int, int]:
    """How much memory the store may use, 0 for as much as there is, and how much it uses; in bytes."""
    return int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))


def _numbers(version: str) -> tuple[int, int]:
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major) if major.isdigit() else 0, int(minor) if minor.isdigit() else 0)
