"""The pattern language of scenarios: "any string", "any offset", "bind this value and expect it later".

A pattern is JSON. An object matches when each field that it names does, whatever else is there; strings of the form
``<…>`` stand for kinds of values. It knows nothing of frames. The README describes it for whoever writes scenarios.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

Bound = dict[str, Any]

ABSENT = "<absent>"
_USE = re.compile(r"<=([a-z_]+)(?:\+([0-9]+))?>")
_KIND = re.compile(r"<([a-z]+)(?: ([a-z_]+))?>")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


KINDS: Mapping[str, Callable[[Any], bool]] = {
    "any": lambda value: True,
    "string": lambda value: isinstance(value, str) and value != "",
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "offset": lambda value: _is_whole(value) and value >= 0,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "time": lambda value: isinstance(value, str) and _TIME.fullmatch(value) is not None,
    "uuid": lambda value: isinstance(value, str) and _UUID7.fullmatch(value) is not None,
}


class Mismatch(Exception):
    """What was found is not what was expected."""


def fill(value: Any, bound: Bound) -> Any:
    """A value of a scenario with what was bound put in: ``<=name>`` whole, inside of a string, or in a key.

    Raises:
        Mismatch: nothing was bound to a name.
    """
    if isinstance(value, dict):
        return {fill(key, bound): fill(item, bound) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, bound) for item in value]
    if not isinstance(value, str):
        return value
    if whole := _USE.fullmatch(value):
        return _bound(whole, bound)
    return _USE.sub(lambda found: str(_bound(found, bound)), value)


def match(expected: Any, found: Any, bound: Bound, at: str = "$") -> None:
    """Holds a value against a pattern, and binds the names in it.

    Raises:
        Mismatch: it says where, and what was expected.
    """
    if isinstance(expected, dict):
        _match_object(expected, found, bound, at)
    elif isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            raise _mismatch(at, f"{len(expected)} items", found)
        for index, (one, other) in enumerate(zip(expected, found, strict=True)):
            match(one, other, bound, f"{at}[{index}]")
    elif isinstance(expected, str) and expected.startswith("<"):
        _match_pattern(expected, found, bound, at)
    else:
        _match_value(fill(expected, bound), found, at)


def _match_object(expected: Mapping[str, Any], found: Any, bound: Bound, at: str) -> None:
    if not isinstance(found, dict):
        raise _mismatch(at, "an object", found)
    for key, pattern in expected.items():
        name = str(fill(key, bound))
        if pattern == ABSENT:
            if name in found:
                raise _mismatch(f"{at}.{name}", "no such field", found[name])
        elif name not in found:
            raise _mismatch(f"{at}.{name}", json.dumps(pattern), None)
        else:
            match(pattern, found[name], bound, f"{at}.{name}")


def _match_pattern(pattern: str, found: Any, bound: Bound, at: str) -> None:
    if pattern.startswith("<starts "):
        start = pattern[len("<starts ") : -1]
        if not isinstance(found, str) or not found.startswith(start):
            raise _mismatch(at, f"text that starts with {start!r}", found)
    elif pattern.startswith("<one of "):
        if found not in (choices := pattern[len("<one of ") : -1].split("|")):
            raise _mismatch(at, f"one of {choices}", found)
    elif (kind := _KIND.fullmatch(pattern)) and kind[1] in KINDS:
        if not KINDS[kind[1]](found):
            raise _mismatch(at, f"a value of the kind {kind[1]}", found)
        if kind[2]:
            bound[kind[2]] = found
    elif _USE.search(pattern):
        _match_value(fill(pattern, bound), found, at)
    else:
        raise Mismatch(f"{at}: {pattern} is no pattern; see tests/conformance/README.md")


def _match_value(expected: Any, found: Any, at: str) -> None:
    if found != expected or isinstance(found, bool) is not isinstance(expected, bool):
        raise _mismatch(at, json.dumps(expected), found)


def _bound(use: re.Match[str], bound: Bound) -> Any:
    if use[1] not in bound:
        raise Mismatch(f"nothing is bound to {use[1]!r}")
    value = bound[use[1]]
    return value + int(use[2]) if use[2] else value


def _mismatch(at: str, expected: str, found: Any) -> Mismatch:
    return Mismatch(f"{at}: expected {expected}, found {json.dumps(found)}")
