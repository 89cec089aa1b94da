"""The deployment of this run, and each test's visit to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from typing import NoReturn

import pytest
from redis.asyncio import Redis, RedisCluster

from tests.integration.smart_city.target import Target, named_target, own_target, what_lacks
from tests.integration.smart_city.visitor import Visitor


class Lacking:
    """A deployment that cannot be used: told as a failure once, and not tried again."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence
        self._is_told = False

    def tell(self) -> NoReturn:
        if self._is_told:
            pytest.skip("the deployment cannot be used; the first test says why")
        self._is_told = True
        pytest.fail(self._sentence, pytrace=False)


@pytest.fixture(scope="session")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target | Lacking]:
    """What the environment names; else a platform of this run."""
    named = named_target(os.environ)
    if named is None:
        with own_target(tmp_path_factory.mktemp("acceptance")) as own:
            yield own
    else:
        lacking = what_lacks(named)
        yield Lacking(lacking) if lacking else named


@pytest.fixture
def target(found: Target | Lacking) -> Target:
    """The deployment, which must be there."""
    return found.tell() if isinstance(found, Lacking) else found


@pytest.fixture
async def city(target: Target) -> AsyncIterator[Visitor]:
    """The deployment, to be left as it was found."""
    async with Visitor.of(target) as visitor:
        yield visitor


@pytest.fixture
async def store(target: Target) -> AsyncIterator[Redis | RedisCluster]:
    """The deployment's Valkey, to look at the two fixed keys."""
    if not target.redis_url:
        pytest.skip("TEST_REDIS_URL is not set: the keys of this deployment were looked at by operations only")
    url, _, query = target.redis_url.partition("?")
    kind = RedisCluster if "cluster=true" in query else Redis
    async with kind.from_url(url, decode_responses=True, socket_timeout=5) as client:
        yield client
