"""One browser and one scripted gateway for all tests of a file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest_asyncio
from playwright.async_api import Browser

from tests.support.browser import browsing
from tests.support.platform import PATIENT, Instance, Platform
from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway
from tests.support.valkey import ValkeyServer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        yield gateway


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    """The real platform, for tests that leave nothing behind which another could notice."""
    async with AsyncExitStack() as stack:
        yield await Platform(valkey_server, stack, **PATIENT).start()
