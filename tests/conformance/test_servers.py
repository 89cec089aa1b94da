"""The platform is held against the scenarios for servers, in both encodings."""

from __future__ import annotations

import pytest

from tests.conformance.scenarios import Scenario, scenarios
from tests.conformance.servers import Target, hold
from tests.support.platform import OPERATOR_TOKEN, Instance


@pytest.mark.parametrize("scenario", list(scenarios("server")), ids=str)
async def test_the_platform_keeps_to_the_protocol(city: Instance, scenario: Scenario) -> None:
    async with Target.at(city.url, OPERATOR_TOKEN, "guide", "pillar:content") as target:
        outcome = await hold(target, scenario)
    assert not outcome.why, str(outcome)
