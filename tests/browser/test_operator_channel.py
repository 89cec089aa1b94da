"""One channel's page in the console: its log backwards and forwards, and publishing, on the real platform."""

from __future__ import annotations

import json
from typing import Any

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.operating import headed, operating
from tests.support.platform import Instance

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def publish(town: Instance, channel: str, *messages: dict[str, Any]) -> list[dict[str, Any]]:
    items = [{"channel": channel, "message": message} for message in messages]
    results: list[dict[str, Any]] = (await town.done("post_office.publish_batch", {"items": items}))["results"]
    return results


def said(page: Page) -> Any:
    return page.locator(".log .said")


async def test_the_log_leads_back_to_its_beginning(browser: Browser, town: Instance) -> None:
    channel = "pillar:content"
    await publish(town, channel, *({"message": f"number {n}"} for n in range(120)))
    async with operating(browser, town.url, f"channels/{channel}") as page:
        await headed(page, channel)
        await expect(said(page)).to_have_count(50)
        await expect(said(page).first).to_have_text("number 119")
        older = page.get_by_role("button", name="Older")
        await older.click()
        await expect(said(page)).to_have_count(100)
        await older.click()
        await expect(said(page)).to_have_count(120)
        await expect(older).to_be_hidden()
        await expect(page.get_by_text("The log begins here.")).to_be_visible()
        texts = await said(page).all_inner_texts()
        assert texts == [f"number {n}" for n in reversed(range(120))]


async def test_large_ones_lead_back_to_the_beginning_though_few_fit_on_a_page(browser: Browser, town: Instance) -> None:
    channel, large = "guide", "x" * 900_000
    for n in range(4):
        await publish(town, channel, {"message": f"number {n}", "rest": large})
    async with operating(browser, town.url, f"channels/{channel}") as page:
        await expect(said(page).first).to_contain_text("number 3")
        older = page.get_by_role("button", name="Older")
        for shown in range(1, 4):
            await expect(said(page)).to_have_count(shown)
            await older.click()
        await expect(page.get_by_text("The log begins here.")).to_be_visible()
        assert [text[:8] for text in await said(page).all_inner_texts()] == [f"number {n}" for n in (3, 2, 1, 0)]


async def test_what_is_published_now_comes_on_top_and_pausing_holds_it_back(browser: Browser, town: Instance) -> None:
    channel = "pillar:insights"
    async with operating(browser, town.url, f"channels/{channel}") as page:
        await expect(page.get_by_text("Nothing has been published yet.")).to_be_visible()
        await expect(page.locator(".tail")).to_contain_text("Live")
        await publish(town, channel, {"message": "one"}, {"message": "two"})
        await expect(said(page)).to_have_text(["two", "one"])
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator(".tail")).to_contain_text("Paused")
        await publish(town, channel, {"message": "three"}, {"message": "four"})
        figures = page.locator(".figures")
        await expect(figures).to_contain_text("4.")
        await expect(said(page)).to_have_text(["two", "one"])
        await page.get_by_role("button", name="Go on").click()
        await expect(said(page)).to_have_text(["four", "three", "two", "one"])


LONG = """async () => {
  const { Publications } = await import("/console/pages/publications.js");
  const asked = [];
  const entry = (offset) => ({
    offset, epoch: "e", sender: { kind: "service", id: "s" }, payload: { message: "m" }, intent: "",
    messageId: `m-${offset}`, timestamp: "2026-11-20T09:30:00.000Z",
  });
  const log = new Publications(async (offset) => (asked.push(offset), null));
  document.querySelector(".page-body").replaceChildren(log.element);
  log.begin({ publications: [entry(5)], oldest: 1 });
  log.gap("Some are missing.");
  log.element.querySelector(".more button").click();
  const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
  for (let offset = 6; offset <= 2100; offset += 1) {
    log.add(entry(offset));
    if (offset % 700 === 0) await drawn();
  }
  return { asked, rows: log.element.querySelectorAll("li").length };
}"""


async def test_a_log_that_grows_long_is_cut_at_its_old_end_and_does_not_say_that_it_begins_there(
    browser: Browser, town: Instance
) -> None:
    async with operating(browser, town.url, "channels/guide") as page:
        await headed(page, "guide")
        assert await page.evaluate(LONG) == {"asked": [5], "rows": 2000}
        await expect(page.locator(".more button")).to_be_hidden()
        await expect(page.locator(".more .end")).to_be_hidden()


async def test_a_publication_opens_to_all_that_it_says(browser: Browser, town: Instance) -> None:
    channel = "pillar:business_outcomes"
    payload = {"message": "<b>48</b>", "pages": 48, "where": {"shelf": [1, 2]}}
    (told,) = await publish(town, channel, payload)
    async with operating(browser, town.url, f"channels/{channel}") as page:
        await page.locator(".log summary").first.click()
        facts = page.locator(".log .facts")
        await expect(facts).to_contain_text(f"{told['offset']}.{told['epoch']}")
        await expect(facts).to_contain_text(told["message_id"])
        assert json.loads(await page.locator(".log pre").inner_text()) == payload


async def test_one_publishes_a_text_or_an_object_and_sees_it_arrive(browser: Browser, town: Instance) -> None:
    channel = "pillar:operations"
    async with operating(browser, town.url, f"channels/{channel}") as page:
        field = page.get_by_label("What all subscribers shall hear")
        await field.fill("The doors are open.")
        await page.get_by_role("button", name="Publish").click()
        await expect(page.locator(".toast")).to_contain_text("Published at 1.")
        await expect(field).to_have_value("")
        await expect(said(page)).to_have_text(["The doors are open."])
        await page.get_by_label("As").select_option("object")
        await field.fill("[1]")
        await page.get_by_role("button", name="Publish").click()
        await expect(page.get_by_role("alert").filter(has_text="not a JSON object")).to_be_visible()
        await field.fill('{"pages": 48}')
        await page.get_by_role("button", name="Publish").click()
        await expect(said(page).first).to_have_text('{"pages":48}')


async def test_who_may_only_look_sees_figures_and_which_scopes_are_missing(browser: Browser, town: Instance) -> None:
    token = await town.service("watch", "post_office.observe")
    async with operating(browser, town.url, "channels/guide", token) as page:
        await expect(page.locator(".figures")).to_contain_text("Subscribers")
        await expect(page.get_by_label("Publish", exact=True)).to_contain_text("post_office.publish")
        await expect(page.get_by_label("Log", exact=True)).to_contain_text("post_office.history")
