"""The JavaScript client in a real Chromium on the real platform: one connection for many tabs, and one for each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from playwright.async_api import BrowserContext, Error, Page

from tests.support.browser import browsing, looking
from tests.support.echo_agent import answering, echo
from tests.support.platform import Instance, unique
from tests.support.waiting import eventually

pytestmark = pytest.mark.needs("chromium")

OPEN = """async ({ token, shared, worker }) => {
  const { City } = await import("/console/client/index.js");
  window.heard = [];
  window.answers = [];
  window.city = new City(undefined, { token, shared, worker });
  city.on("message", ({ channel, payload }) => heard.push([channel, payload.message]));
  city.on("answer", ({ text }) => answers.push(text));
  city.subscribe("guide");
  await new Promise((resolve) => city.on("subscribed", ({ channel }) => channel === "guide" && resolve()));
  return city.connectionId;
}"""


async def tab(context: BrowserContext, url: str, token: str, **options: Any) -> tuple[Page, str]:
    """One more tab with a city, and its connection's id."""
    page = await context.new_page()
    await page.goto(f"{url}/console/")
    connection_id: str = await page.evaluate(OPEN, {"token": token, "shared": True, **options})
    return page, connection_id


@asynccontextmanager
async def browser_of(city: Instance, user: str) -> AsyncIterator[tuple[BrowserContext, str]]:
    """A browser whose profile is this user's."""
    token = await city.session(user)
    async with browsing() as browser, looking(browser, city.url) as page:
        yield page.context, token


async def connections(city: Instance, token: str) -> list[dict[str, Any]]:
    """The user's connections."""
    answer = await city.http.get("/api/connections/info", headers={"Authorization": f"Bearer {token}"})
    found: list[dict[str, Any]] = answer.json()["connections"]
    return found


async def publish(city: Instance, text: str) -> None:
    arguments = {"channel": "guide", "message": {"message": text}, "realm": "tests"}
    await city.done("post_office.publish_to_agent_channel", arguments)


async def true_in(page: Page, condition: str) -> None:
    """Waits for something on the page, which forbids that a browser's own waiting evaluates text in it."""
    await eventually(lambda: page.evaluate(condition), condition, seconds=10)


async def test_two_tabs_share_one_connection_and_each_hears(city: Instance) -> None:
    async with browser_of(city, unique("alice")) as (context, token):
        one, first = await tab(context, city.url, token)
        two, second = await tab(context, city.url, token)
        assert first == second
        assert len(await connections(city, token)) == 1
        await publish(city, "to all")
        for page in (one, two):
            await true_in(page, "heard.length === 1")
            assert await page.evaluate("heard") == [["guide", "to all"]]
        await two.evaluate("city.close()")
        await true_in(one, "navigator.locks.query().then(({ held, pending }) => held.length + pending.length === 4)")


async def test_an_answer_is_the_asking_tabs_alone(city: Instance) -> None:
    async with answering(city, echo()), browser_of(city, unique("alice")) as (context, token):
        one, _ = await tab(context, city.url, token)
        two, _ = await tab(context, city.url, token)
        assert await two.evaluate("(async () => String(await city.ask('guide', 'Who?')))()") == "Who? "
        assert await one.evaluate("answers") == []


async def test_a_closed_tab_leaves_the_other_one_connected_and_the_last_one_closes(city: Instance) -> None:
    async with browser_of(city, unique("alice")) as (context, token):
        one, first = await tab(context, city.url, token)
        two, _ = await tab(context, city.url, token)
        await one.close()
        await publish(city, "still here")
        await true_in(two, "heard.length === 1")
        assert await two.evaluate("city.connectionId") == first
        await two.goto("about:blank")
        await eventually(lambda: gone(city, token), "the connection is closed")


async def gone(city: Instance, token: str) -> bool:
    return len(await connections(city, token)) == 0


async def test_what_crashes_with_a_tab_is_noticed_by_the_other_one(city: Instance) -> None:
    """A browser may run tabs and their worker in one process: whatever of them is left goes on, within seconds."""
    async with browser_of(city, unique("alice")) as (context, token):
        one, _ = await tab(context, city.url, token)
        two, _ = await tab(context, city.url, token)
        await two.evaluate("city.unsubscribe('guide')")
        with suppress(Error):
            await one.goto("chrome://crash")
        await two.evaluate("city.subscribe('guide')")

        async def is_heard() -> bool:
            await publish(city, "anybody left?")
            return bool(await two.evaluate("heard.length > 0"))

        async def is_alone() -> bool:
            return len(await connections(city, token)) == 1

        await eventually(is_heard, "the other tab hears", seconds=20)
        await eventually(is_alone, "it comes back with one connection, also where it heard that before its worker died")


async def test_signing_out_in_one_tab_ends_it_in_all(city: Instance) -> None:
    async with browser_of(city, unique("alice")) as (context, token):
        one, _ = await tab(context, city.url, token)
        two, _ = await tab(context, city.url, token)
        await one.evaluate("city.end()")
        await true_in(two, "city.state.phase === 'off'")
        assert len(await connections(city, token)) == 0


async def test_without_a_worker_every_tab_has_its_own_connection(city: Instance) -> None:
    async with browser_of(city, unique("alice")) as (context, token):
        await context.add_init_script("delete window.SharedWorker")
        one, first = await tab(context, city.url, token)
        _, second = await tab(context, city.url, token)
        assert first != second
        assert len(await connections(city, token)) == 2
        await publish(city, "to both")
        await true_in(one, "heard.length === 1")


async def test_a_worker_that_cannot_be_loaded_is_done_without(city: Instance) -> None:
    token = await city.session(unique("alice"))
    async with browsing() as browser, looking(browser, city.url, forgiven="404") as page:
        one, _ = await tab(page.context, city.url, token, worker="/console/client/none.js")
        await publish(city, "heard all the same")
        await true_in(one, "heard.length === 1")
