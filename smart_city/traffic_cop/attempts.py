"""Failed attempts to prove who one is, counted by address, so that guessing tokens from one place is slowed.

Who succeeds costs nothing, however many share an address. While an address has used up its failures, what it
brings is not looked up at all, unless that was good here a short while ago.
"""

from __future__ import annotations

from smart_city.traffic_cop.limits import Limits


class Attempts:
    """The failures of every address. One that is not known (a Unix socket's) is held to nothing."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def check(self, address: str) -> None:
        """Lets an address try.

        Raises:
            RateLimited: too much from there has failed lately.
        """
        if address:
            self._limits.failures(address).check()

    async def failed(self, address: str) -> None:
        """Counts a failure.

        Raises:
            RateLimited: it was one too many, and is answered with this instead.
        """
        if address:
            credit = self._limits.failures(address)
            if not credit.spend():
                await credit.refill()
