"""Grants as callers write them, ``{"pillar:*": ["subscribe", "send"]}``, and those of a session without any.

In place of the rights may stand ``{"rights": […], "rate": {"per_second": 1, "burst": 5}}``, which bounds sending.

It judges how a grant is written; who may do what on which kind of channel is the Post Office's to decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidatorFunctionWrapHandler, WrapValidator

from foundations.errors import FieldError, InvalidArgument
from foundations.operations import Arguments
from smart_city.traffic_cop.own_rates import OwnRate
from smart_city.vocabulary import CHANNEL_PATTERN, RIGHTS, SENDING, Grant, Right

MAX_GRANTS = 100
PRIVATE = ("user:", "connection:", "conversation:")
"""Logs that belong to their owner or their members, whatever a session is granted."""

DEFAULT_GRANTS = (
    Grant("guide", frozenset({"subscribe", "send", "history"})),
    Grant("pillar:*", frozenset({"subscribe", "send", "history"})),
    Grant("system:health", frozenset({"subscribe", "history"})),
)
"""What a session may that was created without channels (contract, section 5). Its own logs need no grant."""

GRANT_PATTERN = (
    r"^(?!(user|connection|conversation):)"
    r"([a-z_]+(:[A-Za-z0-9._~@|-]{1,128})?|([a-z_]+(:[A-Za-z0-9._~@|-]{0,128})?)?\*)$"
)
"""What the pattern of a grant looks like, for documentation."""

_CHANNEL = re.compile(CHANNEL_PATTERN)
_PREFIX = re.compile(r"([a-z_]+(:[A-Za-z0-9._~@|-]{0,128})?)?")


class RatedGrant(Arguments):
    """Rights, and how fast may be sent and published to the channel or channels together."""

    rights: Annotated[list[Right], Field(json_schema_extra={"contains": {"enum": sorted(SENDING)}})]
    rate: OwnRate


def _by_shape(value: Any, _handler: ValidatorFunctionWrapHandler) -> Any:
    """Judges an object as an object and anything else as rights, so that a refusal names the place and no union."""
    return (_RATED if isinstance(value, dict) else _PLAIN).validate_python(value)


_STRICT = ConfigDict(strict=True)
_PLAIN: TypeAdapter[list[Right]] = TypeAdapter(list[Right], config=_STRICT)
_RATED = TypeAdapter(RatedGrant)
ChannelGrant = Annotated[list[Right] | RatedGrant, WrapValidator(_by_shape)]


def parse_grants(channels: Mapping[str, Sequence[str] | RatedGrant]) -> tuple[Grant, ...]:
    """Reads channels, or patterns with ``*`` at the end, with the rights on each.

    Raises:
        InvalidArgument: a pattern or a right that cannot be; each is named.
    """
    if len(channels) > MAX_GRANTS:
        raise _refusal([FieldError("channels", f"{len(channels)} are named, at most {MAX_GRANTS} can be")])
    grants = [_grant(pattern, granted) for pattern, granted in channels.items()]
    if problems := [*_problems(grants)]:
        raise _refusal(problems)
    return tuple(grant for grant in grants if grant.rights)


def channels_of(grants: Sequence[Grant]) -> dict[str, list[str]]:
    """Grants as callers write them."""
    return {grant.pattern: sorted(grant.rights) for grant in grants}


def _grant(pattern: str, granted: Sequence[str] | RatedGrant) -> Grant:
    if isinstance(granted, RatedGrant):
        return Grant(pattern, frozenset(granted.rights), granted.rate.value)
    return Grant(pattern, frozenset(granted))


def _problems(grants: Sequence[Grant]) -> Iterator[FieldError]:
    for grant in grants:
        field = f"channels.{grant.pattern[:160]}"
        if told := _wrong_with(grant.pattern):
            yield FieldError(field, told)
        if grant.rate is not None and not grant.rights & SENDING:
            yield FieldError(field, "has a rate, but neither the right to send nor to publish, which it would bound")
        for right in sorted(grant.rights):
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
