"""Every operation of the example service, over HTTP and over MCP in both protocol eras."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from city_hall.surfaces.catalogue import Catalogue, Entry
from foundations.operations import operations_of
from tests.support import parity
from tests.support.example_city import NOBODY, OPERATOR, ExampleCity, ExampleService
from tests.support.http_server import serving

ENTRIES = list(Catalogue(operations_of(ExampleService(), "example")))
every_operation = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.operation.tool_name)
pytestmark = pytest.mark.asyncio(loop_scope="module")
both_eras = pytest.mark.parametrize("mode", parity.MODES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def url() -> AsyncIterator[str]:
    city = ExampleCity()
    city.service.release.set()
    async with serving(city.app) as address:
        yield address


@both_eras
@every_operation
async def test_arguments_results_and_refusals_are_the_same_on_both_surfaces(url: str, mode: str, entry: Entry) -> None:
    async with parity.both_surfaces(url, OPERATOR, mode) as surfaces:
        await parity.check_names(surfaces, entry)
        await parity.check_refused_arguments(surfaces, entry)
        await parity.check_result(surfaces, entry)
    async with parity.both_surfaces(url, NOBODY, mode) as surfaces:
        await parity.check_wrong_scope(surfaces, entry)


@every_operation
async def test_a_stranger_gets_nothing_on_either_surface(url: str, entry: Entry) -> None:
    await parity.check_stranger(url, entry)
