"""A storm simulated: clients that have lost their sockets come back to instances, by the protocol's rules.

It is a model of queues and back-offs in which clients are counted and not made, fed with measured costs; networks,
kernels and balancers cost nothing in it. What can be measured on one machine is a case instead (`cases.resume`).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

STEP_SECONDS = 0.05
FIRST_CEILING, LAST_CEILING = 0.5, 20.0
"""The protocol's back-off: full jitter between nothing and a ceiling that doubles from the first to the last."""
MOST_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """What comes, and what it comes to."""

    clients: int
    instances: int
    a_second: float
    """Connections that one instance admits in a second, beside what else it does."""
    store_a_second: float
    """Connections that the store registers in a second, of all instances together."""
    patience_seconds: float = 10.0
    """A handshake that has waited so long is refused (`SMART_CITY_HANDSHAKE_SECONDS`)."""
    refusal_share: float = 0.1
    """What a refused handshake costs, as a share of an admitted one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How it went: seconds until so many were back, the longest queue of one instance, refusals per client."""

    half_seconds: float
    most_seconds: float
    """Until 99 % were back."""
    queue: float
    refusals: float


class _Home:
    """Those who wait before their next attempt: how many come in each step, by how often they have tried."""

    def __init__(self) -> None:
        self._due: dict[int, dict[int, float]] = {}

    def take(self, count: float, attempt: int, step: int) -> None:
        """Spreads them evenly over the back-off of their next attempt."""
        ceiling = min(LAST_CEILING, FIRST_CEILING * 2.0**attempt)
        steps = max(1, round(ceiling / STEP_SECONDS))
        for later in range(1, steps + 1):
            due = self._due.setdefault(step + later, {})
            due[attempt + 1] = due.get(attempt + 1, 0.0) + count / steps

    def leaving(self, step: int) -> dict[int, float]:
        return self._due.pop(step, {})


class _Instance:
    """One instance with its share of the clients and of the store: a queue that is served in order."""

    def __init__(self, storm: Storm) -> None:
        self._room = min(storm.a_second, storm.store_a_second / storm.instances) * STEP_SECONDS
        self._patience = round(storm.patience_seconds / STEP_SECONDS)
        self._refusal_share = storm.refusal_share
        self._queue: deque[tuple[int, int, float]] = deque()
        self.home = _Home()
        self.back = self.refused = self.longest = 0.0

    def step(self, now: int) -> None:
        """What one moment brings and lets through."""
        self._queue.extend((now, attempt, count) for attempt, count in self.home.leaving(now).items())
        self.longest = max(self.longest, sum(count for _, _, count in self._queue))
        room = self._room
        while self._queue and room > 0:
            since, attempt, count = self._queue.popleft()
            is_late = now - since > self._patience
            cost = self._refusal_share if is_late else 1.0
            taken = min(count, room / cost)
            room -= taken * cost
            if is_late:
                self.refused += taken
                self.home.take(taken, attempt, now)
            else:
                self.back += taken
            if taken < count:
                self._queue.appendleft((since, attempt, count - taken))


def simulate(storm: Storm) -> Outcome:
    """Runs the model until 99 % are back; after an hour it says infinity. All instances are alike, so one is run."""
    clients = storm.clients / storm.instances
    instance = _Instance(storm)
    instance.home.take(clients, 0, 0)
    half_at = most_at = math.inf
    for now in range(1, round(MOST_SECONDS / STEP_SECONDS)):
        instance.step(now)
        if half_at == math.inf and instance.back >= clients / 2:
            half_at = now * STEP_SECONDS
        if instance.back >= 0.99 * clients:
            most_at = now * STEP_SECONDS
            break
    return Outcome(
        half_seconds=half_at, most_seconds=most_at, queue=instance.longest, refusals=instance.refused / clients
    )
