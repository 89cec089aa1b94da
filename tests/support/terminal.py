"""A terminal of a test's own, with what a program has drawn on it."""

from __future__ import annotations

import os
import pty
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl


class Terminal:
    """A pseudo-terminal; ``theirs`` is the end for a program's streams."""

    def __init__(self, columns: int, lines: int) -> None:
        self._ours, self.theirs = pty.openpty()
        ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._drawn = bytearray()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def drawn(self) -> str:
        """Everything so far, with its escapes."""
        return self._drawn.decode(errors="replace")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def close(self) -> None:
        """After the programs on it have ended."""
        os.close(self.theirs)
        self._reading.join(10)
        os.close(self._ours)

    def _read(self) -> None:
        while True:
            try:
                chunk = os.read(self._ours, 65536)
            except OSError:  # the other end is closed
                return
            if not chunk:
                return
            self._drawn += chunk


@contextmanager
def terminal(columns: int = 80, lines: int = 40) -> Iterator[Terminal]:
    """A terminal for as long as the block."""
    opened = Terminal(columns, lines)
    try:
        yield opened
    finally:
        opened.close()
