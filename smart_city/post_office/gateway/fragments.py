"""Messages that come in fragments, joined, their text known to be UTF-8.

What a message says is not read, and how large it may grow is bounded by whoever splits the bytes into frames.
"""

from __future__ import annotations

import codecs

from websockets.frames import Frame, Opcode

TEXT, BINARY, CONTINUATION = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
PING = Opcode.PING
"""By names of their own: looking a member up in its enumeration costs three times as much, on every frame."""

_decoder = codecs.getincrementaldecoder("utf-8")


class Fragments:
    """A message that is being received in fragments; the first one has its opcode.

    Raises:
        UnicodeDecodeError: its text cannot become UTF-8 any more, whatever follows; this is told at once.
    """

    __slots__ = ("_data", "_is_text", "_utf8")

    def __init__(self, first: Frame) -> None:
        self._data = bytearray()
        self._is_text = first.opcode is TEXT
        self._utf8 = _decoder()
        self._add(first)

    def go_on(self, frame: Frame) -> tuple[bytes, bool] | None:
        """Takes a further fragment; with the last one the whole message, and whether it is text.

        Raises:
            UnicodeDecodeError: as above.
        """
        self._add(frame)
        return (bytes(self._data), self._is_text) if frame.fin else None

    def _add(self, frame: Frame) -> None:
        if self._is_text:
            self._utf8.decode(frame.data, frame.fin)
        self._data += frame.data
