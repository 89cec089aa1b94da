"""The registry: this instance's connections as operators and other instances see them in the store.

A connection stands here right before its welcome and is gone right after its close; what its instance can no longer
remove, another takes out. Writes of one turn of the loop share a call. When they are repeated is `renewal`'s matter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Container, Coroutine, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from foundations.errors import CityError, NotFound, Overtaken, TooManyConnections, Unavailable
from foundations.supervision import Tasks
from smart_city.post_office.fleet.directory import OVERTAKEN, STANDS, Directory, Registered
from smart_city.post_office.fleet.ownership import Claim, Ownership, Taken
from smart_city.post_office.fleet.renewal import Renewal
from smart_city.post_office.fleet.subscribers import Subscribers
from smart_city.post_office.rounds import Rounds, resolve

_log = logging.getLogger(__name__)
AT_ONCE = 500
"""Connections in one script call."""
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
        self, directory: Directory, ownership: Ownership, subscribers: Subscribers, renewal: Renewal, tasks: Tasks,
    ) -> None:  # fmt: skip
        self.subscribers = subscribers
        self._directory = directory
        self._ownership = ownership
        self._renewal = renewal
        self._tasks = tasks
        self._connections: dict[str, Registered] = {}
        self._stale: set[str] = set()
        """What stands in the store is not as it is here: these are written with the next renewal."""
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
        self._tasks.start("renew connections", lambda: self._renewal.keep(self.renew, then=self._depart_stranded))

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
                f"{connection.user_id} has {self._directory.most_per_user} connections already; close one first",
                retry_after=RETRY_AFTER,
            )
        self._connections[connection.connection_id] = connection

    async def update(self, connection: Registered) -> None:
        """Writes a connection again whose channels have changed."""
        if self._holds(connection):
            change = _Arrival(connection, _answer())
            self._changing.add(change)
            await change.told

    def write_later(self, connection: Registered) -> None:
        """The connection is written with the next renewal: its channels have changed, and the store was away."""
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
        await self._claim_and_write(missing)

    async def _claim_and_write(self, connections: Sequence[Registered]) -> None:
        """Claims connections again and writes them, also what is missing; what is somebody else's leaves."""
        mine = [c for c in connections if self._holds(c)]
        if not mine:
            return
        owned = await self._ownership.own([_claim(c) for c in mine])
        self._give_up_all(mine, [STANDS if is_owned else OVERTAKEN for is_owned in owned])
        living = [c for c in mine if self._holds(c)]
        self._give_up_all(living, await self._directory.write(living, "new"))

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
        """The store may have lost what stands here, or others may have taken it out: all is written again, soon."""
        self._renewal.renew_all()

    async def renew(self) -> None:
        """Has everything stand for another lease, and writes again what has its turn.

        That is claimed again, too; what has another owner by now is given up.

        Raises:
            Unavailable: the store did not answer.
        """
        due = {c.connection_id: c for c in self._renewal.due(self._connections, self._stale)}
        async with asyncio.TaskGroup() as group:
            channels = group.create_task(_tried(self.subscribers.renew()))
            renewals: list[asyncio.Task[CityError | None]] = []
            for renewal in (
                *(self._renew(chunk) for chunk in _chunks(list(due.values()))),
                *(self._prolong(chunk, due) for chunk in _chunks(list(self._connections.values()))),
            ):
                renewals.append(group.create_task(_tried(renewal)))
                await asyncio.wait(renewals[-1:], timeout=NEXT_AFTER_SECONDS)
        for failure in (*(renewal.result() for renewal in renewals), channels.result()):
            if failure is not None:
                raise failure

    async def _renew(self, connections: Sequence[Registered]) -> None:
        self._stale.difference_update(c.connection_id for c in connections)
        watching = self._ownership.watch([c.connection_id for c in connections])
        for failure in await asyncio.gather(_tried(watching), _tried(self._claim_and_write(connections))):
            if failure is not None:
                self._stale.update(c.connection_id for c in connections if self._holds(c))
                raise failure

    async def _prolong(self, connections: Sequence[Registered], due: Container[str]) -> None:
        """What stands goes on with the instance's lease; what the store has lost is written again.

        Also what is due: where its owner's record is away, only that cannot be written.
        """
        stands = await self._directory.prolong(connections)
        lost = [c for c, is_there in zip(connections, stands, strict=True) if not is_there]
        if missing := [c for c in lost if c.connection_id not in due and self._holds(c)]:
            await self._renew(missing)

    def _depart_stranded(self) -> None:
        """Tries again to take out what has closed: also where a part of the store is away, it may lie elsewhere."""
        if self._stranded:
            stranded, self._stranded = self._stranded, []
            self._tasks.spawn("remove connections", self._depart(stranded))

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
            Unavailable: the store did not take all of it; others take out the rest when the lease has ended.
        """
        self._leaving += self._stranded + [_Departure(_claim(c), True) for c in self._connections.values()]
        self._connections.clear()
        await self._depart_now()
        await self.subscribers.release()
        if self._stranded:
            raise Unavailable(f"{len(self._stranded)} connections are still registered")


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
