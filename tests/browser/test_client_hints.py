"""What a browser knows makes the client look after its connection, in a real Chromium against a scripted gateway."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.support.console import signed_in
from tests.support.scripted_gateway import ScriptedGateway

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


@pytest.mark.parametrize(
    "hint",
    [
        "dispatchEvent(new Event('online'))",
        "dispatchEvent(new Event('offline'))",
        "document.dispatchEvent(new Event('visibilitychange'))",
    ],
)
async def test_a_hint_makes_a_connection_prove_that_it_lives(
    browser: Browser, gateway: ScriptedGateway, hint: str
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.evaluate(hint)
        await peer.heard("ping")


async def test_one_that_cannot_is_left(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.evaluate("dispatchEvent(new Event('online'))")
        await peer.heard("ping")
        again = await gateway.peer()
        assert again.resume == peer.connection_id
        await again.settle("c-2")
