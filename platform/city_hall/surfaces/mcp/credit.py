"""What requests cost that are no operations: each as much as a call, so that none of them is a way around the limit."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from city_hall.surfaces.mcp.channels import Address
from foundations.errors import CityError
from foundations.invocation import Limits
from foundations.operations import Caller

_LIMIT = "calls"
_TAKEN_ELSEWHERE = frozenset((
    "tools/call", "resources/read", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen",
))  # fmt: skip
"""What takes its credit where it is carried out, and is refused there in MCP's words."""


class _Named(msgspec.Struct):
    name: str = ""
    uri: str = ""


class _Message(msgspec.Struct):
    method: str = ""
    params: _Named = msgspec.field(default_factory=_Named)


_message = msgspec.json.Decoder(_Message)


async def admit(limits: Limits, caller: Caller, body: bytes, is_tool: Callable[[str], object]) -> None:
    """Takes the credit of a message for which nothing else does: greetings, lists, cancellations, what nobody
    understands, and what names no tool and no resource.

    Raises:
        RateLimited, Unavailable: as `spend`.
    """
    try:
        message = _message.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        message = _Message()
    if message.method not in _TAKEN_ELSEWHERE or _is_for_nothing(message, is_tool):
        await spend(limits, caller)


def _is_for_nothing(message: _Message, is_tool: Callable[[str], object]) -> bool:
    if message.method == "tools/call":
        return not is_tool(message.params.name)
    if message.method == "resources/read":
        try:
            Address.parse(message.params.uri)
        except CityError:
            return True
    return False


async def spend(limits: Limits, caller: Caller) -> None:
    """Takes one call's credit.

    Raises:
        RateLimited: there is none.
        Unavailable: nobody can tell.
    """
    credit = limits.credit(caller, _LIMIT)
    if not credit.spend():
        await credit.refill()
