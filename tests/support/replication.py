"""A primary and its replica for tests, which hang at will; a cluster has its own in `valkey_cluster`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import TracebackType

import pytest
import redis.asyncio

from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually


class Pair:
    """Two real servers, the second a replica of the first."""

    def __init__(self) -> None:
        self.primary = ValkeyServer(tcp=True, appendfsync="no", repl_diskless_sync_delay="0", repl_timeout="3600")
        self.replica = ValkeyServer(tcp=True, appendonly="no", replicaof=f"127.0.0.1 {self.primary.port}")

    def __enter__(self) -> Pair:
        try:
            self.primary.start()
            self.replica.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.replica.stop()
        self.primary.stop()

    async def until_in_touch(self) -> None:
        """Until the replica has all that the primary has."""
        async with redis.asyncio.Redis(port=self.primary.port, socket_timeout=5) as client:

            async def in_touch() -> bool:
                await client.set("in-touch", "1")
                return bool(await client.wait(1, 100))

            await eventually(in_touch, "the replica is in touch", 20)


@pytest.fixture(scope="module")
def replicated_servers() -> Iterator[Pair]:
    """For the tests of one module."""
    with Pair() as replicated:
        yield replicated


@pytest.fixture
async def replicated(replicated_servers: Pair) -> AsyncIterator[Pair]:
    """The primary with its replica in touch, however the test before has left them."""
    replicated_servers.replica.resume()
    await replicated_servers.until_in_touch()
    yield replicated_servers
    replicated_servers.replica.resume()
