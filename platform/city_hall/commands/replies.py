"""Valkey's replies in text: numbered and quoted for people, as redis-cli does, plain for pipes, or as JSON.

A reply is what RESP3 has: bytes, numbers, truth, nothing, and lists, sets and maps of these.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

_WORDS = frozenset((b"OK", b"PONG", b"QUEUED"))
"""Replies that say how it went and hold nothing; redis-cli does not quote them."""


def as_json(reply: Any) -> str:
    """In one line. What is not UTF-8 is ``{"$bytes": BASE64}``."""
    return json.dumps(_json(reply), ensure_ascii=False)


def as_text(reply: Any, *, for_people: bool) -> str:
    """With numbers, types and quotes for people; else the values alone, a line each."""
    if for_people:
        return reply.decode() if isinstance(reply, bytes) and reply in _WORDS else "\n".join(_lines(reply))
    return "\n".join(_plain(reply))


def _json(reply: Any) -> Any:
    match reply:
        case bytes():
            try:
                return reply.decode()
            except UnicodeDecodeError:
                return {"$bytes": base64.b64encode(reply).decode()}
        case dict():
            return {_key(name): _json(value) for name, value in reply.items()}
        case list() | tuple() | set() | frozenset():
            return [_json(value) for value in reply]
        case Exception():  # one command of several was refused
            return {"error": str(reply)}
    return reply


def _key(name: Any) -> str:
    found = _json(name)
    return found if isinstance(found, str) else json.dumps(found)


def _plain(reply: Any) -> Iterator[str]:
    match reply:
        case bytes():
            yield reply.decode(errors="surrogateescape")
        case None:
            yield ""
        case bool():
            yield "true" if reply else "false"
        case dict():
            for name, value in reply.items():
                yield from _plain(name)
                yield from _plain(value)
        case list() | tuple() | set() | frozenset():
            for value in reply:
                yield from _plain(value)
        case _:
            yield str(reply)


def _lines(reply: Any) -> Iterator[str]:
    """A reply in lines; what is inside of another is indented below its number."""
    match reply:
        case bytes():
            yield _quoted(reply)
        case None:
            yield "(nil)"
        case bool():
            yield "(true)" if reply else "(false)"
        case int():
            yield f"(integer) {reply}"
        case float():
            yield f"(double) {reply:g}"
        case Exception():
            yield f"(error) {reply}"
        case dict():
            yield from _map(reply)
        case list() | tuple():
            yield from _several(list(reply), ")", "(empty array)")
        case set() | frozenset():
            yield from _several(sorted(reply, key=repr), "~", "(empty set)")
        case _:
            yield _quoted(str(reply).encode())


def _several(values: list[Any], mark: str, nothing: str) -> Iterator[str]:
    if not values:
        yield nothing
    width = len(str(len(values)))
    for number, value in enumerate(values, 1):
        head = f"{number:>{width}}{mark} "
        for line in _lines(value):
            yield head + line
            head = " " * len(head)


def _map(reply: dict[Any, Any]) -> Iterator[str]:
    if not reply:
        yield "(empty hash)"
    width = len(str(len(reply)))
    for number, (name, value) in enumerate(reply.items(), 1):
        head = f"{number:>{width}}# {' '.join(_lines(name))} => "
        inside = list(_lines(value))
        if len(inside) == 1:
            yield head + inside[0]
        else:
            yield head.rstrip()
            yield from (f"{' ' * (width + 2)}{line}" for line in inside)


def _quoted(text: bytes) -> str:
    """In double quotes, with what cannot be seen written as escapes."""
    try:
        shown = text.decode()
    except UnicodeDecodeError:
        return '"' + "".join(_escaped(chr(byte)) if byte < 0x80 else f"\\x{byte:02x}" for byte in text) + '"'
    return '"' + "".join(map(_escaped, shown)) + '"'


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\a": "\\a", "\b": "\\b"}


def _escaped(character: str) -> str:
    if known := _ESCAPES.get(character):
        return known
    return character if character.isprintable() else "".join(f"\\x{byte:02x}" for byte in character.encode())
