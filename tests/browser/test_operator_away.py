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


async def test_pages_say_that_the_platform_is_gone_and_go_on_where_they_stopped(
    browser: Browser, tmp_path: Path
) -> None:
    data_dir = tmp_path / "city"
    async with (
        city(data_dir) as first,
        operating(browser, first.url, "queues", first.token, forgiven=REFUSED) as known,
        operating(browser, first.url, "queues", first.token, forgiven=REFUSED) as other,
        operating(browser, first.url, "channels/guide", first.token, forgiven=REFUSED) as followed,
    ):
        await stands(known)
        await stands(other)
        await follows(followed)
        await published(followed, "before")
        await expect(followed.locator(".log .said")).to_have_text(["before"])
        await kill(first)
        await keeps_what_it_knew(known)
        await other.get_by_role("link", name="Channels").click()
        await says_that_it_waits(other)
        await expect(followed.locator(".tail")).not_to_contain_text("Live", timeout=PATIENCE_MS)
        async with city(data_dir, port_of(first)):
            await expect(known.locator(".away")).to_be_hidden(timeout=PATIENCE_MS)
            await expect(known.locator(".unseen[role=log]")).to_contain_text("The platform is back")
            await stands(known)
            await stands(other)
            await follows(followed)
            await published(followed, "after")
            await expect(followed.locator(".log .said")).to_have_text(["after", "before"])


async def keeps_what_it_knew(page: Page) -> None:
    """It says since when that is old, to those who listen to it too."""
    strip = page.locator(".away")
    await expect(strip).to_contain_text("The platform does not answer", timeout=PATIENCE_MS)
    await expect(strip).to_contain_text("This is how things stood at")
    await expect(row(page, "guide")).to_be_visible()
    await expect(page.locator(".unseen[role=log]")).to_contain_text("The platform does not answer")
    assert await poor_contrast(page) == []


async def says_that_it_waits(page: Page) -> None:
    """A page that never saw anything."""
    note = page.locator(".note", has_text="The platform does not answer")
    await expect(note).to_be_visible(timeout=PATIENCE_MS)
    await expect(note.get_by_role("button", name="Try now")).to_be_visible()
    assert await poor_contrast(page) == []


async def follows(page: Page) -> None:
    await expect(page.locator(".tail")).to_contain_text("Live", timeout=PATIENCE_MS)


async def published(page: Page, text: str) -> None:
    """Publishes with the page's own form."""
    await page.get_by_label("What all subscribers shall hear").fill(text)
    await page.get_by_role("button", name="Publish").click()
    await expect(page.locator(".toast").last).to_contain_text("Published")
