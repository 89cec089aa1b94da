"""How the console loses and finds its connection, in a real Chromium against a scripted gateway."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from tests.support.browser import looking
from tests.support.console import answer, asked, say, signed_in
from tests.support.scripted_gateway import ScriptedGateway, position

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_it_comes_back_by_itself_resumes_and_catches_up(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.publish(41, {"message": "before"})
        await expect(page.locator(".publication")).to_have_count(1)
        await peer.close(1012, "draining")
        again = await gateway.peer()
        assert again.resume == "c-1"
        await again.welcome("c-1", resumed=True)
        wanted = await again.join({"guide": position(41, "e1") | {"recovered": True, "missed": 2}})
        assert wanted["channels"]["guide"] == position(41, "e1")
        assert wanted["channels"]["pillar:content"] == position(40, "e1")
        assert "connection:c-1" in wanted["channels"]
        await again.publish(42, {"message": "during"})
        await again.publish(43, {"message": "during too"})
        await expect(page.locator(".strip")).to_contain_text("Caught up: 2 messages.")
        await expect(page.locator(".publication")).to_have_count(3)


async def test_what_cannot_be_recovered_is_said_and_marked(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.close(1012)
        again = await gateway.peer()
        await again.welcome("c-2")
        await again.join({"guide": position(90, "e2") | {"recovered": False, "reason": "trimmed"}})
        await expect(page.locator(".strip")).to_contain_text("Could not recover Guide")
        await expect(page.locator(".notice.gap")).to_contain_text("the history does not reach back that far")


async def test_it_counts_down_and_can_be_hurried(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.close(1013, "retry_after=30")
        await expect(page.locator(".link")).to_have_text("Reconnecting")
        await expect(page.locator(".strip")).to_contain_text(re.compile(r"Reconnecting in (30|31) s \(attempt 1\)"))
        await expect(page.locator(".strip")).to_contain_text(re.compile(r"Reconnecting in 29 s"))
        await page.get_by_role("button", name="Reconnect now").click()
        await (await gateway.peer()).settle()
        await expect(page.locator(".link")).to_have_text("Connected")


async def test_a_silent_platform_is_left(browser: Browser, gateway: ScriptedGateway) -> None:
    async with looking(browser, gateway.url) as page:
        await page.get_by_role("button", name="Sign in").click()
        await (await gateway.peer()).settle(heartbeat_seconds=0.1)
        again = await gateway.peer()
        assert again.resume == "c-1"


async def test_a_connection_taken_over_comes_back_as_a_new_one(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (_, peer):
        await peer.close(4010)
        assert (await gateway.peer()).resume == ""


async def test_messages_typed_offline_go_out_in_order_once_back(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.close(1013, "retry_after=30")
        await expect(page.locator(".link")).to_have_text("Reconnecting")
        for text in ("one", "two"):
            await say(page, text)
        await expect(page.locator(".question .progress").first).to_have_text("Waiting for the connection")
        await expect(page.locator(".hint")).to_have_text("2 messages will be sent once the connection is back.")
        await page.get_by_role("button", name="Reconnect now").click()
        again = await (await gateway.peer()).settle()
        sent = [await again.queue(name) for name in ("q-1", "q-2")]
        assert [frame["payload"]["message"] for frame in sent] == ["one", "two"]
        await expect(page.locator(".question[data-progress=safe]")).to_have_count(2)


async def test_cut_off_in_flight_a_message_is_sent_again_under_its_key(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await say(page, "Did you get this?")
        first = await peer.heard("message")
        await peer.close(1012)
        again = await (await gateway.peer()).settle()
        assert await again.heard("message") == first


async def test_a_reload_is_one_more_reconnection(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Do you remember me?")
        await peer.answer("q-1", "a-1", "", stream="start")
        await peer.answer("q-1", "a-1", "I do", stream="delta", part=1)
        await expect(answer(page)).to_contain_text("I do")
        await page.reload()
        again = await gateway.peer()
        assert again.resume == "c-1"
        assert peer.close_code != 1000
        await again.settle("c-1", resumed=True)
        await again.answer("q-1", "a-1", "I do, of course.", stream="end")
        await expect(page.locator(".question .said")).to_have_text("Do you remember me?")
        await expect(answer(page).locator(".prose")).to_have_text("I do, of course.")


async def test_another_persons_session_does_not_see_what_this_tab_kept(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Private")
        request = "fetch('/console/session', {method: 'POST', body: JSON.stringify({user_id: 'bob'})})"
        await page.evaluate(request)
        await page.reload()
        await (await gateway.peer()).welcome("c-2")
        bob = await gateway.peer()
        assert (bob.user_id, bob.resume) == ("bob", "")
        await bob.settle("c-3")
        await expect(page.locator(".link")).to_have_text("Connected")
        await expect(page.locator(".question")).to_have_count(0)
