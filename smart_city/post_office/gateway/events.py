"""Frames of the protocol rewritten as server-sent events (the event stream format of the HTML standard).

What goes into a channel's log or belongs to an answer comes as an unnamed event, what is provisional under that name,
everything else under the name of its type. It knows frames and bytes only; who reads them is `event_stream`'s matter.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from msgspec import Struct

from smart_city.post_office.gateway.messages import texts_of
from smart_city.vocabulary import Position

UNNAMED = frozenset({"message", "chat_response"})
"""What `EventSource.onmessage` and the readers of plain `data:` lines are there for."""
RETRY_MS = 2000
"""How long a client waits before it comes back, unless it is told otherwise."""
HEARTBEAT = b":heartbeat\n\n"


class _Head(Struct):
    type: str = "message"
    offset: int | None = None
    epoch: str = ""
    provisional: bool = False


_head = msgspec.json.Decoder(_Head)


class Events(NamedTuple):
    """Some frames as events: the position after them, if they have one, and whether the log has them too.

    What is ``passing`` may be left out for a reader who is behind: the log gives it again, or nobody waits for it.
    """

    data: bytes
    position: Position | None
    passing: bool


class Rendering:
    """Rewrites frames, each once for all who read them: a hub gives the same bytes to one reader after the other."""

    __slots__ = ("_events", "_frames")

    def __init__(self) -> None:
        self._frames = b""
        self._events = Events(b"", None, False)

    def __call__(self, frames: bytes) -> Events:
        """The events of whole WebSocket text frames."""
        if frames is not self._frames:
            self._frames, self._events = frames, events_of(frames)
        return self._events


def events_of(frames: bytes) -> Events:
    """The events of whole WebSocket text frames, as `messages.wire` makes them."""
    events = []
    position = None
    passing = False
    for text in texts_of(frames):
        head = _head.decode(text)
        if head.offset is not None:
            position = Position(head.offset, head.epoch)
        passing = passing or head.type == "reset" or head.type in UNNAMED
        name = "" if head.type in UNNAMED else head.type
        if head.provisional:
            name = "provisional"
        events.append(event(text, name, None if head.offset is None else position))
    return Events(b"".join(events), position, passing)


def event(text: bytes, name: str = "", position: Position | None = None) -> bytes:
    """One event around a JSON text, whose line breaks can only be white space: a payload is passed on as it came."""
    if b"\n" in text or b"\r" in text:
        text = b" ".join(text.splitlines())
    named = b"event: %b\n" % name.encode() if name else b""
    placed = b"id: %b\n" % str(position).encode() if position is not None else b""
    return b"%b%bdata: %b\n\n" % (named, placed, text)


def retry(milliseconds: int) -> bytes:
    """Tells the client how long to wait before it comes back."""
    return b"retry: %d\n\n" % milliseconds
