"""What requests cost that are no operations: each as much as a call, so that none of them is a way around the limit."""

from __future__ import annotations

import msgspec

from foundations.invocation import Limits
from foundations.operations import Caller

_LIMIT = "calls"
_TAKEN_ELSEWHERE = frozenset((
    "tools/call", "resources/read", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen",
    "notifications/cancelled",
))  # fmt: skip
"""What takes its credit where it is carried out, and is refused there in MCP's words."""


class _Message(msgspec.Struct):
    method: str = ""


_method = msgspec.json.Decoder(_Message)


async def admit(limits: Limits, caller: Caller, body: bytes) -> None:
    """Takes the credit of a message for which nothing else does: greetings, lists, and what nobody understands.

    Raises:
        RateLimited, Unavailable: as `spend`.
    """
    try:
        method = _method.decode(body).method
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        method = ""
    if method not in _TAKEN_ELSEWHERE:
        await spend(limits, caller)


async def spend(limits: Limits, caller: Caller) -> None:
    """Takes one call's credit.

    Raises:
        RateLimited: there is none.
        Unavailable: nobody can tell.
    """
    credit = limits.credit(caller, _LIMIT)
    if not credit.spend():
        await credit.refill()
