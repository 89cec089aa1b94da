"""One fault tried on a whole city: it works, a part fails, and everything that was promised is looked at.

A trial judges nothing itself: it keeps the record, hands it to the invariants, and tells the report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from city_inspector.faulting_proxy import FaultingProxy
from tests.faults.aftermath import aftermath, logs
from tests.faults.figures import figures
from tests.faults.instances import Instances
from tests.faults.invariants import Allowed, violations
from tests.faults.load import Load
from tests.faults.record import Record
from tests.faults.stores import ClusterStore, SingleStore, Store
from tests.support.valkey import ValkeyServer
from tests.support.valkey_cluster import ValkeyCluster

PROPERTY = "fault"
"""Under this name a test's report carries what came of it."""
NOTHING = Allowed()
NAMES = ("one", "two", "three")
Write = Callable[[str, object], None]


@dataclass(frozen=True, slots=True)
class City:
    """What a fault is done to."""

    store: Store
    instances: Instances
    load: Load
    record: Record

    async def open(self, count: int, lines: Sequence[FaultingProxy]) -> None:
        """Starts so many instances, each with its line to the store if there are any, and lets everybody in."""
        ways: Sequence[FaultingProxy | None] = lines or [None] * count
        await asyncio.gather(
            *(self.instances.open(name, line=line) for name, line in zip(NAMES[:count], ways, strict=True))
        )
        await self.load.start()

    async def flows(self) -> None:
        """Waits until everybody hears and is answered again."""
        await self.load.flows()


class Trials:
    """Opens a city for a fault, and looks at it afterwards."""

    def __init__(self, directory: Path, write: Write) -> None:
        self._directory = directory
        self._write = write

    @asynccontextmanager
    async def __call__(
        self,
        fault: str,
        store: ValkeyServer | ValkeyCluster | None = None,
        *,
        allowed: Allowed = NOTHING,
        instances: int = 2,
        lines: bool = False,
        settings: Mapping[str, str] | None = None,
        buffers: int | None = None,
    ) -> AsyncIterator[City]:
        """A city of so many instances that works; on leaving it, what came of the fault is judged.

        Args:
            fault: how the report names it.
            store: a running one that the test can harm, else one of its own.
            allowed: what it may cost.
            lines: whether each instance has a line of its own to the store, to fail.
            settings: every instance's.
            buffers: bytes that the network keeps for a slow client.
        """
        began = time.monotonic()
        async with AsyncExitStack() as stack:
            store = store or stack.enter_context(ValkeyServer(tcp=True))
            asked = ClusterStore(store) if isinstance(store, ValkeyCluster) else SingleStore(store)
            city = City(asked, *self._make(asked.url, settings or {}, buffers))
            stack.push_async_callback(city.instances.close)
            stack.push_async_callback(city.load.close)
            ways = [await stack.enter_async_context(_line(store)) for _ in range(instances if lines else 0)]
            await city.open(instances, ways)
            await city.flows()
            yield city
            await _look_back(city, loses=allowed.loses)
        self._tell(fault, allowed, city, time.monotonic() - began)

    def _make(self, url: str, settings: Mapping[str, str], buffers: int | None) -> tuple[Instances, Load, Record]:
        record = Record()
        instances = Instances(self._directory, url, **settings)
        return instances, Load(instances, record, buffers=buffers), record

    def _tell(self, fault: str, allowed: Allowed, city: City, seconds: float) -> None:
        record, statuses = city.record, city.instances.statuses
        broken = violations(record, allowed)
        broken["nothing stuck"] += [f"{name} ended with {status}" for name, status in statuses.items() if status]
        told = {"fault": fault, "seconds": round(seconds, 1), "figures": figures(record)}
        self._write(PROPERTY, told | {"broken": {name: len(found) for name, found in broken.items()}})
        sentences = [f"{name}: {each}" for name, found in broken.items() for each in found[:5]]
        assert not sentences, "\n".join(sentences)


def _line(store: ValkeyServer | ValkeyCluster) -> FaultingProxy:
    assert isinstance(store, ValkeyServer), "a cluster's nodes are found by their own addresses"
    return FaultingProxy(store.port)


async def _look_back(city: City, *, loses: bool) -> None:
    waiting = await city.load.settle(loses=loses)
    city.record.logs = await logs(city.instances)
    city.record.aftermath = await aftermath(city.instances, city.load, city.store, waiting)
