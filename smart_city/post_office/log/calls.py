"""The calls of the log's scripts, in the words that the scripts use: what is sent, and what comes back.

It neither waits nor retries; when a call is sent, and how often, is `log_writer`'s matter.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from itertools import groupby
from types import MappingProxyType
from typing import Literal, NamedTuple

import msgspec

from foundations.errors import Conflict
from foundations.valkey import Script
from smart_city.post_office.keep import Held
from smart_city.post_office.log.echo import Heard
from smart_city.post_office.log.values import Appended, Entry, Gone, LogLimits, Retention, Stretch

_PACKAGE = "smart_city.post_office.log"
_MARKED = "marked"

Outcome = Appended | Exception
Then = Callable[[Outcome | Held], None]
"""Told the outcome once, and before that, at most once, that the publication is held."""


class Post(NamedTuple):
    """An entry on its way, and who is to be told what became of it."""

    entry: Entry
    then: Then
    needs_owner: bool
    is_held: bool = False
    is_logged: bool = False
    """It is in the log, and its sender not told yet: too few replicas have it."""


class AppendCall(NamedTuple):
    """One call of the append script. Sent again under its sequence it is carried out no second time."""

    slot: int
    sequence: int
    posts: Mapping[str, list[Post]]
    keys: list[str]
    what: list[bytes | str | int]
    heard: Mapping[str, Heard]
    """What the script counts this instance among the hearers of."""

    def was_left(self, channel: str) -> bool:
        """Whether a log that was heard here is not any more, or was not for a while."""
        return channel in self.heard and not self.heard[channel].stands

    def note_logged(self) -> None:
        """Notes of all that it was carried out, though nobody may be told yet."""
        for posts in self.posts.values():
            posts[:] = [post._replace(is_logged=True) for post in posts]

    def arguments(self) -> list[bytes | str | int]:
        """What to send this time: the very same, but for a new candidate epoch.

        Readers may have heard of an epoch that began with this call and was lost in a failover; the call that is
        sent again must not begin it a second time.
        """
        return [new_epoch(), *self.what]


class _Aside(msgspec.Struct, array_like=True):
    """An entry that was not appended: its index in the call, why, and for a duplicate the earlier answer."""

    index: int
    why: Literal["duplicate", "conflict", "gone"]
    offset: int = 0
    epoch: str = ""
    message_id: str = ""

    def outcome(self) -> Outcome:
        if self.why == "duplicate":
            return Appended(self.message_id, self.offset, self.epoch, True)
        if self.why == "conflict":
            return Conflict("this idempotency key was used before with another body")
        return Gone("this connection has ended")


class Answer(msgspec.Struct):
    """What the script did to one log, in the letters that it shares with the bus; ``f`` is 0 for nothing.

    With an ``error`` the log could not be written, and nothing was done.
    """

    v: int
    e: str = ""
    s: int = 0
    f: int = 0
    l: int = 0  # noqa: E741  # the script's own letter for the last offset
    x: tuple[_Aside, ...] = ()
    error: str = ""

    def appended(self, posts: list[Post]) -> list[Post]:
        """Those of a log's posts that are in it now, in order from ``f``."""
        if not self.f:
            return []
        if not self.x:
            return posts
        aside = {each.index for each in self.x}
        return [post for index, post in enumerate(posts) if index not in aside]

    def stretch(self, channel: str, appended: list[Post]) -> Stretch:
        """What was appended, as the hub takes it."""
        entries = tuple([post.entry.data for post in appended])
        return Stretch(channel, self.e, self.s, self.f, entries, self.l)


read_answers: Callable[[bytes], list[Answer]] = msgspec.json.Decoder(list[Answer]).decode
"""What the script answers: for each log of the call, in order."""


def append_call(
    posts: Mapping[str, list[Post]],
    *,
    slot: int,
    writer: str,
    sequence: int,
    prefix: str,
    limits: LogLimits,
    heard: Mapping[str, Heard] = MappingProxyType({}),
) -> AppendCall:
    """The call that appends these posts to their channels' logs, all of one slot."""
    keys: list[str] = []
    canary: bytes | str = next((each.canary for each in heard.values()), "")
    what: list[bytes | str | int] = [writer, sequence, round(limits.idempotency * 1000), canary]
    for head, alike in groupby(posts, lambda channel: _head(posts[channel], limits.of(channel), channel in heard)):
        channels = list(alike)
        what.append(f"{len(channels)} {head}")
        for channel in channels:
            log = f"{prefix}log:{{{channel}}}:"
            keys += (log + "meta", log + "entries")
            if head.endswith(_MARKED):
                keys += (log + "keys", f"{prefix}owner:{{{channel}}}")
                for post in posts[channel]:
                    what += _marked(post)
            else:
                what += [post.entry.data for post in posts[channel]]
    return AppendCall(slot, sequence, posts, keys, what, heard)


def _head(posts: list[Post], kept: Retention, is_own: bool) -> str:
    """What is alike for most of the logs of a call, and then said once."""
    is_marked = any(post.needs_owner or post.entry.key for post in posts)
    return f"{kept.terms} {'own' if is_own else 'all'} {len(posts)} {_MARKED if is_marked else 'plain'}"


def _marked(post: Post) -> tuple[bytes | str, ...]:
    entry, owner = post.entry, "o" if post.needs_owner else ""
    if entry.key:
        return (owner + "k", entry.key, entry.digest, entry.message_id, entry.data)
    return (owner, entry.data)


def log_script(name: Literal["append", "read", "open", "newest"]) -> Script:
    """One of the log's scripts, behind the opening that they share; readers run in a full store, too."""
    shared = ("chain", "opened") if name in {"read", "open"} else ("chain",)
    source = "".join(Script.read(_PACKAGE, part).source for part in (*shared, name))
    flags = "#!lua\n" if name == "append" else "#!lua flags=allow-oom\n"
    return Script.of(name, flags + source)


def new_epoch() -> str:
    """A name for an epoch, should one begin: ten hexadecimal digits, 40 random bits. Good for one sending."""
    return f"{random.getrandbits(40):010x}"
