"""Promise 5 for who comes in while Valkey is away: nobody is turned away for good, and who waits a little comes in."""

from __future__ import annotations

import asyncio
import re

import pytest
from websockets.exceptions import ConnectionClosed

from tests.contract.outages import RETURN_SECONDS, Outage
from tests.support.platform import Instance, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

PUBLISH = "post_office.publish_to_agent_channel"
GRANTS = {"guide": ["subscribe", "send", "publish", "history"], "pillar:*": ["subscribe"]}


@pytest.mark.parametrize("token_was", ["seen", "unseen"])
async def test_a_handshake_meanwhile_waits_and_is_told_to_come_back(
    fragile: Instance, outage: Outage, token_was: str
) -> None:
    token = await fragile.session(unique("alice"))
    if token_was == "seen":
        async with fragile.connected(token):
            pass
    outage.begin()
    with pytest.raises(ConnectionClosed) as refused:
        async with fragile.connected(token):
            pass
    assert refused.value.rcvd is not None
    assert refused.value.rcvd.code == 1013
    assert re.match(r"retry_after=\d", refused.value.rcvd.reason)
    outage.end()

    async def is_in() -> bool:
        try:
            async with fragile.connected(token) as client:
                await client.nothing_but_pong()
        except ConnectionClosed as again:
            assert again.rcvd is not None
            assert again.rcvd.code == 1013
            return False
        return True

    await eventually(is_in, "one comes in again", RETURN_SECONDS)


async def test_a_handshake_that_meets_the_return_comes_in(fragile: Instance, fragile_store: ValkeyServer) -> None:
    """A session seen here lately waits a little, and an outage that is short costs it nothing."""
    token = await fragile.session(unique("alice"))
    async with fragile.connected(token):
        pass
    fragile_store.hang()
    coming = asyncio.create_task(fate_of(fragile, token))
    asyncio.get_running_loop().call_later(0.7, fragile_store.resume)
    assert await coming == 0


async def fate_of(fragile: Instance, token: str) -> int:
    """The code with which a handshake ends; 0 for a welcome."""
    try:
        async with fragile.connected(token):
            return 0
    except ConnectionClosed as refused:
        return refused.rcvd.code if refused.rcvd else 1006
