"""MCP sessions that were never begun, or are over: a server must answer 404, and keep nothing for names made up."""

from __future__ import annotations

import pytest

from tests.contract.test_contract_mcp_sessions import VERSION, answer, begun, listening, post, rpc
from tests.support.platform import Instance

in_town = pytest.mark.asyncio(loop_scope="module")


@in_town
async def test_a_session_that_was_ended_is_gone(town: Instance) -> None:
    session = await begun(town)
    headers = {**town.operator, "Mcp-Session-Id": session, "MCP-Protocol-Version": VERSION}
    assert (await town.http.delete("/mcp", headers=headers)).status_code in {200, 202, 204}
    refused = await post(town, rpc("resources/subscribe", uri="channel://guide"), session)
    assert refused.status_code == 404 or "error" in answer(refused), refused.text
    async with listening(town, session) as stream:
        assert stream.status == 404


@in_town
@pytest.mark.parametrize("session", ["nonsense", "x" * 5000, "../..", "0"])
async def test_an_invented_session_subscribes_to_nothing(town: Instance, session: str) -> None:
    """Whoever may make up names may fill the store with what is kept under each for a day."""
    refused = await post(town, rpc("resources/subscribe", uri="channel://guide"), session)
    assert refused.status_code in {400, 404} or "error" in answer(refused), refused.text
