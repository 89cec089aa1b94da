"""What people who use the platform cost it together, and how many instances and Valkey primaries that makes.

It is arithmetic over measured costs and an assumed way of using it; nothing here was run at these sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.costs import Cost, Costs

CORE = 1e6
"""Microseconds of CPU in a second of one core."""
USED_SHARE = 0.6
"""How much of a core is planned with: the rest is for bursts and for those that come back."""
MOST_CONNECTIONS = 50_000
"""Of one instance, `SMART_CITY_MAX_CONNECTIONS` by default."""
HEARTBEAT_SECONDS = 25
HEARTBEAT_BYTES = 24 + 2 + 6
"""A heartbeat's frame, a ping and its pong."""
HEADERS_BYTES = 66
"""Ethernet, IPv4 and TCP with timestamps, of each packet; its acknowledgement is another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """How one connection uses the platform, each second."""

    hears: float
    """Publications delivered to it."""
    audience: float
    """How many hear each of them."""
    asks: float
    """Questions that an agent answers."""
    stays_seconds: float
    """How long it stays until it connects anew."""

    def cost(self, costs: Costs, *, is_cluster: bool) -> Cost:
        """CPU of one connection in one second."""
        idle = costs.idle_second_on_cluster if is_cluster else costs.idle_second
        return (
            idle.plus(costs.delivery.times(self.hears))
            .plus(costs.publication_on_socket.times(self.hears / self.audience))
            .plus(costs.answered_question.times(self.asks))
            .plus(costs.connecting.times(1 / self.stays_seconds))
        )

    def bytes_a_second(self, costs: Costs) -> float:
        """What one connection takes of the network, headers and acknowledgements included."""
        frames = self.hears + 2 * self.asks
        heartbeats = (HEARTBEAT_BYTES + 4 * HEADERS_BYTES) / HEARTBEAT_SECONDS
        return heartbeats + frames * (costs.delivery_bytes + 2 * HEADERS_BYTES)


CHAT = Use(hears=0.1, audience=1000, asks=1 / 60, stays_seconds=1800)
"""People who talk with agents: a question a minute, a publication every ten seconds, half an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What so many connections take."""

    connections: int
    instances: int
    """Each one process on a core of its own."""
    bound_by: str
    """What decides their number: `CPU`, or the connections that one may have."""
    primaries: int
    """Valkey servers, each one core."""
    gateway_bytes: float
    store_bytes: float
    """Sessions and registry; logs come on top (`SMART_CITY_HISTORY_BYTES` of each channel at most)."""
    bits_a_second: float


def plan(costs: Costs, connections: int, use: Use = CHAT) -> Plan:
    """How many instances and primaries carry so many connections with room to spare: one Valkey if that is enough."""
    alone = plan_on(costs, connections, use, is_cluster=False)
    return alone if alone.primaries == 1 else plan_on(costs, connections, use, is_cluster=True)


def plan_on(costs: Costs, connections: int, use: Use = CHAT, *, is_cluster: bool) -> Plan:
    """The same, on a single Valkey whatever it takes, or on a cluster."""
    each = use.cost(costs, is_cluster=is_cluster)
    by_cpu = math.ceil(connections * each.gateway / (USED_SHARE * CORE))
    by_count = math.ceil(connections / MOST_CONNECTIONS)
    return Plan(
        connections=connections,
        instances=max(by_cpu, by_count),
        bound_by="CPU" if by_cpu >= by_count else "connections",
        primaries=math.ceil(connections * each.store / (USED_SHARE * CORE)),
        gateway_bytes=connections * costs.idle_bytes.gateway,
        store_bytes=connections * (costs.idle_bytes.store + costs.session_bytes),
        bits_a_second=8 * connections * use.bytes_a_second(costs),
    )


def most_instances(costs: Costs, *, share: float = USED_SHARE) -> float:
    """How many instances one fleet may have until its membership alone takes ``share`` of the node that keeps it.

    Every instance learns of all others each second, so that the whole grows with their square. Infinite where an
    instance in the largest fleet that was measured costs no more than one in the smallest.
    """
    small, large = min(costs.beats), max(costs.beats)
    each_more = (costs.beats[large].store - costs.beats[small].store) / (large - small)
    alone = costs.beats[small].store - each_more * small
    if each_more <= 0:
        return math.inf
    return math.floor((-alone + math.sqrt(alone**2 + 4 * each_more * share * CORE)) / (2 * each_more))
