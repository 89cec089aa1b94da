"""Questions, answers and publications in the console, in a real Chromium against a scripted gateway."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from tests.support.console import answer, asked, field, say, signed_in
from tests.support.scripted_gateway import ScriptedGateway

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_an_answer_appears_in_parts(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await say(page, "What is this?")
        message = await peer.queue("q-1")
        assert message["payload"]["message"] == "What is this?"
        await expect(page.locator(".question .progress")).to_have_text("Queued")
        await peer.answer("q-1", "a-1", "", stream="start")
        await peer.answer("q-1", "a-1", "A gateway ", stream="delta", part=1)
        await expect(answer(page).locator(".prose")).to_have_text("A gateway")
        await expect(answer(page)).to_have_attribute("data-state", "writing")
        await peer.answer("q-1", "a-1", "between **people**", stream="delta", part=2)
        await peer.answer("q-1", "a-1", "A gateway between **people** and agents.", stream="end")
        await expect(answer(page).locator(".prose")).to_have_text("A gateway between people and agents.")
        await expect(answer(page)).to_have_attribute("data-state", "done")


async def test_a_whole_answer_is_announced_and_its_parts_are_not(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        live = page.locator("[aria-live=polite]")
        await asked(page, peer, "Hello?")
        await peer.answer("q-1", "a-1", "Half of ", stream="delta", part=1)
        await expect(answer(page)).to_contain_text("Half of")
        assert "Half of" not in await live.inner_text()
        await peer.answer("q-1", "a-1", "Half of it, and the rest.", stream="end")
        await expect(live).to_contain_text("guide: Half of it, and the rest.")


async def test_a_failed_attempt_says_so_and_the_next_one_takes_its_place(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Hello?")
        await peer.answer("q-1", "a-1", "First", stream="delta", part=1)
        died = {"code": "internal", "message": "the agent died"}
        await peer.answer("q-1", "a-1", "", stream="error", error=died, retrying=True)
        await expect(answer(page).locator(".remark")).to_contain_text("Trying again")
        await peer.answer("q-1", "a-2", "", stream="start")
        await peer.answer("q-1", "a-2", "Second", stream="end")
        await expect(answer(page)).to_have_count(1)
        await expect(answer(page).locator(".prose")).to_have_text("Second")
        await expect(answer(page).locator(".remark")).to_have_text("Answered after 2 attempts.")


async def test_no_answer_is_told_in_words(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Hello?")
        tired = {"code": "deadline_exceeded", "message": "Nobody took it."}
        await peer.answer("q-1", "a-1", "", stream="error", error=tired)
        await expect(answer(page).locator(".remark")).to_have_text("No answer: Nobody took it.")


async def test_a_refused_message_can_be_sent_again_or_discarded(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await say(page, "Too fast")
        refused = await peer.heard("message")
        error = {"type": "error", "code": "rate_limited", "message": "x", "retryable": True, "retry_after": 2}
        await peer.send(error | {"id": refused["id"]})
        await expect(page.locator(".question .trouble")).to_contain_text("Try again in 2 seconds.")
        await page.get_by_role("button", name="Send again").click()
        again = await peer.heard("message")
        assert again["key"] == refused["key"]
        await peer.send(error | {"id": again["id"]})
        await page.get_by_role("button", name="Discard").click()
        await expect(page.locator(".question")).to_have_count(0)


async def test_what_services_publish_is_shown_and_counted_where_one_is_not(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.publish(41, {"message": "Index rebuilt"})
        await peer.publish(42, {"pages": 48})
        await peer.publish(41, {"message": "Elsewhere"}, channel="pillar:insights", message_id="other")
        await expect(page.locator(".publication").first).to_contain_text("Index rebuilt")
        await expect(page.locator(".publication .data")).to_have_text('{\n  "pages": 48\n}')
        insights = page.get_by_role("link", name=re.compile("Insights"))
        await expect(insights.locator(".badge")).to_have_text("1")
        await insights.click()
        await expect(page.locator(".publication")).to_contain_text("Elsewhere")
        await expect(insights.locator(".badge")).to_be_hidden()


async def test_what_is_sent_to_one_has_a_stop_of_its_own(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        mine = page.get_by_role("link", name=re.compile("For you"))
        await expect(mine).to_be_hidden()
        await peer.publish(1, {"message": "Your report is ready"}, channel="user:you")
        await mine.click()
        await expect(page.locator(".publication")).to_contain_text("Your report is ready")
        await expect(field(page)).to_be_hidden()


async def test_markup_on_the_wire_stays_text(browser: Browser, gateway: ScriptedGateway) -> None:
    attack = '<img src=x onerror="document.title=1"> [x](javascript:alert(1)) <script>document.title=1</script>'
    async with signed_in(browser, gateway) as (page, peer):
        await peer.publish(41, {"message": attack}, sender={"kind": "service", "id": attack})
        await asked(page, peer, attack)
        await peer.answer("q-1", "a-1", attack, stream="end", agent=attack)
        await expect(answer(page).locator(".prose")).to_have_text(attack)
        await expect(page.locator(".items img, .items script, .items a")).to_have_count(0)


async def test_channels_have_addresses_and_keep_their_drafts(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, _):
        await field(page).fill("half a thought")
        await page.get_by_role("link", name="Operations").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Operations")
        await expect(field(page)).to_have_value("")
        assert page.url.endswith("#/chat/pillar:operations")
        await page.go_back()
        await expect(field(page)).to_have_value("half a thought")


async def test_a_suggested_question_is_asked_with_one_click(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Explain this platform").click()
        assert (await peer.heard("message"))["payload"]["message"] == "Explain this platform"
        await expect(page.locator(".opening")).to_have_count(0)


async def test_an_answer_is_stopped_while_it_is_written(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Tell me everything")
        stop = answer(page).get_by_role("button", name="Stop")
        await peer.answer("q-1", "a-1", "In the beginning", stream="delta", part=1)
        await stop.click()
        frame = await peer.heard("stop")
        assert frame["message_id"] == "q-1"
        stopped = {"code": "stopped", "message": "nobody wants it"}
        await peer.answer("q-1", "a-1", "", stream="error", error=stopped, retrying=False)
        await expect(answer(page).locator(".remark")).to_have_text("Stopped.")
        await expect(answer(page).locator(".prose")).to_have_text("In the beginning")
        await expect(stop).to_be_hidden()
