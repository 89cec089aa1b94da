"""The page of docs/javascript.md, run as it stands: from an origin of its own, and from one that is not allowed."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from playwright.async_api import Page, expect

from tests.support.browser import browsing
from tests.support.echo_agent import answering, echo
from tests.support.http_server import serving
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.needs("chromium")

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs/javascript.md").read_text()
TEN_LINES = re.findall(r"```html\n(.*?)```", DOCUMENT, re.DOTALL)[0]


@asynccontextmanager
async def own_page() -> AsyncIterator[tuple[str, list[str]]]:
    """Somebody's web server, and what it serves."""
    app, html = FastAPI(), [""]

    @app.get("/")
    async def index() -> HTMLResponse:
        return HTMLResponse('<link rel="icon" href="data:,">' + html[0])

    async with serving(app) as url:
        yield url, html


@asynccontextmanager
async def shown(city: Instance, url: str, html: list[str]) -> AsyncIterator[tuple[Page, list[str]]]:
    """The page of the document with this city's address and a session's token, and what it complains of."""
    token = await city.session(unique("alice"))
    html[0] = TEN_LINES.replace("http://127.0.0.1:8000", city.url).replace("ses_…", token)
    async with browsing() as browser:
        page = await browser.new_page()
        complaints: list[str] = []
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        await page.goto(url)
        yield page, complaints


def test_it_has_ten_lines() -> None:
    assert len(TEN_LINES.splitlines()) <= 10


def test_the_readme_shows_the_same_page() -> None:
    assert TEN_LINES in (ROOT / "README.md").read_text()


async def test_the_page_of_the_document_works_from_an_origin_of_its_own(platform: Platform) -> None:
    async with own_page() as (url, html):
        city = await platform.start(allowed_origins=url)
        async with answering(city, echo()), shown(city, url, html) as (page, complaints):
            await expect(page.locator("#answer")).to_have_text("Who is there? ")
            publish = {"channel": "guide", "message": {"message": "The doors are open."}, "realm": "tests"}

            async def is_heard() -> bool:
                await city.done("post_office.publish_to_agent_channel", publish)
                return "The doors are open." in await page.inner_text("body")

            await eventually(is_heard, "what is published appears")
            called = "import('URL/console/client/index.js').then(({ City }) => new City('URL', { token: 'TOKEN' })"
            caller = called.replace("URL", city.url).replace("TOKEN", await city.session(unique("bob")))
            found = await page.evaluate(f"{caller}.call('traffic_cop.get_caller_identity'))")
            assert found["kind"] == "session"
            assert complaints == []


async def test_a_page_of_another_origin_is_not_let_in(platform: Platform) -> None:
    async with own_page() as (url, html):
        city = await platform.start()
        async with shown(city, url, html) as (page, complaints):
            await until(lambda: any("CORS" in each for each in complaints), "the browser refuses the modules")
            await expect(page.locator("#answer")).to_be_empty()
