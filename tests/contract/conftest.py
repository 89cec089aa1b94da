"""One city for all tests of a file that leave nothing behind which another could notice, and one that may be harmed."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from tests.contract.outages import Outage
from tests.support.platform import PATIENT, Instance, Platform
from tests.support.valkey import ValkeyServer

CHANNELS = 128
_channels = itertools.cycle(range(CHANNELS))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    """An instance that lives as long as a file's tests, with agent channels enough to give each its own."""
    names = ["content", "insights", "operations", "business_outcomes", *(f"field{n}" for n in range(CHANNELS))]
    async with AsyncExitStack() as stack:
        yield await Platform(valkey_server, stack, **PATIENT).start(pillars=",".join(names))


@pytest.fixture
def channel() -> str:
    """An agent channel of the town that no other test of the file uses."""
    return f"pillar:field{next(_channels)}"


@pytest.fixture
def fragile_store() -> Iterator[ValkeyServer]:
    with ValkeyServer() as server:
        yield server


@pytest.fixture
async def fragile_places(fragile_store: ValkeyServer) -> AsyncIterator[Platform]:
    """Instances whose Valkey may be harmed."""
    async with AsyncExitStack() as stack:
        yield Platform(fragile_store, stack)


@pytest.fixture
async def fragile(fragile_places: Platform) -> Instance:
    return await fragile_places.start(valkey_timeout_seconds=0.5)


@pytest.fixture(params=["killed", "hung"])
def outage(request: pytest.FixtureRequest, fragile_store: ValkeyServer) -> Outage:
    return Outage(fragile_store, request.param)
