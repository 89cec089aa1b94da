"""What requests cost that are no operations: each as much as a call, so that none of them is a way around the limit."""

from __future__ import annotations

from foundations.invocation import Limits
from foundations.operations import Caller

_LIMIT = "calls"


async def spend(limits: Limits, caller: Caller) -> None:
    """Takes one call's credit.

    Raises:
        RateLimited: there is none.
        Unavailable: nobody can tell.
    """
    credit = limits.credit(caller, _LIMIT)
    if not credit.spend():
        await credit.refill()
