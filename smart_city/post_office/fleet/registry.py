"""The registry: this instance's connections as operators and other instances see them in the store.

A connection stands here right before its welcome and is gone right after its close; whatever its instance
can no longer remove goes with the instance's lease. Writes of one turn of the loop share a call.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from foundations.errors import CityError, NotFound, Overtaken, TooManyConnections
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.fleet.directory import OVERTAKEN, STANDS, Directory, Registered
from smart_city.post_office.fleet.ownership import Claim, Ownership, Taken
from smart_city.post_office.fleet.subscribers import Subscribers
from smart_city.post_office.rounds import Rounds, resolve

_log = logging.getLogger(__name__)
AT_ONCE = 500
"""Connections in one script call."""
RENEWALS_A_LEASE = 5 / 3
"""As few as leave time for another try: each costs Valkey 4 µs a connection (case: idle connections)."""
RETRIES_A_LEASE = 10
"""A renewal that failed is tried again so soon that it comes before the lease ends, also after a timeout of a second.

Then ever later: a store that is overloaded is not asked more often than one that is not."""
NEXT_AFTER_SECONDS = 0.02
"""Renewals go one after the other, but of a cluster one node may hang: the next ones do not wait for it."""
RETRY_AFTER = 5.0
Item = TypeVar("Item")


class _Arrival(NamedTuple):
    connection: Registered
    told: asyncio.Future[int]


class _Wanted(NamedTuple):
    connection_id: str
    user_id: str
    told: asyncio.Future[Taken | None]


class _Departure(NamedTuple):
    claim: Claim
    may_return: bool


class Registry:
    """Writes this instance's connections, and reads anybody's."""

    def __init__(
        self, valkey: Valkey, ownership: Ownership, subscribers: Subscribers, tasks: Tasks, *, instance_id: str,
        lease_seconds: float, claim_seconds: float, most_per_user: int,
    ) -> None:  # fmt: skip
        self.subscribers = subscribers
        self._ownership = ownership
        self._tasks = tasks
        self._lease = round(lease_seconds * 1000)
        self._claim_seconds = claim_seconds
        self._most = most_per_user
        self._directory = Directory(
            valkey, instance_id=instance_id, lease_seconds=lease_seconds, most_per_user=most_per_user
        )
        self._connections: dict[str, Registered] = {}
        self._stale: set[str] = set()
        self._claimed_at = float("-inf")
        self._arriving = Rounds("the registry", tasks, self._write, _tell)
        self._changing = Rounds("the registry's changes", tasks, self._rewrite_waiting, _tell)
        self._taking = Rounds("the resumption of connections", tasks, self._take_over, _tell)
        self._leaving: list[_Departure] = []
        """Closed in this turn."""
        self._stranded: list[_Departure] = []
        """Closed before, and not taken out yet: their part of the store is away."""
        self.overtaken: list[Callable[[Registered], None]] = []
        """Told of each connection here that somebody else owns by now."""
        self.took_over: list[Callable[[str, str, int], None]] = []
        """Told of each connection taken over from another instance: from whom, which, and under which fence."""

    def start(self) -> None:
        """Begins to renew what stands here."""
        self._tasks.start("renew connections", self._keep)

    # Connections

    async def take_over(self, connection_id: str, user_id: str) -> Taken | None:
        """Makes this instance the owner of a user's connection whose resume window has not ended; None if it cannot.

        `add` follows, or `remove`.

        Raises:
            Unavailable: the store did not answer. If it took the call, the connection can be resumed again.
        """
        wanted = _Wanted(connection_id, user_id, _answer())
        self._taking.add(wanted)
        taken = await wanted.told
        if taken is not None and taken.holder not in {"", self._ownership.member}:
            for tell in self.took_over:
                tell(taken.holder, connection_id, taken.fence)
        return taken

    async def add(self, connection: Registered) -> None:
        """Writes a connection and makes this instance the owner of its log.

        Raises:
            TooManyConnections: its user has as many as one may have.
            Overtaken: somebody else has resumed it meanwhile.
            Unavailable: the store did not answer.
        """
        arrival = _Arrival(connection, _answer())
        self._arriving.add(arrival)
        outcome = await arrival.told
        known = self._connections.get(connection.connection_id, connection)
        if outcome == OVERTAKEN or known.fence > connection.fence:
            raise Overtaken("another socket took over this connection; come back without resume")
        if outcome != STANDS:
            raise TooManyConnections(
                f"{connection.user_id} has {self._most} connections already; close one first",
                retry_after=RETRY_AFTER,
            )
        self._connections[connection.connection_id] = connection

    async def update(self, connection: Registered) -> None:
        """Writes a connection again whose channels have changed."""
        if self._holds(connection):
            change = _Arrival(connection, _answer())
            self._changing.add(change)
            await change.told

    def heard(self, connection: Registered) -> None:
        """The connection answered a heartbeat; it is written with the next renewal."""
        if self._holds(connection):
            self._stale.add(connection.connection_id)

    def remove(self, connection: Registered, *, may_return: bool = False) -> None:
        """Takes a connection out, soon: it has closed, or was never admitted and may be half written.

        One that may return can be resumed until its window ends.
        """
        if self._holds(connection):
            self._drop(connection)
        if not self._leaving:
            asyncio.get_running_loop().call_soon(lambda: self._tasks.spawn("remove connections", self._depart_now()))
        self._leaving.append(_Departure(_claim(connection), may_return))

    def overtake(self, connection_id: str, fence: int) -> None:
        """Somebody says that this connection has a newer owner."""
        connection = self._connections.get(connection_id)
        if connection is not None and connection.fence < fence:
            self._give_up(connection)

    def _holds(self, connection: Registered) -> bool:
        return self._connections.get(connection.connection_id) is connection

    def _drop(self, connection: Registered) -> None:
        del self._connections[connection.connection_id]
        self._stale.discard(connection.connection_id)

    def _give_up(self, connection: Registered) -> None:
        if self._holds(connection):
            self._drop(connection)
            for tell in self.overtaken:
                tell(connection)

    # Writing

    async def _take_over(self, wanted: Sequence[_Wanted]) -> list[Taken | None]:
        return await self._ownership.take_over([(each.connection_id, each.user_id) for each in wanted])

    async def _write(self, arrivals: Sequence[_Arrival]) -> list[int]:
        """Writes connections for the first time, and that their logs are owned here.

        All is sent in one turn, so that the end of a connection, which is sent later, also arrives later. One that
        nobody waits for any more is not written at all.
        """
        living = [each.connection for each in arrivals if not each.told.done()]
        if not living:
            return [0] * len(arrivals)
        owned, outcomes, _ = await asyncio.gather(
            self._ownership.own([_claim(c) for c in living]),
            self._directory.write(living, "new"),
            self._ownership.watch([c.connection_id for c in living]),
        )
        told = {
            id(c): outcome if is_owned else OVERTAKEN
            for c, is_owned, outcome in zip(living, owned, outcomes, strict=True)
        }
        return [told.get(id(each.connection), 0) for each in arrivals]

    async def _rewrite_waiting(self, changes: Sequence[_Arrival]) -> list[int]:
        await self._rewrite([each.connection for each in changes if self._holds(each.connection)])
        return [STANDS] * len(changes)

    async def _rewrite(self, connections: Sequence[Registered]) -> None:
        """Writes connections again. What is missing was never lost to another owner only if it is owned still."""
        outcomes = await self._directory.write(connections, "again")
        self._give_up_all(connections, outcomes)
        missing = [c for c, outcome in zip(connections, outcomes, strict=True) if not outcome]
        owned = await self._own(missing)
        self._give_up_all(owned, await self._directory.write(owned, "new"))

    async def _own(self, connections: Sequence[Registered]) -> list[Registered]:
        """Claims connections again; those that are owned by somebody else leave."""
        mine = [c for c in connections if self._holds(c)]
        if not mine:
            return []
        owned = await self._ownership.own([_claim(c) for c in mine])
        self._give_up_all(mine, [STANDS if is_owned else OVERTAKEN for is_owned in owned])
        return [c for c in mine if self._holds(c)]

    def _give_up_all(self, connections: Sequence[Registered], outcomes: Sequence[int]) -> None:
        for connection, outcome in zip(connections, outcomes, strict=True):
            if outcome == OVERTAKEN:
                self._give_up(connection)

    async def _depart_now(self) -> None:
        leaving, self._leaving = self._leaving, []
        await self._depart(leaving)

    async def _depart(self, leaving: Sequence[_Departure]) -> None:
        """Removes what has closed; what the store does not take now is tried again with the next renewal."""
        for chunk in _chunks(leaving):
            try:
                await asyncio.gather(
                    self._directory.remove([departure.claim for departure in chunk]),
                    *(
                        self._ownership.leave([d.claim for d in chunk if d.may_return is how], may_return=how)
                        for how in (True, False)
                    ),
                )
            except CityError as error:
                _log.warning("%d closed connections are still registered: %s", len(chunk), error)
                self._stranded += chunk
            except Exception:  # trying again would change nothing; lease and window take them out
                _log.exception("%d closed connections cannot be taken out", len(chunk))

    # Renewal

    def claim_again(self) -> None:
        """This instance may have been given up meanwhile: with the next renewal its connections own their logs."""
        self._claimed_at = float("-inf")

    async def _keep(self) -> None:
        """Renewals begin so far apart: what one of them takes, of tens of thousands, does not defer the next."""
        clock, lease = asyncio.get_running_loop().time, self._lease / 1000
        regular, pause, is_away = lease / RENEWALS_A_LEASE, lease / RENEWALS_A_LEASE, False
        while True:
            await asyncio.sleep(pause)
            began = clock()
            try:
                await self.renew_all()
                is_away = False
                pause = max(lease / RETRIES_A_LEASE, began + regular - clock())
            except CityError as error:
                if not is_away:
                    _log.warning("connections cannot be renewed: %s", error)
                pause = min(2 * pause, regular) if is_away else lease / RETRIES_A_LEASE
                is_away = True
            if self._stranded:  # also where a part of the store is away: these may lie elsewhere
                stranded, self._stranded = self._stranded, []
                self._tasks.spawn("remove connections", self._depart(stranded))

    async def renew_all(self) -> None:
        """Renews what stands here, as is done several times a lease; what has another owner by now is given up.

        Raises:
            Unavailable: the store did not answer.
        """
        now = asyncio.get_running_loop().time()
        is_claiming = now - self._claimed_at > self._claim_seconds
        async with asyncio.TaskGroup() as group:
            channels = group.create_task(_tried(self.subscribers.renew()))
            renewals: list[asyncio.Task[CityError | None]] = []
            for chunk in _chunks(list(self._connections.values())):
                renewals.append(group.create_task(_tried(self._renew(chunk, is_claiming=is_claiming))))
                await asyncio.wait(renewals[-1:], timeout=NEXT_AFTER_SECONDS)
        failures = list(filter(None, (renewal.result() for renewal in renewals)))
        if is_claiming and not failures:
            self._claimed_at = now
        for failure in (*failures, channels.result()):
            if failure is not None:
                raise failure

    async def _renew(self, connections: Sequence[Registered], *, is_claiming: bool) -> None:
        """Renews connections; writes those again that are missing or were heard, and claims these, or all."""
        outcomes = await self._directory.renew(connections)
        self._give_up_all(connections, outcomes)
        stale = {c.connection_id for c in connections} & self._stale
        self._stale -= stale
        again = [
            c for c, outcome in zip(connections, outcomes, strict=True)
            if (not outcome or c.connection_id in stale) and self._holds(c)
        ]  # fmt: skip
        try:
            if is_claiming:
                await self._ownership.watch([c.connection_id for c in connections])
            await self._own(connections if is_claiming else again)
            await self._rewrite([c for c in again if self._holds(c)])
        except CityError:
            self._stale.update(c.connection_id for c in again if self._holds(c))
            raise

    # Reading

    async def find(self, connection_id: str) -> dict[str, Any]:
        """One connection of any instance, as it is written.

        Raises:
            NotFound: there is none, or it is closed.
        """
        user_id = await self._ownership.user_of(connection_id)
        found = user_id and await self._directory.find(user_id, connection_id)
        if not found:
            raise NotFound(f"there is no connection {connection_id!r} (any more)")
        return found

    async def connections_of(self, user_id: str) -> list[dict[str, Any]]:
        """A user's connections on all instances."""
        return await self._directory.of(user_id)

    async def is_connected(self, user_id: str) -> bool:
        """Whether the user has a connection anywhere."""
        return await self._directory.has(user_id)

    async def release(self) -> None:
        """Takes out everything of this instance at its end; its clients may resume elsewhere.

        Raises:
            Unavailable: the store did not take all of it; the rest goes with the lease and the windows.
        """
        self._leaving += self._stranded + [_Departure(_claim(c), True) for c in self._connections.values()]
        self._connections.clear()
        await self._depart_now()
        await self.subscribers.release()


async def _tried(renewal: Coroutine[Any, Any, None]) -> CityError | None:
    """Why a part could not be renewed, if so: the others do not wait for it."""
    try:
        await renewal
    except CityError as error:
        return error
    return None


def _claim(connection: Registered) -> Claim:
    return Claim(connection.connection_id, connection.user_id, connection.fence, connection.heard_offset)


def _answer() -> asyncio.Future[Any]:
    return asyncio.get_running_loop().create_future()


def _tell(item: _Arrival | _Wanted, reply: object) -> None:
    resolve(item.told, reply)


def _chunks(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), AT_ONCE):
        yield items[start : start + AT_ONCE]
