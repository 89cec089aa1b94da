"""A real Chromium, and pages that must not complain.

An error on the console, a refused resource or a request to anywhere else fails the test that opened the page.
It knows nothing of what the pages show.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

from tests.support.machine import chromium

ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 20_000
CONTRAST = Path(__file__).with_name("contrast.js")
DESKTOP = (1280, 800)
PHONE = (360, 740)


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """A browser without a window; it ends with the context."""
    expect.set_options(timeout=PATIENCE_MS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium(), args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def looking(
    browser: Browser,
    url: str,
    *,
    size: tuple[int, int] = DESKTOP,
    scheme: Literal["light", "dark"] = "light",
    forgiven: str = "",
    **options: Any,
) -> AsyncIterator[Page]:
    """A page of a fresh profile at ``url``; complaints that were not there for a reason fail at the end.

    ``forgiven`` is what the test brings about: browsers complain of every request that is refused.
    """
    context = await browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        **options,
    )
    context.set_default_timeout(PATIENCE_MS)
    complaints = _complaints(context, urlsplit(url).netloc)
    try:
        page = await context.new_page()
        await page.goto(url)
        yield page
    finally:
        await context.close()
    unforgiven = [told for told in complaints if not (forgiven and forgiven in told)]
    assert not unforgiven, unforgiven


def _complaints(context: BrowserContext, host: str) -> list[str]:
    """What the pages of the context have to complain about, as it comes up."""
    found: list[str] = []
    context.on("weberror", lambda error: found.append(str(error.error)))
    context.on("console", lambda said: found.append(said.text) if said.type in {"error", "warning"} else None)
    context.on("request", lambda asked: found.append(asked.url) if urlsplit(asked.url).netloc != host else None)
    return found


async def poor_contrast(page: Page) -> list[str]:
    """What cannot be read well on the page as it is."""
    found: list[str] = await page.evaluate(CONTRAST.read_text())
    return found
