"""A browser's own `EventSource` on the platform: it follows, comes back by itself, and misses nothing."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser

from tests.support.browser import looking
from tests.support.platform import Instance, unique
from tests.support.waiting import eventually

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.asyncio(loop_scope="module")]
FOLLOW = """() => {
  window.seen = { offsets: [], acks: [], closes: [] };
  const source = new EventSource("/api/channels/guide/events");
  source.onmessage = ({ data, lastEventId }) => window.seen.offsets.push([JSON.parse(data).offset, lastEventId]);
  source.addEventListener("ack", ({ data }) => window.seen.acks.push(JSON.parse(data)));
  source.addEventListener("close", ({ data }) => window.seen.closes.push(JSON.parse(data).code));
}"""


async def test_an_event_source_comes_back_with_the_last_id_and_misses_nothing(browser: Browser, town: Instance) -> None:
    city, user = town, unique("alice")
    async with looking(browser, f"{city.url}/console/") as page:
        await page.context.add_cookies(
            [{"name": "session_token", "value": await city.session(user), "url": city.url, "sameSite": "Strict"}]
        )
        await page.evaluate(FOLLOW)

        async def seen(name: str, count: int) -> list[object]:
            found: list[object] = await page.evaluate(f"window.seen.{name}")
            return found if len(found) >= count else []

        await eventually(lambda: seen("acks", 1), "it follows")
        await publish(city)
        await eventually(lambda: seen("offsets", 1), "it hears")
        await city.done("post_office.disconnect", {"user_id": user, "code": 1012})
        await eventually(lambda: seen("closes", 1), "it is told")
        epoch = (await publish(city))["epoch"]
        acks = await eventually(lambda: seen("acks", 2), "it comes back", 10)
        assert acks[1] == {
            "type": "ack",
            "channel": "guide",
            "offset": 1,
            "epoch": epoch,
            "recovered": True,
            "missed": 1,
        }
        await publish(city)
        offsets = await eventually(lambda: seen("offsets", 3), "it hears what it missed, and what follows")
        assert offsets == [[n, f"{n}.{epoch}"] for n in (1, 2, 3)]


async def publish(city: Instance) -> dict[str, object]:
    return await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {}})
