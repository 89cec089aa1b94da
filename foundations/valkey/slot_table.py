"""The nodes of a cluster and who of them serves which slot, as far as it is known here.

It neither asks nor sends: `cluster` tells it what was learnt, and finds in it where to send.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from redis.asyncio import ConnectionPool

from foundations.errors import Unavailable
from foundations.valkey.address import Address, Endpoint
from foundations.valkey.line import Figures
from foundations.valkey.pipe import Pipe
from foundations.valkey.replicas import Copies
from foundations.valkey.slots import SLOTS
from foundations.valkey.topology import Topology
from foundations.valkey.wire import Reply


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One node, the connection on which everybody's commands to it go, and the one for writes that are copied."""

    endpoint: Endpoint
    pool: ConnectionPool
    pipe: Pipe
    copied: Pipe

    def unanswered(self) -> list[asyncio.Future[Reply]]:
        """The last commands on each connection that still wait for their replies."""
        return [*self.pipe.unanswered(), *self.copied.unanswered()]

    async def close(self) -> None:
        """Closes both connections."""
        await self.copied.close()
        await self.pipe.close()


@dataclass(slots=True)
class _Queue:
    """Who waits for one slot; the turn goes to them in the order in which they came."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    length: int = 0


class SlotTable:
    """Who serves which slot. ``moved`` is called whenever a slot has another owner than before, or none."""

    def __init__(self, address: Address, *, seconds: float, figures: Figures, copies: Copies | None = None) -> None:
        self.moved: list[Callable[[], None]] = []
        self.nodes: dict[Endpoint, Node] = {}
        self.primaries: Sequence[Node] = ()
        self.owners: list[Node | None] = [None] * SLOTS
        self._address = address
        self._seconds = seconds
        self._figures = figures
        self._copies = copies
        self._settling: dict[int, asyncio.Future[list[object]]] = {}
        """Slots that have moved while commands were on the way to their former node, until those are answered."""
        self._queues: dict[int, _Queue] = {}
        """Those who wait for that, by slot. As long as there are any, who comes later queues behind them."""

    def node(self, endpoint: Endpoint) -> Node:
        """The node at an address, which may be a new one."""
        if (known := self.nodes.get(endpoint)) is None:
            pool = self._address.pool_of(endpoint)
            pipe = Pipe(pool, seconds=self._seconds, figures=self._figures)
            copied = Pipe(pool, seconds=self._seconds, figures=self._figures, copies=self._copies)
            known = Node(endpoint, pool, pipe, copied)
            self.nodes[endpoint] = known
        return known

    def node_of(self, pool: ConnectionPool) -> Node | None:
        """The node that these connections lead to, as long as it is part of the cluster."""
        return next((node for node in self.nodes.values() if node.pool is pool), None)

    @property
    def unserved(self) -> int:
        """How many slots nobody serves."""
        return self.owners.count(None)

    def slots_of(self, nodes: Collection[Node]) -> int:
        """How many slots these nodes serve together."""
        return sum(owner in nodes for owner in self.owners)

    def take(self, topology: Topology) -> list[Node]:
        """Follows a newer topology; the nodes that are no longer part of it are returned, to be closed."""
        owners: list[Node | None] = [None] * SLOTS
        for found in topology.ranges:
            owners[found.first : found.last + 1] = [self.node(found.primary)] * (found.last - found.first + 1)
        if owners != self.owners:
            pairs = enumerate(zip(owners, self.owners, strict=True))
            self.hand_over({slot: owner for slot, (owner, former) in pairs if owner is not former})
            self.primaries = list(dict.fromkeys(filter(None, owners)))
        known = {self.node(endpoint).endpoint for endpoint in topology.endpoints()}
        return [self.nodes.pop(endpoint) for endpoint in self.nodes.keys() - known]

    def hand_over(self, changes: Mapping[int, Node | None]) -> None:
        """Gives slots to other owners. Who asks for them from now on waits for those who asked before."""
        barriers: dict[Node, asyncio.Future[list[object]] | None] = {}
        for slot, owner in changes.items():
            former, self.owners[slot] = self.owners[slot], owner
            if former is None:
                continue
            if former not in barriers:
                waiting = former.unanswered()
                barriers[former] = asyncio.gather(*waiting, return_exceptions=True) if waiting else None
            if (barrier := barriers[former]) is not None:
                self._settling[slot] = barrier
        for settled in filter(None, barriers.values()):
            settled.add_done_callback(self._forget)
        new = set(filter(None, changes.values())).difference(self.primaries)
        self.primaries = [*self.primaries, *new]  # one that has nothing left is found out with the next topology
        for callback in self.moved:
            callback()

    def is_settled(self, slot: int) -> bool:
        """Whether all who asked for a slot before it moved have their replies, and nobody waits for that any more."""
        return slot not in self._settling and slot not in self._queues

    async def settled(self, slot: int, deadline: float) -> None:
        """Waits until it is, and for one's turn; whoever then asks at once keeps the order.

        Raises:
            Unavailable: not before the deadline.
        """
        queue = self._queues.setdefault(slot, _Queue())
        queue.length += 1
        try:
            async with asyncio.timeout_at(deadline), queue.turn:
                while (barrier := self._settling.get(slot)) is not None:
                    await asyncio.wait([barrier])
        except TimeoutError:
            self._figures.failures += 1
            raise Unavailable("A slot of the Valkey cluster is moving, and its former node does not answer") from None
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[slot]

    def _forget(self, settled: asyncio.Future[list[object]]) -> None:
        self._settling = {slot: barrier for slot, barrier in self._settling.items() if barrier is not settled}
