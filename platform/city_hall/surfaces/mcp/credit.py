"""What requests cost that are no operations: each as much as a call, so that none of them is a way around the limit."""

from __future__ import annotations

from collections.abc import Callable

from city_hall.surfaces.mcp.channels import Address
from city_hall.surfaces.mcp.envelopes import Envelope
from foundations.errors import CityError
from foundations.invocation import Limits
from foundations.operations import Caller

_LIMIT = "calls"
_TAKEN_ELSEWHERE = frozenset((
    "tools/call", "resources/read", "resources/subscribe", "resources/unsubscribe", "subscriptions/listen",
))  # fmt: skip
"""What takes its credit where it is carried out, and is refused there in MCP's words."""


async def admit(limits: Limits, caller: Caller, message: Envelope, is_tool: Callable[[str], object]) -> None:
    """Takes the credit of a message for which nothing else does: greetings, lists, cancellations, what nobody
    understands, and what names no tool and no resource.

    Raises:
        RateLimited, Unavailable: as `spend`.
    """
    if message.method not in _TAKEN_ELSEWHERE or _is_for_nothing(message, is_tool):
        await spend(limits, caller)


def _is_for_nothing(message: Envelope, is_tool: Callable[[str], object]) -> bool:
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
