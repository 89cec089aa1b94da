"""What a peer sends, split into whole messages and everything else: nearly every frame is a small message of its own.

Those are read here, in 0.9 µs each where `ServerProtocol` takes 2.1 (questions, 20 in flight), and so are pongs, which
are all that idle connections send. Everything else goes to the protocol as it is, which judges it: other control
frames, fragments, large frames, and what breaks the rules of RFC 6455.
"""

from __future__ import annotations

from typing import NamedTuple

try:
    from websockets.speedups import apply_mask  # nowhere documented: a test names it, and without it all goes on
except ImportError:  # there is no C extension, or not there any more
    from smart_city.post_office.gateway.masking import apply_mask

_FIN = _MASKED = 0x80
_TEXT = 0x81
_MESSAGES = frozenset((_TEXT, 0x82))
"""How a frame begins that is a whole message, in text or binary: no reserved bit is set, and none follows it."""
_PONG = 0x8A
_MOST_OF_CONTROL = 125
_LAST_OF_DATA = 2
"""Opcodes up to this one carry data, those above are control frames."""

Message = tuple[bytes, bool]
"""The data of a whole message, and whether it is text."""


class Pong(NamedTuple):
    """A whole pong."""

    data: bytes


class WholeFrames:
    """Splits what one peer sends after the handshake; messages of more than ``most_bytes`` are not taken apart."""

    __slots__ = ("_begun", "_is_in_fragments", "_left", "_most")

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._begun = b""
        self._left = 0
        """So many bytes are to come of a frame whose beginning went to the protocol."""
        self._is_in_fragments = False

    @property
    def is_between(self) -> bool:
        """Whether what was handed on has ended: the protocol waits neither for a frame's rest nor for a fragment."""
        return not (self._left or self._is_in_fragments)

    def split(self, data: bytes) -> list[Message | Pong | bytes]:
        """The messages in these bytes, and in order with them what is the protocol's to read.

        A frame that belongs here waits for its end; of the others everything is handed on as it comes.
        """
        pieces: list[Message | Pong | bytes] = []
        at = 0
        if self._left:
            at = min(self._left, len(data))
            self._left -= at
            pieces.append(data[:at])
        elif self._begun:
            data = self._begun + data
        while (bounds := _payload(data, at)) is not None:
            start, end = bounds
            first, is_masked, size = data[at], data[at + 1] >= _MASKED, end - start
            if first in _MESSAGES and is_masked and size <= self._most and not self._is_in_fragments:
                if end > len(data):
                    break
                pieces.append((apply_mask(data[start:end], data[start - 4 : start]), first == _TEXT))
            elif first == _PONG and is_masked and size <= _MOST_OF_CONTROL:
                if end > len(data):
                    break
                pieces.append(Pong(apply_mask(data[start:end], data[start - 4 : start])))
            else:
                self._hand_on(first, end - len(data))
                pieces.append(data[at:end])
            at = end
        self._begun = data[at:]
        return pieces

    def _hand_on(self, first: int, left: int) -> None:
        self._left = max(0, left)
        if first & 0x0F <= _LAST_OF_DATA:
            self._is_in_fragments = not first & _FIN


def _payload(data: bytes, at: int) -> tuple[int, int] | None:
    """Where the payload of the frame at ``at`` begins and ends; None while its length is not here (RFC 6455, 5.2).

    The mask behind the length is not waited for: a frame that is too large is judged by its length.
    """
    if len(data) - at < 2:
        return None
    second = data[at + 1]
    size, start = second & 0x7F, at + 2
    if size == 126:
        size, start = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
    elif size == 127:
        size, start = int.from_bytes(data[at + 2 : at + 10], "big"), at + 10
    if start > len(data):
        return None
    if second >= _MASKED:
        start += 4
    return start, start + size
