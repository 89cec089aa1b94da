"""One fault tried on a whole city: it works, a part fails, and everything that was promised is looked at.

A trial judges nothing itself: it keeps the record, hands it to the invariants, and tells the report.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import redis.asyncio

from city_inspector.faulting_proxy import FaultingProxy
from tests.faults.aftermath import aftermath, logs
from tests.faults.figures import figures
from tests.faults.instances import Instances
from tests.faults.invariants import Allowed, violations
from tests.faults.load import Load
from tests.faults.record import Record
from tests.support.valkey import ValkeyServer

PROPERTY = "fault"
"""Under this name a test's report carries what came of it."""
NOTHING = Allowed()
NAMES = ("one", "two", "three")
Write = Callable[[str, object], None]


class SingleStore:
    """One server, asked over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._client = redis.asyncio.Redis.from_url(url, protocol=3)

    async def command(self, *words: str) -> object:
        reply: object = await self._client.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py's own
        return reply

    async def pair(self, *words: str) -> list[str]:
        """A reply of one name and its value."""
        reply = await self.command(*words)
        found = [part for each in reply.items() for part in each] if isinstance(reply, dict) else reply
        assert isinstance(found, list)
        return [part.decode() for part in found]

    async def close(self) -> None:
        await self._client.aclose()


@dataclass(frozen=True, slots=True)
class City:
    """What a fault is done to."""

    valkey: ValkeyServer
    store: SingleStore
    instances: Instances
    load: Load
    record: Record

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
        *,
        allowed: Allowed = NOTHING,
        instances: int = 2,
        lines: bool = False,
        flags: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
        buffers: int | None = None,
    ) -> AsyncIterator[City]:
        """A city of so many instances that works; on leaving it, what came of the fault is judged.

        Args:
            fault: how the report names it.
            allowed: what it may cost.
            lines: whether each instance has a line of its own to the store, to fail.
            flags: the store's.
            settings: every instance's.
            buffers: bytes that the network keeps for a slow client.
        """
        began = time.monotonic()
        record = Record()
        with ValkeyServer(tcp=True, **(flags or {})) as valkey:
            async with self._opened(
                valkey, record, instances, lines=lines, settings=settings or {}, buffers=buffers
            ) as city:
                await city.flows()
                yield city
                await _look_back(city, loses=allowed.loses)
            statuses = {name: status for name, status in city.instances.statuses.items() if status}
        self._tell(fault, allowed, record, statuses, time.monotonic() - began)

    @asynccontextmanager
    async def _opened(
        self,
        valkey: ValkeyServer,
        record: Record,
        count: int,
        *,
        lines: bool,
        settings: Mapping[str, str],
        buffers: int | None,
    ) -> AsyncIterator[City]:
        running = Instances(self._directory, valkey.url, **settings)
        ways = [FaultingProxy(valkey.port) for _ in range(count if lines else 0)]
        load, store = Load(running, record, buffers=buffers), SingleStore(valkey.url)
        try:
            for way in ways:
                await way.__aenter__()
            names = NAMES[:count]
            await asyncio.gather(*(running.open(name, line=ways[i] if lines else None) for i, name in enumerate(names)))
            await load.start()
            yield City(valkey, store, running, load, record)
        finally:
            await store.close()
            await load.close()
            await running.close()
            for way in ways:
                await way.__aexit__(None, None, None)

    def _tell(self, fault: str, allowed: Allowed, record: Record, statuses: Mapping[str, int], seconds: float) -> None:
        broken = violations(record, allowed)
        broken["nothing stuck"] += [f"{name} ended with {status}" for name, status in statuses.items()]
        told = {"fault": fault, "seconds": round(seconds, 1), "figures": figures(record)}
        self._write(PROPERTY, told | {"broken": {name: len(found) for name, found in broken.items()}})
        sentences = [f"{name}: {each}" for name, found in broken.items() for each in found[:5]]
        assert not sentences, "\n".join(sentences)


async def _look_back(city: City, *, loses: bool) -> None:
    waiting = await city.load.settle(loses=loses)
    city.record.logs = await logs(city.instances)
    city.record.aftermath = await aftermath(city.instances, city.load, city.store, waiting)
