"""The console's page of what passes through the platform, with figures that the real platform counts."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Response, expect

from tests.support.operating import headed, operating, row
from tests.support.platform import PATIENT, Instance, Platform
from tests.support.valkey import ValkeyServer

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]
PUBLISH = "post_office.publish_to_agent_channel"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    """An instance that writes its figures down often."""
    async with AsyncExitStack() as stack:
        yield await Platform(valkey_server, stack, **PATIENT).start(traffic_seconds=0.2)


async def test_requests_messages_and_refusals_are_counted_and_charted(browser: Browser, town: Instance) -> None:
    for _ in range(7):
        await town.done(PUBLISH, {"channel": "pillar:content", "message": {}})
    for _ in range(3):
        await town.call(PUBLISH, {"channel": "pillar:nowhere", "message": {}})
    async with operating(browser, town.url, "traffic") as page:
        cells = row(page, PUBLISH).locator("td")
        await expect(cells.nth(0)).to_have_text("10")
        await expect(cells.nth(2)).to_have_text("3")
        await expect(cells.nth(3)).to_have_text(re.compile(r"^[\d.]+ ms$"))
        await expect(row(page, "pillar:content").locator("td").first).to_have_text("7")
        requests = page.get_by_role("img", name="Requests")
        await expect(requests.locator("path.line")).to_have_attribute("d", re.compile(r"^M"))
        await expect(page.get_by_role("img", name="Refusals")).to_have_accessible_name(re.compile(r"3 altogether"))


async def test_one_operation_is_looked_at_by_itself_over_a_span_of_choice(browser: Browser, town: Instance) -> None:
    await town.done(PUBLISH, {"channel": "guide", "message": {}})
    await town.call(PUBLISH, {"channel": "pillar:nowhere", "message": {}})
    async with operating(browser, town.url, "traffic") as page:
        await row(page, PUBLISH).get_by_role("link").click()
        await headed(page, PUBLISH)
        await expect(page.locator(".figures")).to_contain_text("unknown_channel")
        await expect(page.get_by_role("img", name="How long it took")).to_be_visible()
        await page.get_by_label("Last").select_option("A day")
        assert page.url.endswith(f"{PUBLISH}?span=1440")
        await page.reload()
        await expect(page.get_by_label("Last")).to_have_value("1440")
        await expect(page.locator(".figures")).to_contain_text("unknown_channel")
        await page.get_by_role("link", name="Traffic").first.click()
        await headed(page, "Traffic")
        await row(page, "guide").get_by_role("link").click()
        await headed(page, "guide")
        await expect(page.locator(".figures")).to_contain_text("Handled")


async def test_a_chart_is_read_step_by_step_with_the_arrow_keys(browser: Browser, town: Instance) -> None:
    await town.done("post_office.list_channels")
    async with operating(browser, town.url, "traffic") as page:
        await expect(row(page, "post_office.list_channels")).to_be_visible()
        chart = page.locator(".chart").first
        newest = await chart.locator(".moment").inner_text()
        await chart.get_by_role("img").focus()
        await page.keyboard.press("ArrowLeft")
        await expect(chart.locator(".moment")).not_to_have_text(newest)
        await page.keyboard.press("End")
        await page.keyboard.press("Home")
        await expect(chart.locator(".key")).to_have_text("0")


async def test_where_nothing_passed_it_says_so(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "traffic/nurse.nothing") as page:
        await expect(page.get_by_text("Nothing passed here in this time.")).to_be_visible()


@pytest.mark.parametrize("hours", [-3, 3])
async def test_an_hour_is_the_platforms_whatever_the_clock_of_a_machine_shows(
    browser: Browser, town: Instance, hours: int
) -> None:
    async with operating(browser, town.url, "queues") as page:
        await headed(page, "Queues")
        await page.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
        async with page.expect_response(_has_since) as answered:
            await page.get_by_role("link", name="Traffic").click()
        figures = await (await answered.value).json()
        assert 60 <= len(figures["minutes"]) <= 62


def _has_since(response: Response) -> bool:
    return "get_traffic_analytics" in response.url and "since" in (response.request.post_data or "")
