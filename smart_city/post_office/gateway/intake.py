"""What a peer has sent and nobody has read: handed on in slices, a fair share in each turn of the event loop.

The loop hands over all that has arrived, up to megabytes; the other peers, timers and writes have their turn between
two slices. What the bytes say is not its matter.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

SLICE_BYTES = 8 * 1024
FRAMES_A_TURN = 256
"""A peer's share of one turn of the loop; the smallest frames fill a slice with a thousand."""


class Taker(Protocol):
    """Whose bytes they are: a socket."""

    def feed(self, data: bytes) -> int:
        """Takes a slice, and says how many frames were in it."""
        ...


class Intake:
    """The unread bytes of one transport."""

    __slots__ = (
        "_frames_in_turn", "_is_full", "_is_held", "_is_paused", "_reading", "_taker", "_transport", "_unread",
    )  # fmt: skip

    def __init__(self, transport: asyncio.Transport, taker: Taker) -> None:
        self._transport = transport
        self._taker = taker
        self._unread: bytearray | None = None
        self._reading: asyncio.Handle | None = None
        self._frames_in_turn = 0
        self._is_paused = False
        self._is_full = False
        self._is_held = False

    def take(self, data: bytes) -> None:
        """Something arrived."""
        if self._unread is None and len(data) <= SLICE_BYTES and not self._is_stopped:
            self._taker.feed(data)
            return
        if self._unread is None:
            self._unread = bytearray()
        self._unread += data
        if not self._is_stopped and self._reading is None:
            self._read()

    def pause(self) -> None:
        """Hands on nothing more, and takes nothing more from the peer."""
        self._is_paused = True
        self._hold(True)

    def resume(self) -> None:
        """Hands on again, beginning with what is here already."""
        if self._is_paused:
            self._is_paused = False
            self._go_on()

    def full(self, is_full: bool) -> None:
        """Whether the peer has to take something before it is heard again, whoever else resumes."""
        self._is_full = is_full
        if is_full:
            self._hold(True)
        else:
            self._go_on()

    @property
    def _is_stopped(self) -> bool:
        return self._is_paused or self._is_full

    def _go_on(self) -> None:
        if not self._is_stopped and self._reading is None:
            self._reading = asyncio.get_running_loop().call_soon(self._read)

    def stop(self) -> None:
        """The transport is gone."""
        self._unread = None
        if self._reading is not None:
            self._reading.cancel()

    def _read(self) -> None:
        self._reading = None
        while self._unread and not self._is_stopped:
            if self._frames_in_turn >= FRAMES_A_TURN:
                self._frames_in_turn = 0
                self._hold(True)
                self._reading = asyncio.get_running_loop().call_soon(self._read)
                return
            piece = bytes(self._unread[:SLICE_BYTES])
            del self._unread[:SLICE_BYTES]
            self._frames_in_turn += self._taker.feed(piece)
        self._frames_in_turn = 0
        if not self._unread:
            self._unread = None
        self._hold(self._is_stopped)

    def _hold(self, is_held: bool) -> None:
        """Stops or starts the transport's reading, unless it is so already."""
        if is_held != self._is_held and not self._transport.is_closing():
            self._is_held = is_held
            if is_held:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()
