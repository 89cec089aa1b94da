"""The console on a page, in the words of who uses it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Locator, Page, expect

from tests.support.browser import looking
from tests.support.scripted_gateway import Peer, ScriptedGateway


@asynccontextmanager
async def signed_in(browser: Browser, gateway: ScriptedGateway, **options: Any) -> AsyncIterator[tuple[Page, Peer]]:
    """The console with a living connection, and the platform's end of it."""
    async with looking(browser, gateway.url, **options) as page:
        await page.get_by_role("button", name="Sign in").click()
        peer = await (await gateway.peer()).settle()
        await expect(page.locator(".link")).to_have_text("Connected")
        yield page, peer


async def say(page: Page, text: str) -> None:
    """Types a message and sends it."""
    await field(page).fill(text)
    await field(page).press("Enter")


async def asked(page: Page, peer: Peer, text: str, message_id: str = "q-1") -> None:
    """Types a message, sends it, and has it queued."""
    await say(page, text)
    await peer.queue(message_id)


def field(page: Page) -> Locator:
    """Where one types."""
    return page.locator("textarea")


def answer(page: Page) -> Locator:
    """The answers of the channel that is shown."""
    return page.locator(".answer")
