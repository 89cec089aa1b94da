"""Every operation of the platform, over HTTP and over MCP in both protocol eras: alike to the last word."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from city_hall.surfaces.catalogue import Catalogue, Entry
from foundations.operations import ANY_TOKEN, operations_of
from smart_city.post_office.operations import Agents, Connections, DeadLetters, Observing, Publishing
from smart_city.traffic_cop.analytics import Analytics
from smart_city.traffic_cop.operations import TrafficCop
from smart_city.vocabulary import SCOPES
from tests.support import parity
from tests.support.platform import OPERATOR_TOKEN, PATIENT, Instance, Platform
from tests.support.valkey import ValkeyServer

SERVICES = (
    (TrafficCop, "traffic_cop"),
    (Analytics, "traffic_cop"),
    (Publishing, "post_office"),
    (Agents, "post_office"),
    (Connections, "post_office"),
    (Observing, "post_office"),
    (DeadLetters, "post_office"),
)
# Declarations are read off a service that was never opened: nothing of it is called here.
ENTRIES = list(
    Catalogue(found for service, name in SERVICES for found in operations_of(service.__new__(service), name))
)
pytestmark = pytest.mark.asyncio(loop_scope="module")
every_operation = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.operation.tool_name)
both_eras = pytest.mark.parametrize("mode", parity.MODES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    async with AsyncExitStack() as stack:
        yield await Platform(valkey_server, stack, **PATIENT).start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def nobody(city: Instance) -> str:
    """A token without scopes."""
    return await city.service("nobody")


async def test_no_operation_is_left_out(city: Instance) -> None:
    authorization = {"Authorization": f"Bearer {OPERATOR_TOKEN}"}
    document = (await city.http.get("/openapi.json", headers=authorization)).json()
    served = {path for path in document["paths"] if path.startswith("/soa/")}
    assert served == {entry.operation.path for entry in ENTRIES}


@both_eras
@every_operation
async def test_both_surfaces_answer_alike(city: Instance, nobody: str, mode: str, entry: Entry) -> None:
    async with parity.both_surfaces(city.url, OPERATOR_TOKEN, mode) as surfaces:
        await parity.check_names(surfaces, entry)
        await parity.check_refused_arguments(surfaces, entry)
        await parity.check_result(surfaces, entry)
    async with parity.both_surfaces(city.url, nobody, mode) as surfaces:
        await parity.check_wrong_scope(surfaces, entry)


@every_operation
async def test_a_stranger_gets_nothing_on_either_surface(city: Instance, entry: Entry) -> None:
    await parity.check_stranger(city.url, entry)


@every_operation
async def test_every_operation_says_what_it_does_and_names_its_scope(entry: Entry) -> None:
    assert entry.operation.summary.endswith(".")
    assert entry.operation.declared.scope in {*SCOPES, ANY_TOKEN}


async def test_the_instructions_for_agents_name_tools_that_exist(city: Instance) -> None:
    names = {entry.operation.tool_name for entry in ENTRIES}
    async with parity.both_surfaces(city.url, OPERATOR_TOKEN, "auto") as surfaces:
        told = surfaces.mcp.instructions or ""
    named = {word.strip("`.,;:()") for word in told.split() if word.startswith("`post_office_")}
    assert len(named) > 10
    assert named <= names
