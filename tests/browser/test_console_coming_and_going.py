"""The way into the console and out of it, in a real Chromium against a scripted gateway."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import looking
from tests.support.console import asked, say, signed_in
from tests.support.scripted_gateway import ScriptedGateway, scripted_gateway

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_one_click_signs_in_and_no_script_sees_the_token(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        assert peer.user_id == "you"
        assert await page.evaluate("document.cookie") == ""
        await page.get_by_role("button", name="Frames").click()
        await expect(page.locator(".frame").first).to_be_visible()
        assert "ses_" not in await page.content()
        assert "ses_" not in await page.evaluate("JSON.stringify(sessionStorage)")


async def test_one_can_come_in_as_somebody_else(browser: Browser, gateway: ScriptedGateway) -> None:
    async with looking(browser, gateway.url) as page:
        await page.get_by_text("as somebody else").click()
        await page.get_by_label("Name").fill("alice")
        await page.get_by_role("button", name="Sign in").click()
        assert (await gateway.peer()).user_id == "alice"


async def test_signing_out_says_goodbye_and_ends_the_session(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_text("You are signed out.")).to_be_visible()
        await peer.gone.wait()
        assert peer.close_code == 1000
        assert gateway.desk.closed
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_an_ended_session_leads_back_to_the_door_and_in_again(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Do you remember me?")
        await peer.close(4501, "revoked")
        await expect(page.get_by_role("alert")).to_have_text("Your session has ended. Sign in again to go on.")
        await page.get_by_role("button", name="Sign in").click()
        await (await gateway.peer()).settle()
        await expect(page.locator(".question .said")).to_have_text("Do you remember me?")


async def test_what_one_person_wrote_is_not_sent_by_the_next_nor_shown(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.evaluate(
            """fetch("/console/session", {
                method: "POST", headers: {"content-type": "application/json"}, body: '{"user_id": "bob"}',
            })"""
        )
        await peer.close(1012, "draining")
        bobs = await gateway.peer()
        await say(page, "Yours alone")
        await expect(page.locator(".question")).to_contain_text("Waiting")
        assert bobs.user_id == "bob"
        await bobs.welcome("c-2")
        await bobs.gone.wait()
        assert [frame for frame in bobs.unread() if "payload" in frame] == []
        await (await gateway.peer()).settle("c-3")
        await expect(page.locator(".who")).to_have_text("bob")
        await expect(page.locator(".question")).to_have_count(0)


async def test_a_session_that_is_about_to_end_can_be_kept(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.send({"type": "system", "event": "session_expiring", "expires_at": "2026-11-20T10:00:00.000Z"})
        before = len(gateway.desk.opened)
        await page.get_by_role("button", name="Stay signed in").click()
        again = await gateway.peer()
        assert len(gateway.desk.opened) == before + 1
        assert again.resume == "c-1"
        await again.settle("c-1", resumed=True)
        await expect(page.locator(".strip")).to_contain_text("You stay signed in.")


async def test_where_sign_in_is_not_offered_the_page_says_why(browser: Browser) -> None:
    async with scripted_gateway(host="0.0.0.0") as gateway:  # noqa: S104, SIM117  # only said, not bound
        async with looking(browser, gateway.url) as page:
            await expect(page.get_by_text("does not hand out sessions")).to_be_visible()
            await expect(page.get_by_role("button")).to_have_count(0)


async def test_who_comes_while_nobody_answers_is_let_in_once_somebody_does(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with looking(browser, gateway.url, forgiven="ERR_") as page:
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await page.route("**/console/session", lambda route: route.abort())
        await page.reload()
        await expect(page.get_by_role("heading", name="Nobody is at the door.")).to_be_visible()
        await page.get_by_role("button", name="Try again").click()
        await expect(page.get_by_role("heading", name="Nobody is at the door.")).to_be_visible()
        await page.unroute("**/console/session")
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
