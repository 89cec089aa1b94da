"""How long Valkey may be away before somebody is told: long enough for a restart, and never without a bound.

Whatever is asked here may be asked again, since it reads, or carries a sequence that makes a repeat harmless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from foundations.errors import Overloaded, Unavailable

Reply = TypeVar("Reply")

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """For how many seconds Valkey is asked again, and how many entries and bytes may wait for it meanwhile.

    An embedded Valkey restarts in 35 ms; one command is given up after a second, and then there is time for
    another.
    """

    seconds: float = 1.5
    entries: int = 20_000
    bytes: int = 32 * 1024 * 1024

    async def until_answered(
        self, ask: Callable[[], Awaitable[Reply]], *, is_repeated: bool = False, since: float | None = None
    ) -> Reply:
        """Asks until there is an answer; ``is_repeated`` if it was asked in vain before.

        A store that is full refuses also what it has carried out before, so that from the second time on this is none.
        The patience counts from ``since`` on the loop's clock, or from now.

        Raises:
            Unavailable: there was none; whether what was asked was done is not known.
            Overloaded: the store is full, and nothing was done.
        """
        clock = asyncio.get_running_loop().time
        deadline, pause = (clock() if since is None else since) + self.seconds, FIRST_PAUSE
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await ask()
            except (Unavailable, TimeoutError, Overloaded) as error:
                if isinstance(error, Overloaded) and not is_repeated:
                    raise
                if clock() + pause >= deadline:
                    raise Unavailable("Valkey does not answer", retry_after=1) from error
            is_repeated = True
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
