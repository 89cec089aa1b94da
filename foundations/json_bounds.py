"""What JSON can say and not every reader can take: numbers beyond a double, and nesting without an end.

Whoever passes payloads on refuses both on the way in; past that, one reader would see ``null``, another nothing,
and a third would fail at everything that comes with it.
"""

from __future__ import annotations

import re
from itertools import accumulate
from math import isinf

import msgspec

MOST_DEPTH = 100
"""Levels of arrays and objects. Readers give up from about two hundred on."""
TOO_DEEP = f"it is nested more than {MOST_DEPTH} levels deep"
OUT_OF_RANGE = "a number is out of range"

_decode = msgspec.json.Decoder().decode
"""Reading a text whole takes a tenth of a microsecond for 250 bytes; looking for suspicious digits takes longer."""
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string that does not end is one to the end of the text: else each quote in it would be looked behind in vain."""
_LARGE_DIGITS = 309
"""An integer of fewer is a double."""
_STRIDE = 77
"""Four bytes so far from one another lie in every run of so many: looking at them takes 0.2 µs for 1000 bytes."""
_DIGITS = bytes.maketrans(b"0123456789", b"0000000000")
_LARGE = re.compile(rb"(?:^|[\s\[:,])-?(\d{%d,}+)(?![.eE])" % _LARGE_DIGITS, re.ASCII)
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
_NO_BONES = bytes(set(range(256)) - set(b'[{]}"'))


def why_unreadable(text: bytes) -> str:
    """Why some readers cannot take this JSON text; empty when all can, or when it is no JSON at all."""
    if is_too_deep(text):
        return TOO_DEEP
    if has_too_large(text):
        return OUT_OF_RANGE
    try:
        _decode(text)
    except msgspec.ValidationError as error:
        return OUT_OF_RANGE if "out of range" in str(error) else ""
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return ""  # whoever reads it says better what is wrong
    return ""


def is_too_deep(text: bytes) -> bool:
    """Whether this JSON text is nested deeper than readers can follow."""
    return text.count(b"[") + text.count(b"{") > MOST_DEPTH and _depth(text) > MOST_DEPTH


def has_too_large(text: bytes) -> bool:
    """Whether an integer in this JSON text is beyond every double; other numbers beyond one are not decoded at all."""
    if len(text) < _LARGE_DIGITS or b"0000" not in text[::_STRIDE].translate(_DIGITS):
        return False
    return any(isinf(float(digits)) for digits in _LARGE.findall(_STRINGS.sub(b"", text)))


def _depth(text: bytes) -> int:
    """The deepest level; brackets inside of strings do not count.

    Between quotes, once those that are escaped are gone, every other piece is a string. Each bracket outside becomes a
    byte that is 1 or -1, and their greatest sum is the depth: 30 ns a bracket and 15 a string, where a message may have
    millions.
    """
    if b"\\" in text:
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside = b"".join(text.translate(None, _NO_BONES).split(b'"')[::2])
    return max(accumulate(memoryview(outside.translate(_STEPS)).cast("b")), default=0)
