"""The platform's figures as plain integers, which the hot path increments directly.

It deliberately uses no metrics library: an integer costs 20 ns, a labelled Prometheus counter 900 ns and an
OpenTelemetry instrument 2 to 4 µs. `exposition` reads the integers when somebody asks; the Traffic Cop's
recorder compares them every few seconds with what they were.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

BUCKETS: tuple[float, ...] = (
    *(float(f"{step}e{decade}") for decade in range(-4, 1) for step in (1, 1.5, 2.5, 3.5, 5, 7.5)), 10.0, 15.0, 30.0,
)  # fmt: skip
"""Upper bounds of the latency buckets in seconds, six to a decade; one more, without a bound, follows them."""
MOST_NAMES = 100
"""Operations or channels with figures of their own; the rest share those of `OTHER`."""
OTHER = "other"


class Histogram:
    """How often a duration fell into each of `BUCKETS`, and the sum of all durations, in seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Counts one duration; a bound belongs to the bucket below it, as in Prometheus."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many durations were counted."""
        return sum(self.counts)


class Tally:
    """The figures of one operation or channel: how many, what was refused by error code, and how long it took."""

    __slots__ = ("count", "latency", "refusals")

    def __init__(self) -> None:
        self.count = 0
        self.refusals: dict[str, int] = {}
        self.latency = Histogram()

    def refused(self, code: str) -> None:
        """Counts one that ended with an error."""
        self.refusals[code] = self.refusals.get(code, 0) + 1


class Counters:
    """Everything that one instance counts. One object, made by the composition root, incremented in place.

    What is ``…_active`` or ``…_lagging`` also falls, and nothing else. The latency of a channel is the time of a frame
    from its arrival here to its acknowledgement.
    """

    __slots__ = (
        "answers", "appended", "channels", "circuits_opened", "closes", "connections_active", "connections_lagging",
        "connections_total", "dead_letters", "deliveries", "errors", "event_streams_active", "event_streams_total",
        "handshake_refusals", "handshakes", "lags", "listeners_active",
        "messages_received", "messages_sent", "operations", "responses",
    )  # fmt: skip

    def __init__(self) -> None:
        self.connections_active = 0
        self.connections_lagging = 0
        self.connections_total = 0
        self.lags = 0
        """How often a connection fell behind."""
        self.event_streams_active = 0
        self.event_streams_total = 0
        self.listeners_active = 0
        self.messages_received = 0
        self.messages_sent = 0
        self.errors = 0
        self.appended = 0
        self.deliveries = 0
        self.answers = 0
        self.dead_letters = 0
        self.circuits_opened = 0
        self.handshakes = Histogram()
        """From a handshake that can be read to its welcome."""
        self.handshake_refusals: Counter[str] = Counter()
        """By error code."""
        self.closes: Counter[str] = Counter()
        """By close code; codes that a client makes up are `OTHER`."""
        self.responses: Counter[int] = Counter()
        """By HTTP status."""
        self.operations: dict[str, Tally] = {}
        self.channels: dict[str, Tally] = {}

    def operation(self, name: str) -> Tally:
        """The figures of the operation ``service.name``, begun at its first use."""
        return self.operations.get(name) or _begun(self.operations, name)

    def channel(self, name: str) -> Tally:
        """The figures of a channel. Names that are as many as users are folded by whoever asks."""
        return self.channels.get(name) or _begun(self.channels, name)

    @property
    def latency(self) -> Histogram:
        """The latency of messages on all channels together."""
        whole = Histogram()
        for tally in self.channels.values():
            whole.counts = [one + more for one, more in zip(whole.counts, tally.latency.counts, strict=True)]
            whole.total += tally.latency.total
        return whole


def _begun(tallies: dict[str, Tally], name: str) -> Tally:
    known = name if len(tallies) < MOST_NAMES else OTHER
    return tallies.get(known) or tallies.setdefault(known, Tally())
