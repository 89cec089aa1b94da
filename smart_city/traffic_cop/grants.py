"""Grants as callers write them, ``{"pillar:*": ["subscribe", "send"]}``, and those of a session without any.

It judges how a grant is written; who may do what on which kind of channel is the Post Office's to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

from foundations.errors import FieldError, InvalidArgument
from smart_city.vocabulary import CHANNEL_PATTERN, RIGHTS, Grant

MAX_GRANTS = 100
PRIVATE = ("user:", "connection:", "conversation:")
"""Logs that belong to their owner or their members, whatever a session is granted."""

DEFAULT_GRANTS = (
    Grant("guide", frozenset({"subscribe", "send", "history"})),
    Grant("pillar:*", frozenset({"subscribe", "send", "history"})),
    Grant("system:health", frozenset({"subscribe", "history"})),
)
"""What a session may that was created without channels (contract, section 5). Its own logs need no grant."""

_CHANNEL = re.compile(CHANNEL_PATTERN)
_PREFIX = re.compile(r"([a-z_]+(:[A-Za-z0-9._~@|-]{0,128})?)?")


def parse_grants(channels: Mapping[str, Sequence[str]]) -> tuple[Grant, ...]:
    """Reads channels, or patterns with ``*`` at the end, with the rights on each.

    Raises:
        InvalidArgument: a pattern or a right that cannot be; each is named.
    """
    if len(channels) > MAX_GRANTS:
        raise _refusal([FieldError("channels", f"{len(channels)} are named, at most {MAX_GRANTS} can be")])
    if problems := [*_problems(channels)]:
        raise _refusal(problems)
    return tuple(Grant(pattern, frozenset(rights)) for pattern, rights in channels.items() if rights)


def channels_of(grants: Sequence[Grant]) -> dict[str, list[str]]:
    """Grants as callers write them."""
    return {grant.pattern: sorted(grant.rights) for grant in grants}


def _problems(channels: Mapping[str, Sequence[str]]) -> Iterator[FieldError]:
    for pattern, rights in channels.items():
        field = f"channels.{pattern[:160]}"
        if told := _wrong_with(pattern):
            yield FieldError(field, told)
        for right in rights:
            if right not in RIGHTS:
                yield FieldError(field, f"{right[:40]!r} is no right; there are {', '.join(sorted(RIGHTS))}")


def _wrong_with(pattern: str) -> str:
    """Why this cannot be the pattern of a grant; empty when it can."""
    if pattern.startswith(PRIVATE):
        return "a private channel can be granted to nobody; its owner has it without a grant"
    if _CHANNEL.fullmatch(pattern) or (pattern.endswith("*") and _PREFIX.fullmatch(pattern[:-1])):
        return ""
    return "is neither a channel, as in guide, nor the beginning of some with a * at its end, as in pillar:*"


def _refusal(problems: list[FieldError]) -> InvalidArgument:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidArgument(f"{first.field}: {first.message}{more}", errors=problems)
