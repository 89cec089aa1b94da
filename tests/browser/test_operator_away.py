"""The operator's pages while the platform is away and when it is back: a real process, killed and started again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browser import poor_contrast
from tests.support.operating import operating, row
from tests.support.serving import Serving

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]
REFUSED = "ERR_"
PATIENCE_MS = 30_000


@asynccontextmanager
async def city(data_dir: Path, port: int = 0) -> AsyncIterator[Serving]:
    """A platform in a process of its own; on a port that it had before, when one is given."""
    settings = {"PORT": str(port)} if port else {}
    with Serving(data_dir, "--no-demo", settings=settings) as serving:
        await asyncio.to_thread(serving.opened)
        yield serving


async def kill(serving: Serving) -> None:
    """All of it at once, without a word."""
    serving.signal(signal.SIGKILL)
    await asyncio.to_thread(serving.process.wait, 30)


def port_of(serving: Serving) -> int:
    return int(serving.url.rpartition(":")[2])


async def stands(page: Page) -> None:
    await expect(row(page, "guide")).to_be_visible(timeout=PATIENCE_MS)


async def test_a_page_says_that_the_platform_is_gone_keeps_what_it_knew_and_comes_back(
    browser: Browser, tmp_path: Path
) -> None:
    data_dir = tmp_path / "city"
    async with (
        city(data_dir) as first,
        operating(browser, first.url, "queues", first.token, forgiven=REFUSED) as page,
    ):
        await stands(page)
        await kill(first)
        strip = page.locator(".away")
        await expect(strip).to_contain_text("The platform does not answer", timeout=PATIENCE_MS)
        await expect(strip).to_contain_text("This is how things stood at")
        await expect(row(page, "guide")).to_be_visible()
        await expect(page.locator(".unseen[role=log]")).to_contain_text("The platform does not answer")
        assert await poor_contrast(page) == []
        async with city(data_dir, port_of(first)):
            await expect(strip).to_be_hidden(timeout=PATIENCE_MS)
            await expect(page.locator(".unseen[role=log]")).to_contain_text("The platform is back")
            await stands(page)


async def test_a_page_that_never_saw_anything_waits_and_then_shows_it(browser: Browser, tmp_path: Path) -> None:
    data_dir = tmp_path / "city"
    async with (
        city(data_dir) as first,
        operating(browser, first.url, "queues", first.token, forgiven=REFUSED) as page,
    ):
        await stands(page)
        await kill(first)
        await page.get_by_role("link", name="Channels").click()
        note = page.locator(".note", has_text="The platform does not answer")
        await expect(note).to_be_visible(timeout=PATIENCE_MS)
        await expect(note.get_by_role("button", name="Try now")).to_be_visible()
        assert await poor_contrast(page) == []
        async with city(data_dir, port_of(first)):
            await stands(page)


async def test_a_log_that_is_followed_goes_on_where_it_stopped(browser: Browser, tmp_path: Path) -> None:
    data_dir = tmp_path / "city"
    async with (
        city(data_dir) as first,
        operating(browser, first.url, "channels/guide", first.token, forgiven=REFUSED) as page,
    ):
        await expect(page.locator(".tail")).to_contain_text("Live", timeout=PATIENCE_MS)
        await published(page, "before")
        await expect(page.locator(".log .said")).to_have_text(["before"])
        await kill(first)
        await expect(page.locator(".tail")).not_to_contain_text("Live", timeout=PATIENCE_MS)
        async with city(data_dir, port_of(first)):
            await expect(page.locator(".tail")).to_contain_text("Live", timeout=PATIENCE_MS)
            await published(page, "after")
            await expect(page.locator(".log .said")).to_have_text(["after", "before"])


async def published(page: Page, text: str) -> None:
    """Publishes with the page's own form."""
    await page.get_by_label("What all subscribers shall hear").fill(text)
    await page.get_by_role("button", name="Publish").click()
    await expect(page.locator(".toast").last).to_contain_text("Published")
