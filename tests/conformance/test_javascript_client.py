"""The JavaScript client is held against the scenarios for clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import clients
from tests.conformance.encodings import SUBPROTOCOLS
from tests.conformance.scenarios import scenarios
from tests.support.node import NODE

JAVASCRIPT_CLIENT = (NODE, str(Path(__file__).with_name("javascript_driver.js")))


@pytest.mark.parametrize("encoding", SUBPROTOCOLS)
async def test_the_javascript_client_keeps_to_the_protocol(encoding: str) -> None:
    held = [outcome async for outcome in clients.hold_all(JAVASCRIPT_CLIENT, scenarios("client", (encoding,)))]
    assert [outcome for outcome in held if not outcome.is_skipped]
    assert not [str(outcome) for outcome in held if outcome.why and not outcome.is_skipped]
