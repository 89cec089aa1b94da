"""The CPU that a subject spends while something is done, shared out among how often it was done.

It looks at whole processes: whatever else they do meanwhile (heartbeats, leases, collecting garbage) is in the price.
"""

from __future__ import annotations

from benchmarks.measure import cpu_ns
from benchmarks.subjects import Subject

SECOND_NS = 1e9


class Spending:
    """What the server and its store spend from now on."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._server = cpu_ns(subject.processes)
        self._store = cpu_ns(subject.store)

    def each(self, name: str, count: float) -> dict[str, float]:
        """Figures: µs of the server for each of ``count``, of the store, and how many a core of the server carries."""
        server = cpu_ns(self._subject.processes) - self._server
        store = cpu_ns(self._subject.store) - self._store
        return {
            name: server / count / 1e3,
            f"{name}_store": store / count / 1e3,
            f"{name}_a_second": count / server * SECOND_NS,
        }
