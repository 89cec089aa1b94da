"""The operator's pages by keyboard, on a phone, in the dark, without motion: in a real Chromium."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from tests.support.browser import PHONE, looking, poor_contrast
from tests.support.operating import give_token, headed, operating
from tests.support.platform import OPERATOR_TOKEN, Instance, unique

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]

PAGES = {
    "channels": "tbody tr", "channels/guide": ".log li", "connections": "tbody tr", "queues": "tbody tr",
    "sessions": "tbody tr", "tokens": "tbody tr", "traffic": ".chart .moment", "operations": ".catalogue li",
    "operations/traffic_cop.create_session": ".fields input",
}  # fmt: skip
FOCUS = """(() => {
  const element = document.activeElement;
  if (element === document.body) return null;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  return [element.outerHTML.slice(0, 120), outlineStyle, parseFloat(outlineWidth)];
})()"""
STICKS_OUT = """() => [...document.querySelectorAll(".page-body, .page-body *")]
  .filter((e) => e.checkVisibility() && !e.closest("pre, svg, summary, .unseen, thead")
    && e.getBoundingClientRect().right > innerWidth + 1)
  .map((e) => e.outerHTML.slice(0, 120))"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def lived_in(town: Instance) -> AsyncIterator[Instance]:
    """The town with something to see on every page, some of it long."""
    name = f"{unique('alice')}.of.a.very.long.name.indeed@some.long.example.org"
    async with town.connected(await town.session(name)) as alice:
        await alice.subscribe("guide", "pillar:content", "pillar:insights")
        await alice.ask(channel="guide", payload={"message": "hello"})
        for message in ({"message": "w" * 400}, {"k" * 90: ["v" * 300]}, {"message": "The doors are open."}):
            await town.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": message})
        await town.service("reports", *("post_office.publish", "post_office.history", "traffic_cop.observe"))
        yield town


async def opened(page: Page, name: str) -> None:
    """Goes there, and waits until there is something to see."""
    await page.evaluate("name => { location.hash = '#/' + name }", name)
    await headed_like(page, name)
    await expect(page.locator(PAGES[name]).first).to_be_visible()


async def headed_like(page: Page, name: str) -> None:
    if "/" in name:
        await headed(page, name.partition("/")[2])


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_of_every_page_can_be_read(
    browser: Browser, lived_in: Instance, scheme: Literal["light", "dark"]
) -> None:
    """Contrast by WCAG 2.2, 1.4.3 (AA)."""
    async with looking(browser, f"{lived_in.url}/console/#/channels", scheme=scheme) as page:
        await expect(page.get_by_label("Token", exact=True)).to_be_visible()
        assert await poor_contrast(page) == []
        await give_token(page, OPERATOR_TOKEN)
        for name in PAGES:
            await opened(page, name)
            assert await poor_contrast(page) == [], name
        await opened(page, "connections")
        await page.get_by_role("button", name="Disconnect").first.click()
        assert await poor_contrast(page) == []
        await page.keyboard.press("Escape")
        for name, button in (("sessions", "New session"), ("tokens", "New token")):
            await opened(page, name)
            await page.get_by_role("button", name=button).click()
            assert await poor_contrast(page) == [], name
            await page.keyboard.press("Escape")
        await opened(page, "channels/guide")
        await page.locator(".log summary").first.click()
        assert await poor_contrast(page) == []


@pytest.mark.parametrize("size", [PHONE, (768, 1024), (1440, 900)], ids=str)
async def test_nothing_sticks_out_on_any_page(browser: Browser, lived_in: Instance, size: tuple[int, int]) -> None:
    async with operating(browser, lived_in.url, "channels", size=size) as page:
        for name in PAGES:
            await opened(page, name)
            assert await page.evaluate("document.documentElement.scrollWidth") <= size[0], name
            assert await page.evaluate("document.documentElement.scrollHeight") <= size[1], name
            assert await page.evaluate(STICKS_OUT) == [], name


async def test_whatever_has_the_focus_shows_it_on_every_page(browser: Browser, lived_in: Instance) -> None:
    async with operating(browser, lived_in.url, "channels") as page:
        for name in PAGES:
            await opened(page, name)
            await page.locator(".skip").focus()
            seen = 0
            while seen < 40:
                await page.keyboard.press("Tab")
                focused = await page.evaluate(FOCUS)
                if focused is None:
                    break
                seen += 1
                assert focused[1] != "none", focused
                assert focused[2] >= 1, focused
            assert seen > 8, name


async def test_keys_lead_to_every_page_and_a_sheet_tells_which(browser: Browser, lived_in: Instance) -> None:
    async with operating(browser, lived_in.url, "channels") as page:
        await expect(page.locator(PAGES["channels"]).first).to_be_visible()
        for key, title in (
            ("n", "Connections"), ("u", "Queues"), ("s", "Sessions"), ("k", "Service tokens"), ("t", "Traffic"),
            ("o", "Explorer"), ("c", "Channels"),
        ):  # fmt: skip
            await page.keyboard.press("g")
            await page.keyboard.press(key)
            await headed(page, title)
        await page.keyboard.press("?")
        sheet = page.get_by_role("dialog", name="Keys")
        await expect(sheet).to_contain_text("Service tokens")
        await page.keyboard.press("g")
        await page.keyboard.press("q")
        await headed(page, "Channels")
        await page.keyboard.press("Escape")
        await expect(sheet).to_have_count(0)
        await page.keyboard.press("g")
        await page.keyboard.press("n")
        await headed(page, "Connections")
        await page.keyboard.press("/")
        await expect(page.get_by_label("User")).to_be_focused()
        await page.keyboard.type("g?/")
        await expect(page.get_by_label("User")).to_have_value("g?/")


async def test_one_can_skip_to_the_page(browser: Browser, lived_in: Instance) -> None:
    async with operating(browser, lived_in.url, "queues") as page:
        await expect(page.locator(PAGES["queues"]).first).to_be_visible()
        await page.reload()
        await expect(page.locator(PAGES["queues"]).first).to_be_visible()
        await page.keyboard.press("Tab")
        await expect(page.get_by_text("Skip to the page")).to_be_focused()
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("main")).to_be_focused()


async def test_the_focus_stays_where_it_is_while_a_page_renews_itself(browser: Browser, lived_in: Instance) -> None:
    async with operating(browser, lived_in.url, "connections") as page:
        button = page.get_by_role("button", name="Disconnect").last
        await button.focus()
        async with lived_in.connected(await lived_in.session(unique("newcomer"))) as newcomer:
            await expect(page.locator("tbody tr", has_text=newcomer.id)).to_be_visible()
            await expect(button).to_be_focused()


async def test_who_wants_no_motion_gets_none_on_any_page(browser: Browser, lived_in: Instance) -> None:
    endless = "document.getAnimations().filter((a) => a.effect.getTiming().iterations === Infinity).length"
    async with operating(browser, lived_in.url, "channels", reduced_motion="reduce") as page:
        for name in PAGES:
            await opened(page, name)
            assert await page.evaluate(endless) == 0, name
