"""The operator's pages of the console, opened with a token, in the words of who uses them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.browser import looking
from tests.support.platform import OPERATOR_TOKEN


@asynccontextmanager
async def operating(
    browser: Browser, url: str, page: str, token: str = OPERATOR_TOKEN, **options: Any
) -> AsyncIterator[Page]:
    """One of the pages, with the token given at its gate."""
    async with looking(browser, f"{url}/console/#/{page}", **options) as seen:
        await give_token(seen, token)
        yield seen


async def give_token(page: Page, token: str) -> None:
    """Pastes a token at the gate."""
    await page.get_by_label("Token", exact=True).fill(token)
    await page.get_by_role("button", name="Open", exact=True).click()


def row(page: Page, text: str) -> Locator:
    """The rows of the page's table in which this stands."""
    return page.locator("tbody tr", has_text=text)


async def headed(page: Page, title: str) -> None:
    """Waits until the page has this heading."""
    await expect(page.get_by_role("heading", level=1)).to_have_text(title)
