"""The scripted server and clients of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from city_client import CityClient
from city_client.events import Event
from tests.platform.city_client.peer import Peer, Visit

Arrive = Callable[..., Awaitable[tuple[CityClient, Visit]]]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer().running() as running:
        yield running


@pytest.fixture
def events() -> list[Event]:
    """Everything that the clients of a test were told."""
    return []


@pytest.fixture
async def arrive(peer: Peer, events: list[Event]) -> AsyncIterator[Arrive]:
    """Opens a client, and gives it with its first visit."""
    async with AsyncExitStack() as stack:

        async def open_client(**welcome: object) -> tuple[CityClient, Visit]:
            client = CityClient(peer.url, token="secret-token", on_event=events.append)
            entering = asyncio.create_task(stack.enter_async_context(client))
            visit = await peer.visit(**welcome)
            return await entering, visit

        yield open_client
