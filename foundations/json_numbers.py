"""Numbers that JSON can write and no reader can hold: ``1e999``, or five thousand digits.

Whoever passes payloads on refuses them on the way in; past that, one reader would see ``null``, another nothing.
"""

from __future__ import annotations

import re

import msgspec

_SUSPECT = re.compile(rb"[eE][+]?[0-9]{3}|[0-9]{300}")
"""A large exponent, or very many digits. Inside of a string it is harmless: only then is the text read whole."""


def has_unreadable_number(text: bytes) -> bool:
    """Whether JSON text has a number beyond a double's range (IEEE 754, binary64) or of too many digits."""
    if _SUSPECT.search(text) is None:
        return False
    try:
        msgspec.json.decode(text)
    except msgspec.ValidationError as error:
        return "out of range" in str(error)
    except (msgspec.MsgspecError, RecursionError):
        return False  # it is no JSON at all, which whoever reads it says better
    return False
