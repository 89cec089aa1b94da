"""Numbers that JSON can write and no reader can hold: ``1e999``, or five thousand digits.

Whoever passes payloads on refuses them on the way in; past that, one reader would see ``null``, another nothing.
"""

from __future__ import annotations

import msgspec

_decode = msgspec.json.Decoder().decode
"""Reading a text whole takes a tenth of a microsecond for 250 bytes; looking for suspicious digits takes longer."""


def has_unreadable_number(text: bytes) -> bool:
    """Whether JSON text has a number beyond a double's range (IEEE 754, binary64) or of too many digits."""
    try:
        _decode(text)
    except msgspec.ValidationError as error:
        return "out of range" in str(error)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return False  # it is no JSON at all, which whoever reads it says better
    return False
