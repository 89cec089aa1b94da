"""The console in a real Chromium against a scripted gateway: what people see, rare states too."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, expect

from tests.support.browser import PHONE, browsing, looking, poor_contrast
from tests.support.scripted_gateway import Peer, ScriptedGateway, position, scripted_gateway

FOCUS = """(() => {
  const element = document.activeElement;
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const name = element.className || element.textContent;
  return element === document.body ? null : [name, outlineStyle, parseFloat(outlineWidth)];
})()"""

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as browser:
        yield browser


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway() -> AsyncIterator[ScriptedGateway]:
    async with scripted_gateway() as gateway:
        yield gateway


@asynccontextmanager
async def signed_in(
    browser: Browser, gateway: ScriptedGateway, **options: Any
) -> AsyncIterator[tuple[Page, Peer]]:
    """The console with a living connection."""
    async with looking(browser, gateway.url, **options) as page:
        await page.get_by_role("button", name="Sign in").click()
        peer = await (await gateway.peer()).settle()
        await expect(page.locator(".link")).to_have_text("Connected")
        yield page, peer


async def say(page: Page, text: str) -> None:
    await field(page).fill(text)
    await field(page).press("Enter")


def field(page: Page) -> Locator:
    return page.locator("textarea")


def answer(page: Page) -> Locator:
    return page.locator(".answer")


async def asked(page: Page, peer: Peer, text: str, message_id: str = "q-1") -> None:
    await say(page, text)
    await peer.queue(message_id)


# Coming in and going out


async def test_one_click_signs_in_and_no_script_sees_the_token(
    browser: Browser, gateway: ScriptedGateway
) -> None:
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


async def test_signing_out_says_goodbye_and_ends_the_session(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_text("You are signed out.")).to_be_visible()
        await peer.gone.wait()
        assert peer.close_code == 1000
        assert gateway.desk.closed
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()


async def test_an_ended_session_leads_back_to_the_door_and_in_again(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await asked(page, peer, "Do you remember me?")
        await peer.close(4501, "revoked")
        await expect(page.get_by_role("alert")).to_have_text(
            "Your session has ended. Sign in again to go on."
        )
        await page.get_by_role("button", name="Sign in").click()
        await (await gateway.peer()).settle()
        await expect(page.locator(".question .said")).to_have_text("Do you remember me?")


async def test_a_session_that_is_about_to_end_can_be_kept(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.send(
            {"type": "system", "event": "session_expiring", "expires_at": "2026-11-20T10:00:00.000Z"}
        )
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


# Talking


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


async def test_a_whole_answer_is_announced_and_its_parts_are_not(
    browser: Browser, gateway: ScriptedGateway
) -> None:
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


async def test_a_refused_message_can_be_sent_again_or_discarded(
    browser: Browser, gateway: ScriptedGateway
) -> None:
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
    attack = (
        '<img src=x onerror="document.title=1"> [x](javascript:alert(1)) <script>document.title=1</script>'
    )
    async with signed_in(browser, gateway) as (page, peer):
        await peer.publish(41, {"message": attack}, sender={"kind": "service", "id": attack})
        await asked(page, peer, attack)
        await peer.answer("q-1", "a-1", attack, stream="end", agent=attack)
        await expect(answer(page).locator(".prose")).to_have_text(attack)
        await expect(page.locator(".items img, .items script, .items a")).to_have_count(0)


async def test_channels_have_addresses_and_keep_their_drafts(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, _):
        await field(page).fill("half a thought")
        await page.get_by_role("link", name="Operations").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Operations")
        await expect(field(page)).to_have_value("")
        assert page.url.endswith("#/channels/pillar:operations")
        await page.go_back()
        await expect(field(page)).to_have_value("half a thought")


async def test_a_suggested_question_is_asked_with_one_click(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="What is this platform?").click()
        assert (await peer.heard("message"))["payload"]["message"] == "What is this platform?"
        await expect(page.locator(".opening")).to_have_count(0)


# Losing and finding the connection


async def test_it_comes_back_by_itself_resumes_and_catches_up(
    browser: Browser, gateway: ScriptedGateway
) -> None:
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


async def test_what_cannot_be_recovered_is_said_and_marked(
    browser: Browser, gateway: ScriptedGateway
) -> None:
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
        await expect(page.locator(".strip")).to_contain_text(
            re.compile(r"Reconnecting in (30|31) s \(attempt 1\)")
        )
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


async def test_a_connection_taken_over_comes_back_as_a_new_one(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (_, peer):
        await peer.close(4010)
        assert (await gateway.peer()).resume == ""


async def test_messages_typed_offline_go_out_in_order_once_back(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await peer.close(1013, "retry_after=30")
        await expect(page.locator(".link")).to_have_text("Reconnecting")
        for text in ("one", "two"):
            await say(page, text)
        await expect(page.locator(".question .progress").first).to_have_text("Waiting for the connection")
        await expect(page.locator(".hint")).to_have_text(
            "2 messages will be sent once the connection is back."
        )
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
        await (await gateway.peer()).settle("c-2")
        bob = await gateway.peer()
        assert (bob.user_id, bob.resume) == ("bob", "")
        await bob.settle("c-3")
        await expect(page.locator(".link")).to_have_text("Connected")
        await expect(page.locator(".question")).to_have_count(0)


# Frames


async def test_frames_are_listed_opened_filtered_and_paused(
    browser: Browser, gateway: ScriptedGateway
) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Frames").click()
        rows = page.locator(".frame")
        await expect(rows.last).to_contain_text("system · welcome")
        await peer.publish(41, {"message": "one"})
        await expect(rows.first).to_contain_text("message")
        await rows.first.locator("summary").click()
        await expect(rows.first.locator("pre")).to_contain_text('"message_id": "pub-41"')
        await page.get_by_label("Filter frames").fill("welcome")
        await expect(rows).to_have_count(1)
        await page.get_by_label("Filter frames").fill("")
        shown = await rows.count()
        await page.get_by_role("button", name="Pause").click()
        await peer.publish(42, {"message": "two"})
        await expect(page.locator(".count")).to_contain_text("1 new")
        await expect(rows).to_have_count(shown)
        await page.get_by_role("button", name="Resume").click()
        await expect(rows).to_have_count(shown + 1)
        await peer.send({"type": "heartbeat"})
        await page.get_by_label("Heartbeats").check()
        await expect(rows.first).to_contain_text("heartbeat")


async def test_the_list_of_frames_is_bounded(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, peer):
        await page.get_by_role("button", name="Frames").click()
        for offset in range(41, 641):
            await peer.publish(offset, {"message": f"news {offset}"})
        await expect(page.locator(".publication").last).to_contain_text("news 640")
        await expect(page.locator(".frame")).to_have_count(500)
        await expect(page.locator(".publication")).to_have_count(400)


# For everybody


async def test_everything_can_be_done_with_the_keyboard(browser: Browser, gateway: ScriptedGateway) -> None:
    async with looking(browser, gateway.url) as page:
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        peer = await (await gateway.peer()).settle()
        await expect(field(page)).to_be_focused()
        await page.keyboard.type("one")
        await page.keyboard.press("Shift+Enter")
        await page.keyboard.type("two")
        await page.keyboard.press("Enter")
        assert (await peer.heard("message"))["payload"]["message"] == "one\ntwo"
        await expect(field(page)).to_have_value("")
        await page.get_by_role("button", name="Frames").press("Enter")
        await expect(page.locator("aside")).to_be_visible()
        await page.keyboard.press("Escape")
        await expect(page.locator("aside")).to_be_hidden()
        await expect(page.get_by_role("button", name="Frames")).to_be_focused()


async def test_whatever_has_the_focus_shows_it(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway) as (page, _):
        await page.get_by_role("button", name="Frames").click()
        await page.evaluate("document.activeElement.blur()")
        seen: list[str] = []
        while True:
            await page.keyboard.press("Tab")
            focused = await page.evaluate(FOCUS)
            if focused is None:
                break
            seen.append(focused[0])
            assert focused[1] != "none", focused
            assert focused[2] >= 2, focused
        assert len(set(seen)) > 10


@pytest.mark.parametrize("size", [PHONE, (768, 1024), (1440, 900)], ids=str)
async def test_nothing_sticks_out_sideways(
    browser: Browser, gateway: ScriptedGateway, size: tuple[int, int]
) -> None:
    async with signed_in(browser, gateway, size=size) as (page, peer):
        await asked(page, peer, "w" * 400)
        await peer.answer("q-1", "a-1", f"{'long' * 200}\n\n```\n{'code ' * 100}\n```", stream="end")
        await peer.publish(41, {"key" * 100: "value" * 200})
        await expect(page.locator(".publication")).to_be_visible()
        for act in ("Frames", "Close frames"):
            width = await page.evaluate("document.documentElement.scrollWidth")
            scrolled = await page.evaluate("document.querySelector('.scroller').scrollWidth")
            inside = await page.evaluate("document.querySelector('.scroller').clientWidth")
            assert width <= size[0]
            assert scrolled <= inside
            await page.get_by_role("button", name=act, exact=True).click()
        await expect(field(page)).to_be_in_viewport()
        await expect(page.get_by_role("button", name="Frames")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_all_text_can_be_read(
    browser: Browser, gateway: ScriptedGateway, scheme: Literal["light", "dark"]
) -> None:
    """Contrast by WCAG 2.2, 1.4.3 (AA), in every state at once."""
    async with looking(browser, gateway.url, scheme=scheme) as page:
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()
        assert await poor_contrast(page) == []
        await page.get_by_role("button", name="Sign in").click()
        peer = await (await gateway.peer()).settle()
        await expect(page.locator(".opening")).to_be_visible()
        assert await poor_contrast(page) == []
        await asked(page, peer, "Hello?")
        await peer.answer("q-1", "a-1", "# Title\n\nText `code` https://example.org\n\n- item", stream="end")
        await peer.answer("q-0", "a-0", "", stream="error", error={"code": "internal", "message": ""})
        await peer.publish(41, {"pages": 48})
        await peer.publish(41, {"message": "x"}, channel="pillar:content", message_id="other")
        await peer.send(
            {"type": "reset", "channel": "guide", "offset": 50, "epoch": "e", "reason": "trimmed"}
        )
        await peer.send({"type": "unsubscribed", "channel": "guide", "code": "forbidden", "message": "no"})
        await page.get_by_role("button", name="Frames").click()
        await page.locator(".frame summary").first.click()
        assert await poor_contrast(page) == []
        await say(page, "refused")
        refused = await peer.heard("message")
        error = {
            "type": "error",
            "code": "forbidden",
            "message": "x",
            "retryable": False,
            "id": refused["id"],
        }
        await peer.send(error)
        await expect(page.get_by_role("button", name="Send again")).to_be_visible()
        await peer.close(1013, "retry_after=30")
        await expect(page.get_by_role("button", name="Reconnect now")).to_be_visible()
        await say(page, "waiting")
        await expect(page.locator("[data-progress=waiting]")).to_be_visible()
        assert await poor_contrast(page) == []


async def test_who_wants_no_motion_gets_none(browser: Browser, gateway: ScriptedGateway) -> None:
    async with signed_in(browser, gateway, reduced_motion="reduce") as (page, peer):
        await asked(page, peer, "Hello?")
        await peer.answer("q-1", "a-1", "", stream="start")
        await expect(answer(page)).to_be_visible()
        endless = (
            "document.getAnimations().filter((a) => a.effect.getTiming().iterations === Infinity).length"
        )
        assert await page.evaluate(endless) == 0
