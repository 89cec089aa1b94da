"""The console's pages for sessions and service tokens, on the real platform: made, shown once, and ended."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.support.operating import operating, row
from tests.support.platform import Instance, unique

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_a_session_is_made_shown_once_and_opens_a_connection(browser: Browser, town: Instance) -> None:
    name = unique("alice")
    async with operating(browser, town.url, "sessions") as page:
        await page.get_by_role("button", name="New session").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("User").fill(name)
        await dialog.get_by_label("Lives").select_option("900")
        await dialog.get_by_role("button", name="Create").click()
        token = await dialog.locator(".token-text").inner_text()
        assert token.startswith("ses_")
        async with town.connected(token) as alice:
            assert alice.welcome["user_id"] == name
        await dialog.get_by_role("button", name="Done").click()
        await expect(page.locator(".token-text")).to_have_count(0)
        await expect(row(page, name)).to_contain_text("in 14 min")
        assert token not in await page.content()


async def test_a_session_may_be_given_just_some_rights(browser: Browser, town: Instance) -> None:
    name = unique("bob")
    async with operating(browser, town.url, "sessions") as page:
        await page.get_by_role("button", name="New session").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("User").fill(name)
        await dialog.get_by_label("Just this:").check()
        guide = dialog.get_by_role("group", name="guide")
        await guide.get_by_label("send").uncheck()
        for right in ("subscribe", "send", "history"):
            await dialog.get_by_role("group", name="pillar:*").get_by_label(right).uncheck()
        other = dialog.get_by_role("group", name="another channel")
        await other.get_by_role("textbox").fill("pillar:content")
        await other.get_by_label("publish").check()
        await dialog.get_by_role("button", name="Create").click()
        await dialog.get_by_role("button", name="Done").click()
        listed = await town.done("traffic_cop.list_sessions", {"user_id": name})
        channels = listed["sessions"][0]["channels"]
        assert {channel: sorted(rights) for channel, rights in channels.items()} == {
            "guide": ["history", "subscribe"],
            "pillar:content": ["publish"],
        }


async def test_what_the_platform_refuses_is_told_at_its_field(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "sessions", forgiven="status of 422") as page:
        await page.get_by_role("button", name="New session").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("User").fill(unique("carol"))
        await dialog.get_by_label("Made for").fill("no spaces here")
        await dialog.get_by_role("button", name="Create").click()
        await expect(dialog.get_by_label("Made for")).to_have_attribute("aria-invalid", "true")
        await expect(dialog.locator("[data-wrong-for=session_type]")).not_to_be_empty()


async def test_sessions_are_found_by_user_and_ended_one_or_all(browser: Browser, town: Instance) -> None:
    name = unique("dave")
    tokens = [await town.session(name) for _ in range(3)]
    await town.session(unique("eve"))
    async with town.connected(tokens[0]) as dave, operating(browser, town.url, "sessions") as page:
        await page.get_by_label("User").fill(name)
        await expect(page.locator("tbody tr")).to_have_count(3)
        assert page.url.endswith(f"#/sessions?user={name}")
        await page.get_by_role("button", name="Revoke the session").first.click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(page.locator("tbody tr")).to_have_count(2)
        await page.get_by_role("button", name=f"Revoke all of {name}").click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(page.get_by_text("There is no session.")).to_be_visible()
        assert await dave.close_code() == 4501


async def test_a_service_token_is_made_shown_once_and_revoked(browser: Browser, town: Instance) -> None:
    realm = unique("reports")
    async with operating(browser, town.url, "tokens") as page:
        await page.get_by_role("button", name="New token").click()
        dialog = page.get_by_role("dialog")
        await dialog.get_by_label("Realm").fill(realm)
        await dialog.get_by_label("post_office.observe").check()
        await dialog.get_by_role("button", name="Create").click()
        token = await dialog.locator(".token-text").inner_text()
        answer = await town.call("post_office.list_channels", {}, Authorization=f"Bearer {token}")
        assert answer.status_code == 200
        await page.keyboard.press("Escape")
        await expect(page.locator(".token-text")).to_have_count(0)
        assert token not in await page.content()
        await expect(row(page, realm)).to_contain_text("post_office.observe")
        await expect(row(page, realm)).to_contain_text("when revoked")
        await page.get_by_label("Realm").fill("no such realm")
        await expect(page.get_by_text("There is no service token.")).to_be_visible()
        await page.get_by_label("Realm").fill(realm)
        await row(page, realm).get_by_role("button").click()
        await page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
        await expect(row(page, realm)).to_have_count(0)
        answer = await town.call("post_office.list_channels", {}, Authorization=f"Bearer {token}")
        assert answer.status_code == 401


async def test_a_token_offers_to_hand_on_only_what_it_has(browser: Browser, town: Instance) -> None:
    token = await town.service("admin", "traffic_cop.admin", "post_office.history")
    async with operating(browser, town.url, "tokens", token) as page:
        await page.get_by_role("button", name="New token").click()
        boxes = page.get_by_role("dialog").get_by_role("checkbox")
        await expect(boxes).to_have_count(2)


async def test_a_token_can_be_copied(browser: Browser, town: Instance) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    async with operating(browser, town.url, "tokens", permissions=permissions) as page:
        await page.get_by_role("button", name="New token").click()
        await page.get_by_role("dialog").get_by_label("Realm").fill(unique("copied"))
        await page.get_by_role("dialog").get_by_role("button", name="Create").click()
        token = await page.locator(".token-text").inner_text()
        await page.get_by_role("button", name="Copy", exact=True).click()
        await expect(page.get_by_role("button", name="Copied", exact=True)).to_be_visible()
        assert await page.evaluate("navigator.clipboard.readText()") == token
