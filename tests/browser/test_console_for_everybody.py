"""The console by keyboard, on a phone, in the dark, without motion: in a real Chromium."""

from __future__ import annotations

from typing import Literal

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import PHONE, looking, poor_contrast
from tests.support.console import answer, asked, field, say, signed_in
from tests.support.scripted_gateway import ScriptedGateway

FOCUS = """(() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const name = element.className || element.textContent;
  return element === document.body ? null : [name, outlineStyle, parseFloat(outlineWidth)];
})()"""

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_everything_can_be_done_with_the_keyboard(browser: Browser, gateway: ScriptedGateway) -> None:
    async with looking(browser, gateway.url) as page:
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        peer = await (await gateway.peer()).settle()
        await expect(field(page)).to_be_focused()
        await page.keyboard.type("one")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two")
        await page.keyboard.press("Enter")
        assert (await peer.heard("message"))["payload"]["message"] == "one\ntwo"
        await expect(field(page)).to_have_value("")
        await page.get_by_role("button", name="Frames").press("Enter")
        await expect(page.locator("aside")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("aside")).to_be_hidden()
        await expect(page.get_by_role("button", name="Frames")).to_be_focused()


async def test_whatever_has_the_focus_shows_it(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, _):
        await page.get_by_role("button", name="Frames").click()
        await page.evaluate("document.activeElement.blur()")
        seen: list[str] = []
        while True:
            await page.keyboard.press("Tab")
            focused = await page.evaluate(FOCUS)
            if focused is None:
                break
            seen.append(focused[0])
            assert focused[1] != "none", focused
            assert focused[2] >= 2, focused
        assert len(set(seen)) > 10


@pytest.mark.parametrize("size", [PHONE, (768, 1024), (1440, 900)], ids=str)
async def test_nothing_sticks_out_sideways(browser: Browser, gateway: ScriptedGateway, size: tuple[int, int]) -> None:
    async with signed_in(browser, gateway, size=size) as (page, peer):
        await asked(page, peer, "w" * 400)
        await peer.answer("q-1", "a-1", f"{'long' * 200}\n\n```\n{'code ' * 100}\n```", stream="end")
        await peer.publish(41, {"key" * 100: "value" * 200})
        await expect(page.locator(".publication")).to_be_visible()
        for act in ("Frames", "Close frames"):
            width = await page.evaluate("document.documentElement.scrollWidth")
            scrolled = await page.evaluate("document.querySelector('.scroller').scrollWidth")
            inside = await page.evaluate("document.querySelector('.scroller').clientWidth")
            assert width <= size[0]
            assert scrolled <= inside
            await page.get_by_role("button", name=act, exact=True).click()
        await expect(field(page)).to_be_in_viewport()
        await expect(page.get_by_role("button", name="Frames")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read(
    browser: Browser, gateway: ScriptedGateway, scheme: Literal["light", "dark"]
) -> None:
    """Contrast by WCAG 2.2, 1.4.3 (AA), in every state at once."""
    async with looking(browser, gateway.url, scheme=scheme) as page:
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert await poor_contrast(page) == []
        await page.get_by_role("button", name="Sign in").click()
        peer = await (await gateway.peer()).settle()
        await expect(page.locator(".opening")).to_be_visible()
        assert await poor_contrast(page) == []
        await asked(page, peer, "Hello?")
        await peer.answer("q-1", "a-1", "# Title\n\nText `code` https://example.org\n\n- item", stream="end")
        await peer.answer("q-0", "a-0", "", stream="error", error={"code": "internal", "message": ""})
        await peer.publish(41, {"pages": 48})
        await peer.publish(41, {"message": "x"}, channel="pillar:content", message_id="other")
        await peer.send({"type": "reset", "channel": "guide", "offset": 50, "epoch": "e", "reason": "trimmed"})
        await peer.send({"type": "unsubscribed", "channel": "guide", "code": "forbidden", "message": "no"})
        await page.get_by_role("button", name="Frames").click()
        await page.locator(".frame summary").first.click()
        assert await poor_contrast(page) == []
        await say(page, "refused")
        refused = await peer.heard("message")
        error = {
            "type": "error",
            "code": "forbidden",
            "message": "x",
            "retryable": False,
            "id": refused["id"],
        }
        await peer.send(error)
        await expect(page.get_by_role("button", name="Send again")).to_be_visible()
        await peer.close(1013, "retry_after=30")
        await expect(page.get_by_role("button", name="Reconnect now")).to_be_visible()
        await say(page, "waiting")
        await expect(page.locator("[data-progress=waiting]")).to_be_visible()
        assert await poor_contrast(page) == []


async def test_who_wants_no_motion_gets_none(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway, reduced_motion="reduce") as (page, peer):
        await asked(page, peer, "Hello?")
        await peer.answer("q-1", "a-1", "", stream="start")
        await expect(answer(page)).to_be_visible()
        endless = "document.getAnimations().filter((a) => a.effect.getTiming().iterations === Infinity).length"
        assert await page.evaluate(endless) == 0
