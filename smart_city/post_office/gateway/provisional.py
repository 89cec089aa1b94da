"""Frames of what is held: publications ahead of their place in a log, and the word that one will never have one.

Messages only: an agent's answer comes when it is safe, since who asked acts on it.
"""

from __future__ import annotations

from msgspec import UNSET

from smart_city.post_office.gateway import server_frames
from smart_city.post_office.gateway.messages import encode, wire
from smart_city.post_office.log import Entry
from smart_city.post_office.log.values import Provisional, Withdrawn

_MESSAGE = b'{"type":"message"'


def frames_of(news: Provisional | Withdrawn) -> bytes:
    """What subscribers get of it, ready to be written; nothing where it concerns no message."""
    if isinstance(news, Provisional):
        return b"".join([wire(b'%b,"provisional":true}' % e.data[:-1]) for e in news.entries if _is_message(e)])
    if not _is_message(news.entry):
        return b""
    frame = server_frames.Withdrawn(
        channel=news.channel, message_id=news.entry.message_id, duplicate_of=news.earlier or UNSET
    )
    return wire(encode(frame))


def _is_message(entry: Entry) -> bool:
    return entry.data.startswith(_MESSAGE)
