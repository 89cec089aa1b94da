"""The operator's pages that show what goes on, in a real Chromium on the real platform with real connections."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.support.operating import headed, operating, row
from tests.support.platform import Instance, unique

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]


async def test_channels_show_who_listens_and_how_far_they_have_come(browser: Browser, town: Instance) -> None:
    channel = "pillar:insights"
    async with town.connected(await town.session(unique("alice"))) as alice:
        await alice.subscribe(channel)
        told = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 1}})
        async with operating(browser, town.url, "channels") as page:
            cells = row(page, channel).locator("td")
            await expect(cells.nth(0)).to_have_text("1")
            await expect(cells.nth(1)).to_have_text(f"{told['offset']}.{told['epoch']}")
            told = await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 2}})
            await expect(cells.nth(1)).to_have_text(f"{told['offset']}.{told['epoch']}")
            await cells.nth(0).get_by_role("link").click()
            await headed(page, "Connections")
            await expect(row(page, alice.id)).to_be_visible()
            await expect(page.get_by_label("Channel")).to_have_value(channel)


async def test_connections_come_and_go_and_say_what_they_do(browser: Browser, town: Instance) -> None:
    agent = await town.service("clerk", "post_office.consume")
    async with operating(browser, town.url, "connections") as page:
        async with town.connected(agent) as clerk:
            await clerk.ask(type="consume", channel="pillar:content")
            await expect(row(page, clerk.id)).to_contain_text("~clerk")
            await expect(row(page, clerk.id)).to_contain_text("serves pillar:content")
            await expect(row(page, clerk.id)).to_contain_text(town.settings.instance_id)
            await expect(row(page, clerk.id)).to_contain_text("from 127.0.0.1")
            await expect(row(page, clerk.id)).to_contain_text("0 B")
        await expect(row(page, clerk.id)).to_have_count(0)


async def test_connections_are_filtered_and_the_address_remembers_it(browser: Browser, town: Instance) -> None:
    alice, bob = unique("alice"), unique("bob")
    async with (
        town.connected(await town.session(alice)) as first,
        town.connected(await town.session(bob)) as second,
        operating(browser, town.url, "connections") as page,
    ):
        await second.subscribe("pillar:operations")
        await expect(row(page, first.id)).to_be_visible()
        await expect(row(page, second.id)).to_be_visible()
        await page.get_by_label("User").fill(alice)
        await expect(row(page, second.id)).to_have_count(0)
        await expect(row(page, first.id)).to_be_visible()
        await page.get_by_label("User").fill("")
        await page.get_by_label("Channel").select_option("pillar:operations")
        await expect(row(page, first.id)).to_have_count(0)
        await expect(row(page, second.id)).to_be_visible()
        await page.reload()
        await expect(page.get_by_label("Channel")).to_have_value("pillar:operations")
        await expect(row(page, second.id)).to_be_visible()
        await page.get_by_label("User").fill("nobody")
        await expect(page.get_by_text("Nobody is here.")).to_be_visible()


async def test_a_connection_is_ended_only_when_one_is_sure(browser: Browser, town: Instance) -> None:
    name = unique("mallory")
    async with (
        town.connected(await town.session(name)) as mallory,
        operating(browser, town.url, "connections") as page,
    ):
        button = page.get_by_role("button", name=f"Disconnect {name}")
        await button.click()
        dialog = page.get_by_role("dialog")
        await expect(dialog.get_by_role("button", name="Keep it as it is")).to_be_focused()
        await page.keyboard.press("Escape")
        await expect(dialog).to_have_count(0)
        await expect(button).to_be_focused()
        await button.click()
        await dialog.get_by_role("button", name="Disconnect").click()
        assert await mallory.close_code() == 1000
        await expect(page.locator(".toast")).to_contain_text(f"{name} is disconnected")
        await expect(row(page, mallory.id)).to_have_count(0)


async def test_who_may_only_look_cannot_disconnect_nor_see_addresses(browser: Browser, town: Instance) -> None:
    token = await town.service("watch", "post_office.observe")
    async with (
        town.connected(await town.session(unique("alice"))) as alice,
        operating(browser, town.url, "connections", token) as page,
    ):
        await expect(row(page, alice.id).get_by_role("button")).to_be_disabled()
        await expect(row(page, alice.id)).not_to_contain_text("127.0.0.1")


async def test_queues_show_what_waits_and_that_nobody_takes_it(browser: Browser, town: Instance) -> None:
    channel = "pillar:business_outcomes"
    async with (
        town.connected(await town.session(unique("alice"))) as alice,
        operating(browser, town.url, "queues") as page,
    ):
        queue = row(page, channel)
        await expect(queue).to_contain_text("nobody")
        for number in range(3):
            await alice.ask(channel=channel, payload={"message": str(number)})
        await expect(queue).to_contain_text("3 of 10,000")
        await expect(queue.locator("[data-tone=bad]")).to_have_text("nobody")
        agent = await town.service("outcomes", "post_office.consume")
        async with town.connected(agent) as clerk:
            await clerk.ask(type="consume", channel=channel)
            await expect(queue.locator("[data-label=Agents]")).to_have_text("1")
            for _ in range(3):
                delivery = await clerk.of("delivery")
                await clerk.send(type="done", delivery_ids=[delivery["delivery_id"]])
            await expect(queue).to_contain_text("0 of 10,000")


async def test_a_dead_letter_is_put_back_or_dropped_only_when_one_is_sure(browser: Browser, town: Instance) -> None:
    channel, alice = "pillar:content", unique("alice")
    agent = await town.service("content", "post_office.consume")
    async with (
        town.connected(await town.session(alice)) as asker,
        town.connected(agent) as clerk,
        operating(browser, town.url, "queues") as page,
    ):
        await clerk.ask(type="consume", channel=channel)
        for text in ("first", "second"):
            await asker.ask(channel=channel, payload={"message": text})
            delivery = await clerk.of("delivery")
            await clerk.ask(type="failed", delivery_id=delivery["delivery_id"], reason="no archive", retry=False)
        queue = row(page, channel)
        await expect(queue.locator("[data-label=Takes]")).to_have_text("all")
        await queue.get_by_role("link", name="2", exact=True).click()
        await headed(page, f"Dead letters of {channel}")
        first, second = row(page, "first"), row(page, "second")
        await expect(first).to_contain_text(alice)
        await expect(first).to_contain_text("the agent gave up: no archive")
        await first.get_by_role("button", name="Put back").click()
        await page.get_by_role("dialog").get_by_role("button", name="Put back").click()
        await expect(page.locator(".toast")).to_contain_text("in the inbox again")
        await expect(first).to_have_count(0)
        again = await clerk.of("delivery")
        assert again["message"]["payload"] == {"message": "first"}
        await clerk.ask(type="done", delivery_ids=[again["delivery_id"]])
        await second.get_by_role("button", name="Drop").click()
        await page.get_by_role("dialog").get_by_role("button", name="Drop").click()
        await expect(page.get_by_text("There is no dead letter.")).to_be_visible()
        await page.get_by_role("link", name="Queues").first.click()
        await expect(queue).to_contain_text("none")
