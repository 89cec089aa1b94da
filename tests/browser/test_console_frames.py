"""The panel of raw frames, in a real Chromium against a scripted gateway."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.support.console import signed_in
from tests.support.scripted_gateway import ScriptedGateway

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_frames_are_listed_opened_filtered_and_paused(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Frames").click()
        rows = page.locator(".frame")
        await expect(rows.nth(-2)).to_contain_text("system · welcome")
        await peer.publish(41, {"message": "one"})
        await expect(rows.first).to_contain_text("message")
        await rows.first.locator("summary").click()
        await expect(rows.first.locator("pre")).to_contain_text('"message_id": "pub-41"')
        await page.get_by_label("Filter frames").fill("welcome")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Filter frames").fill("")
        shown = await rows.count()
        await page.get_by_role("button", name="Pause").click()
        await peer.publish(42, {"message": "two"})
        await expect(page.locator(".count")).to_contain_text("1 new")
        await expect(rows).to_have_count(shown)
        await page.get_by_role("button", name="Resume").click()
        await expect(rows).to_have_count(shown + 1)
        await peer.send({"type": "heartbeat"})
        await page.get_by_label("Heartbeats").check()
        await expect(rows.first).to_contain_text("heartbeat")


async def test_the_list_of_frames_is_bounded(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Frames").click()
        for offset in range(41, 641):
            await peer.publish(offset, {"message": f"news {offset}"})
        await expect(page.locator(".publication").last).to_contain_text("news 640")
        await expect(page.locator(".frame")).to_have_count(500)
        await expect(page.locator(".publication")).to_have_count(400)
