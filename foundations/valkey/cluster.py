"""A Valkey cluster as one store: each command goes to the node that serves its slot, wherever that is by now.

It follows slots that move and primaries that change, and deliberately sends nothing again that may have been carried
out: a node that redirects has done nothing, one that falls silent is its caller's affair.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Sequence

import hiredis
from redis.asyncio import ConnectionPool

from foundations.errors import CityError, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import topology
from foundations.valkey.address import Address, Endpoint
from foundations.valkey.line import Figures
from foundations.valkey.replicas import Copies
from foundations.valkey.routing import key_of
from foundations.valkey.slot_table import Node, SlotTable
from foundations.valkey.slots import SLOTS, slot_of
from foundations.valkey.wire import Argument, Reply

_log = logging.getLogger("smart_city.valkey.cluster")

MOST_REDIRECTIONS = 5
LOOKING_SECONDS = 10.0
"""How often the nodes are asked where the slots are when nothing is the matter."""
BREATH_SECONDS = 0.1
"""The least between two times that they are asked."""

_UNWELL = frozenset(("CLUSTERDOWN", "READONLY", "MASTERDOWN", "LOADING"))
"""Refusals of a node that may no longer be the right one to ask."""


class Cluster:
    """The nodes of a cluster as one store.

    Commands of one slot are carried out in the order in which they were asked, also when the slot moves at once to
    another node meanwhile: what comes after the first MOVED waits until those on the way have their replies. While a
    slot moves key by key, that holds for each key. Whoever is not answered knows nothing, as on a single server.
    """

    is_cluster = True

    def __init__(self, address: Address, *, seconds: float, copies: Copies | None = None) -> None:
        self.figures = Figures()
        self._address = address
        self._seconds = seconds
        self._table = SlotTable(address, seconds=seconds, figures=self.figures, copies=copies)
        self._tasks = Tasks("cluster")
        self._is_stale = asyncio.Event()

    @property
    def moved(self) -> list[Callable[[], None]]:
        """Whom to call when a slot has another home than before."""
        return self._table.moved

    async def open(self) -> None:
        """Learns the cluster from the nodes that the URL names.

        Raises:
            Unavailable: none of them answers, or a part of the slots is not served.
            WrongStore: it is no cluster.
        """
        await self._look()
        self._check_served()
        self._tasks.start("topology", self._keep_looking)

    def ask_copied(self, command: Sequence[Argument]) -> Awaitable[Reply]:
        """The same, answered once replicas have it."""
        return self.ask(command, copied=True)

    async def ask(self, command: Sequence[Argument], *, copied: bool = False) -> Reply:
        """Sends a command to where its key lies, and after it when that has moved.

        Raises:
            Unavailable: as with `Pipe.ask`, or nobody serves that slot.
            Overloaded: too many commands wait already.
        """
        deadline = asyncio.get_running_loop().time() + self._seconds
        try:
            node = await self._node_for(command, deadline)
            pipe = node.copied if copied else node.pipe
            reply = await pipe.ask(command, deadline)
            if isinstance(reply, hiredis.ReplyError):
                return await self._followed(command, reply, node, deadline, copied=copied)
        except Unavailable:
            self.look_again()
            raise
        return reply

    def begin(
        self, command: Sequence[Argument], seconds: float, *, copied: bool = False
    ) -> asyncio.Future[Reply] | None:
        """The first reply, where the command's slot stays and a connection stands; a redirection is not followed.

        Raises:
            Overloaded: too many commands wait already.
        """
        key = key_of(command)
        slot = None if key is None else slot_of(key)
        owner = None if slot is None or not self._table.is_settled(slot) else self._table.owners[slot]
        if owner is None:
            return None
        return (owner.copied if copied else owner.pipe).begin(command, seconds)

    async def ask_each(self, command: Sequence[Argument]) -> list[Reply]:
        """Sends a command to every primary.

        Raises:
            Unavailable: a part of the slots is not served; the sentence says how many, and who is away.
        """
        primaries = self._table.primaries
        replies = await asyncio.gather(*(node.pipe.ask(command) for node in primaries), return_exceptions=True)
        away = {node: reply for node, reply in zip(primaries, replies, strict=True) if isinstance(reply, CityError)}
        self._check_served(away)
        return replies

    def homes(self) -> Sequence[ConnectionPool]:
        """How to connect to each primary."""
        return [node.pool for node in self._table.primaries]

    def home_of(self, name: bytes) -> ConnectionPool | None:
        """How to connect to the primary of a key or shard channel; `None` while there is none."""
        owner = self._table.owners[slot_of(name)]
        return None if owner is None else owner.pool

    def redirected(self, refusal: str, asked: ConnectionPool) -> None:
        """Takes what a MOVED says that somebody else's connection got."""
        if (node := self._table.node_of(asked)) is not None:
            self._moved(refusal, node)

    def look_again(self) -> None:
        """Asks the nodes soon where the slots are now."""
        self._is_stale.set()

    async def close(self) -> None:
        """Closes every connection."""
        await self._tasks.close()
        for node in self._table.nodes.values():
            await node.close()

    # Where to

    async def _node_for(self, command: Sequence[Argument], deadline: float) -> Node:
        table = self._table
        key = key_of(command)
        if key is None:
            if table.primaries:
                return next((node for node in table.primaries if node.pipe.is_open), table.primaries[0])
        else:
            slot = slot_of(key)
            if not table.is_settled(slot):
                await table.settled(slot, deadline)
            if (owner := table.owners[slot]) is not None:
                return owner
        self.figures.failures += 1
        raise Unavailable(f"{table.unserved} of {SLOTS} slots of the Valkey cluster are served by no node")

    async def _followed(
        self, command: Sequence[Argument], refusal: hiredis.ReplyError, node: Node, deadline: float, *, copied: bool
    ) -> Reply:
        """Goes where the nodes send it: who sends it on has not carried the command out."""
        for _ in range(MOST_REDIRECTIONS):
            code = str(refusal).partition(" ")[0]
            if code == "MOVED":
                node = self._moved(str(refusal), node)
            elif code == "ASK":
                node = self._table.node(_redirection(str(refusal), node)[1])
            else:
                if code in _UNWELL:
                    self.look_again()
                return refusal
            pipe = node.copied if copied else node.pipe
            reply = await pipe.ask(command, deadline, imported=code == "ASK")
            if not isinstance(reply, hiredis.ReplyError):
                return reply
            refusal = reply
        raise Unavailable(f"The nodes of the Valkey cluster send a command in circles: {refusal}")

    def _moved(self, refusal: str, asked: Node) -> Node:
        """Notes the new owner of a slot, and returns it."""
        self.look_again()
        slot, endpoint = _redirection(refusal, asked)
        owner = self._table.node(endpoint)
        if self._table.owners[slot] is not owner:
            self._table.hand_over({slot: owner})
        return owner

    def _check_served(self, away: Collection[Node] = ()) -> None:
        missing = self._table.unserved + self._table.slots_of(away)
        if missing or not self._table.primaries:
            self.look_again()
            names = ", ".join(str(node.endpoint) for node in away)
            why = f": {names} does not answer" if names else " by any node"
            raise Unavailable(f"{missing} of {SLOTS} slots of the Valkey cluster are not served{why}")

    # The topology

    async def _keep_looking(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOKING_SECONDS):
                    await self._is_stale.wait()
            except TimeoutError:
                pass
            self._is_stale.clear()
            try:
                await self._look()
            except CityError as error:
                _log.debug("no node tells the topology: %s", error)
            await asyncio.sleep(BREATH_SECONDS)

    async def _look(self) -> None:
        """Asks all nodes that are known, and the named ones when none of those answers."""
        known = list(self._table.nodes)
        try:
            found = await self._newest(known or self._address.seeds)
        except Unavailable:
            if not known:
                raise
            found = await self._newest(self._address.seeds)
        for node in self._table.take(found):
            self._tasks.spawn(f"retire {node.endpoint}", self._retire(node))

    async def _newest(self, endpoints: Collection[Endpoint]) -> topology.Topology:
        deadline = asyncio.get_running_loop().time() + self._seconds
        asked = [(endpoint, self._table.node(endpoint).pipe) for endpoint in endpoints]
        return await topology.newest(asked, deadline)

    async def _retire(self, node: Node) -> None:
        """Closes a node that has left the cluster, once those who still wait on it have their replies."""
        if waiting := node.unanswered():
            await asyncio.wait(waiting, timeout=self._seconds)
        await node.close()


def _redirection(refusal: str, asked: Node) -> tuple[int, Endpoint]:
    """The slot and the node of a MOVED or ASK; no host means the one that was asked."""
    _, slot, target = refusal.split(" ")[:3]
    host, _, port = target.rpartition(":")
    return int(slot), Endpoint(asked.endpoint.host if host in ("", "?") else host, int(port))
