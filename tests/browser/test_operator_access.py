"""Who gets to the operator's pages of the console, with what, and what becomes of the token: on the real platform."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import looking
from tests.support.operating import give_token, headed, operating, row
from tests.support.platform import OPERATOR_TOKEN, Instance, unique

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]
REFUSED = "the server responded with a status of 401"


async def test_a_page_asks_for_a_token_and_opens_with_it(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "channels") as page:
        await headed(page, "Channels")
        await expect(row(page, "guide")).to_be_visible()
        await expect(page.locator("[data-way=operate] .who")).to_have_text("operator")


async def test_a_token_that_nobody_knows_opens_nothing(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "queues", "svc_" + "x" * 43, forgiven=REFUSED) as page:
        await expect(page.get_by_role("alert")).to_contain_text("does not know this token")
        await give_token(page, OPERATOR_TOKEN)
        await expect(row(page, "guide")).to_be_visible()


async def test_a_persons_session_may_only_talk(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "channels", await town.session(unique("alice"))) as page:
        await expect(page.get_by_role("alert")).to_contain_text("session")


async def test_a_page_says_which_scope_the_token_lacks(browser: Browser, town: Instance) -> None:
    token = await town.service("reports", "post_office.publish")
    async with operating(browser, town.url, "connections", token) as page:
        await expect(page.locator(".gate")).to_contain_text("post_office.observe")
        await expect(page.locator(".gate")).to_contain_text("post_office.publish")
        await page.get_by_role("button", name="Use another token").click()
        await give_token(page, await town.service("watch", "post_office.observe"))
        await expect(page.get_by_label("User")).to_be_visible()


async def test_the_token_stays_in_its_tab_over_a_reload_and_goes_when_it_is_forgotten(
    browser: Browser, town: Instance
) -> None:
    asked: list[str] = []
    async with operating(browser, town.url, "queues") as page:
        page.on("request", lambda request: asked.append(request.url))
        await expect(row(page, "guide")).to_be_visible()
        await page.reload()
        await expect(row(page, "guide")).to_be_visible()
        assert not any(OPERATOR_TOKEN in url for url in [*asked, page.url])
        other = await page.context.new_page()
        await other.goto(page.url)
        await expect(other.get_by_label("Token", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Forget token").click()
        await expect(page.get_by_label("Token", exact=True)).to_be_visible()
        assert OPERATOR_TOKEN not in await page.evaluate("JSON.stringify([{...sessionStorage}, {...localStorage}])")
        assert OPERATOR_TOKEN not in await page.content()


async def test_a_token_that_is_revoked_closes_the_page_that_uses_it(browser: Browser, town: Instance) -> None:
    realm = unique("watch")
    token = await town.service(realm, "post_office.observe")
    async with operating(browser, town.url, "queues", token, forgiven=REFUSED) as page:
        await expect(row(page, "guide")).to_be_visible()
        (made,) = (await town.done("traffic_cop.list_service_tokens", {"realm": realm}))["tokens"]
        await town.done("traffic_cop.revoke_service_token", {"token_id": made["token_id"]})
        await expect(page.get_by_role("alert")).to_contain_text("expired or was revoked")


async def test_links_and_the_back_button_lead_where_they_say(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "queues") as page:
        await headed(page, "Queues")
        await page.get_by_role("link", name="Connections").click()
        await headed(page, "Connections")
        assert page.url.endswith("#/connections")
        await expect(page.get_by_role("link", name="Connections")).to_have_attribute("aria-current", "page")
        await expect(page).to_have_title("Connections · Smart City")
        await expect(page.get_by_role("main")).to_be_focused()
        await page.go_back()
        await headed(page, "Queues")
        await page.go_forward()
        await headed(page, "Connections")


async def test_one_may_talk_and_operate_side_by_side(browser: Browser, town: Instance) -> None:
    async with looking(browser, town.url) as page:
        await page.get_by_role("button", name="Sign in").click()
        await expect(page.locator(".link")).to_have_text("Connected")
        await page.get_by_role("link", name="Connections").click()
        await give_token(page, OPERATOR_TOKEN)
        await expect(row(page, "you")).to_be_visible()
        await page.get_by_role("link", name="Content").click()
        await headed(page, "Content")
        await expect(page.locator("textarea")).to_be_visible()
        await page.get_by_role("link", name="Queues").click()
        await page.get_by_role("button", name="Sign out").click()
        await headed(page, "Queues")
        await expect(page.get_by_role("link", name="Sign in to talk")).to_be_visible()


async def test_an_operator_without_a_session_comes_in_by_the_door(browser: Browser, town: Instance) -> None:
    async with looking(browser, town.url) as page:
        await page.get_by_role("link", name="Operate it with a token").click()
        await give_token(page, OPERATOR_TOKEN)
        await headed(page, "Channels")
        await page.get_by_role("link", name="Sign in to talk").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
