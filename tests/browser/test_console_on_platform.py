"""The console in a real Chromium on the real platform, with the demo agents: what people came for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Page, expect

from city_guides.__main__ import serve
from city_guides.guide import GUIDE
from city_guides.pillars import PILLARS
from city_inspector.faulting_proxy import FaultingProxy
from tests.support.browser import browsing, looking
from tests.support.platform import OPERATOR_TOKEN, Instance, unique
from tests.support.waiting import PATIENCE, eventually

pytestmark = pytest.mark.needs("chromium")


@asynccontextmanager
async def agents_of(city: Instance) -> AsyncIterator[None]:
    """The demo agents, each on its channel."""
    stop = asyncio.Event()
    agents = [asyncio.create_task(serve(each, city.url, OPERATOR_TOKEN, stop)) for each in (GUIDE, *PILLARS)]
    try:
        yield
    finally:
        stop.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*agents)


@asynccontextmanager
async def console(url: str, user_id: str) -> AsyncIterator[Page]:
    """The console, signed in as somebody."""
    async with browsing() as browser, looking(browser, url) as page:
        await page.get_by_text("as somebody else").click()
        await page.get_by_label("Name").fill(user_id)
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".link")).to_have_text("Connected")
        yield page


async def test_every_suggested_question_is_understood_and_answered(city: Instance) -> None:
    async with agents_of(city), console(city.url, unique("alice")) as page:
        channels = page.locator(".stops a:visible")
        await expect(channels).to_have_count(5)
        for channel in await channels.all():
            await channel.click()
            name = (await channel.inner_text()).strip()
            await expect(page.get_by_role("heading", level=1)).to_have_text(name)
            for question in await page.locator(".questions button").all_inner_texts():
                answers = await page.locator(".answer").count()
                await page.locator("textarea").fill(question)
                await page.locator("textarea").press("Enter")
                await expect(page.locator(".answer")).to_have_count(answers + 1)
                answer = page.locator(".answer").last
                await expect(answer).to_have_attribute("data-state", "done")
                await expect(answer.locator(".prose")).not_to_contain_text("Ask me for")


async def test_the_guide_hands_on_and_the_pillar_answers_where_one_asked(city: Instance) -> None:
    async with agents_of(city), console(city.url, unique("alice")) as page:
        await page.locator("textarea").fill("Which instances are running?")
        await page.locator("textarea").press("Enter")
        answer = page.locator(".answer")
        await expect(answer.locator(".name")).to_have_text("operations")
        await expect(answer.locator(".prose")).to_contain_text(city.settings.instance_id)
        await expect(page.get_by_role("heading", level=1)).to_have_text("Guide")


async def is_listening(city: Instance) -> bool:
    """Whether a console has subscribed: what is published before is history to it."""
    count = await city.done("post_office.get_connection_count")
    return bool(count["by_channel"].get("guide"))


async def test_what_a_service_publishes_appears(city: Instance) -> None:
    async with console(city.url, unique("alice")) as page:
        await eventually(lambda: is_listening(city), "the console listens")
        arguments = {"channel": "guide", "message": {"message": "The doors are open."}, "realm": "content"}
        await city.done("post_office.publish_to_agent_channel", arguments)
        publication = page.locator(".publication")
        await expect(publication.locator(".name")).to_have_text("content")
        await expect(publication.locator(".prose")).to_have_text("The doors are open.")


async def test_a_revoked_session_is_shown_the_door(city: Instance) -> None:
    user_id = unique("alice")
    async with console(city.url, user_id) as page:
        await city.done("traffic_cop.revoke_session", {"user_id": user_id})
        await expect(page.get_by_role("alert")).to_contain_text("Your session has ended")


async def test_signing_out_ends_the_session_on_the_platform(city: Instance) -> None:
    user_id = unique("alice")
    async with console(city.url, user_id) as page:
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_text("You are signed out.")).to_be_visible()
        listed = await city.done("traffic_cop.list_sessions", {"user_id": user_id})
        assert listed["sessions"] == []


async def test_a_cut_connection_misses_nothing(city: Instance) -> None:
    """Through a proxy, whose other address the front desk would not know: the session comes by hand."""
    async with FaultingProxy(urlsplit(city.url).port or 0) as proxy, browsing() as browser:
        url = f"http://127.0.0.1:{proxy.port}"
        async with looking(browser, url) as page:
            token = await city.session(unique("alice"))
            await page.context.add_cookies([{"name": "session_token", "value": token, "url": url}])
            await page.reload()
            await expect(page.locator(".link")).to_have_text("Connected")
            await eventually(lambda: is_listening(city), "the console listens")
            arguments = {"channel": "guide", "realm": "content"}
            await city.done("post_office.publish_to_agent_channel", arguments | {"message": {"message": "one"}})
            await expect(page.locator(".publication")).to_have_count(1)
            proxy.cut()
            for text in ("two", "three"):
                await city.done("post_office.publish_to_agent_channel", arguments | {"message": {"message": text}})
            await expect(page.locator(".strip")).to_contain_text("Caught up")
            await expect(page.locator(".publication .prose")).to_have_text(["one", "two", "three"])
