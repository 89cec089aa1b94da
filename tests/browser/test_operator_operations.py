"""The console's explorer of operations, made from the platform's own document and tried on the real platform."""

from __future__ import annotations

import json

import pytest
from playwright.async_api import Browser, expect

from tests.support.operating import headed, operating
from tests.support.platform import OPERATOR_TOKEN, Instance, unique

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_every_operation_is_listed_and_has_a_page(browser: Browser, town: Instance) -> None:
    document = (await town.http.get("/openapi.json", headers=town.operator)).json()
    names = sorted(path.rpartition("/")[2] for path in document["paths"] if path.startswith("/soa/"))
    async with operating(browser, town.url, "operations") as page:
        links = page.locator(".catalogue a")
        await expect(links).to_have_count(len(names))
        assert sorted(await links.all_inner_texts()) == names
        for address in [await link.get_attribute("href") for link in await links.all()]:
            await page.evaluate("address => { location.hash = address }", address)
            await headed(page, str(address).rpartition("/")[2])
            await expect(page.get_by_role("button", name="Call it")).to_be_enabled()


async def test_operations_are_found_by_words(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "operations") as page:
        await page.get_by_label("Find").fill("queue")
        await expect(page.locator(".catalogue a")).to_have_text(["get_queue_status", "requeue_dead_letter"])
        await page.get_by_label("Find").fill("no such thing")
        await expect(page.get_by_text("There is no such operation.")).to_be_visible()


async def test_an_operation_is_tried_with_fields_and_answers(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "operations/post_office.publish_to_agent_channel") as page:
        await page.get_by_role("button", name="Fill in the example").click()
        await page.get_by_label("channel", exact=True).fill("pillar:content")
        await page.get_by_label("message", exact=True).fill('{"message": "tried"}')
        await page.get_by_label("realm (optional)").fill("")
        await page.get_by_role("button", name="Call it").click()
        result = page.get_by_label("Answer")
        await expect(result.get_by_role("heading", name="Done")).to_be_visible()
        told = json.loads(await result.locator("pre").first.inner_text())
        assert (told["status"], told["channel"]) == ("published", "pillar:content")
        history = await town.done("post_office.get_channel_history", {"channel": "pillar:content", "limit": 1})
        assert history["publications"][0]["payload"] == {"message": "tried"}


async def test_arguments_may_be_written_as_json_and_turned_back(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "operations/post_office.get_channel_history") as page:
        await page.get_by_label("channel", exact=True).fill("guide")
        await page.get_by_label("limit (optional)").fill("3")
        await page.get_by_role("button", name="Write JSON").click()
        editor = page.get_by_label("Arguments as JSON")
        assert json.loads(await editor.input_value()) == {"channel": "guide", "limit": 3}
        await editor.fill("{")
        await page.get_by_role("button", name="Call it").click()
        await expect(page.get_by_role("alert").filter(has_text="not a JSON object")).to_be_visible()
        await editor.fill('{"channel": "guide", "limit": 4}')
        await page.get_by_role("button", name="Fill in fields").click()
        await expect(page.get_by_label("limit (optional)")).to_have_value("4")


async def test_a_refusal_is_shown_whole_and_at_its_field(browser: Browser, town: Instance) -> None:
    address = "operations/post_office.get_channel_history"
    async with operating(browser, town.url, address, forgiven="status of 4") as page:
        await page.get_by_label("channel", exact=True).fill("NOT A CHANNEL")
        await page.get_by_role("button", name="Call it").click()
        result = page.get_by_label("Answer")
        await expect(result.get_by_role("heading", name="Refused: invalid_argument")).to_be_visible()
        await expect(page.get_by_label("channel", exact=True)).to_have_attribute("aria-invalid", "true")
        await page.get_by_label("channel", exact=True).fill("pillar:nowhere")
        await page.get_by_role("button", name="Call it").click()
        await expect(result.get_by_role("heading", name="Refused: unknown_channel")).to_be_visible()


async def test_what_takes_something_away_is_asked_about_first(browser: Browser, town: Instance) -> None:
    name = unique("mallory")
    async with (
        town.connected(await town.session(name)) as mallory,
        operating(browser, town.url, "operations/post_office.disconnect") as page,
    ):
        await page.get_by_label("user_id (optional)").fill(name)
        await page.get_by_role("button", name="Call it").click()
        await page.get_by_role("dialog").get_by_role("button", name="Keep it as it is").click()
        await mallory.nothing_but_pong()
        await page.get_by_role("button", name="Call it").click()
        await page.get_by_role("dialog").get_by_role("button", name="Call it").click()
        assert await mallory.close_code() == 1000


async def test_a_call_can_be_taken_to_a_terminal_without_the_token(browser: Browser, town: Instance) -> None:
    async with operating(browser, town.url, "operations/post_office.list_channels") as page:
        await page.get_by_role("button", name="Call it").click()
        await page.get_by_text("The same as a command").click()
        command = page.get_by_label("Answer").locator("pre").last
        await expect(command).to_contain_text(f"{town.url}/soa/post-office/list_channels")
        await expect(command).to_contain_text("$SMART_CITY_TOKEN")
        assert OPERATOR_TOKEN not in await page.content()


async def test_what_the_token_may_not_is_shown_and_cannot_be_called(browser: Browser, town: Instance) -> None:
    token = await town.service("watch", "post_office.observe")
    async with operating(browser, town.url, "operations", token) as page:
        line = page.locator(".catalogue li", has_text="create_service_token")
        await expect(line).to_contain_text("needs traffic_cop.admin")
        await line.get_by_role("link").click()
        await expect(page.get_by_role("button", name="Call it")).to_be_disabled()
        await expect(page.get_by_text("Your token lacks traffic_cop.admin.")).to_be_visible()
