"""A channel's log read back in time, and pages of publications so large that few fit."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.shapes import problem
from tests.support.platform import Instance

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
LARGE = "x" * 900_000


async def say(city: Instance, channel: str, count: int, text: str = "") -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n, "text": text}})
        for n in range(count)
    ]


async def page(city: Instance, channel: str, way: str, **query: Any) -> Frame:
    """By the route or the operation, which are the same."""
    if way == "operation":
        return await city.done("post_office.get_channel_history", {"channel": channel, **query})
    response = await city.http.get(f"/api/channels/{channel}/history", params=query, headers=city.operator)
    assert response.status_code == 200, response.text
    found: Frame = response.json()
    return found


def numbers(page: Frame) -> list[int]:
    return [entry["payload"]["n"] for entry in page["publications"]]


WAYS = pytest.mark.parametrize("way", ["route", "operation"])


@in_town
@WAYS
async def test_a_page_before_an_offset_ends_there(town: Instance, channel: str, way: str) -> None:
    await say(town, channel, 12)
    assert numbers(await page(town, channel, way, before=8, limit=3)) == [4, 5, 6]
    assert numbers(await page(town, channel, way, before=2, limit=3)) == [0]
    assert numbers(await page(town, channel, way, before=1, limit=3)) == []
    assert numbers(await page(town, channel, way, before=900, limit=3)) == [9, 10, 11]


@in_town
@WAYS
async def test_going_back_page_by_page_misses_nothing(town: Instance, channel: str, way: str) -> None:
    await say(town, channel, 23)
    assert await read_back(town, channel, way, limit=5) == list(range(23))


async def read_back(city: Instance, channel: str, way: str, limit: int) -> list[int]:
    found = (await page(city, channel, way, limit=limit))["publications"]
    seen = [entry["payload"]["n"] for entry in found]
    while found := (await page(city, channel, way, before=found[0]["offset"], limit=limit))["publications"]:
        seen = [entry["payload"]["n"] for entry in found] + seen
        assert len(seen) < 100
    return seen


@in_town
@WAYS
async def test_going_on_over_large_ones_misses_nothing(town: Instance, channel: str, way: str) -> None:
    await say(town, channel, 10, LARGE)
    seen: list[int] = []
    since = "0"
    while (found := await page(town, channel, way, since=since, limit=10))["publications"]:
        seen += numbers(found)
        since = f"{found['offset']}.{found['epoch']}"
        assert len(seen) < 100
    assert seen == list(range(10))


@in_town
async def test_a_position_and_a_before_together_are_refused(town: Instance, channel: str) -> None:
    await say(town, channel, 2)
    url = f"/api/channels/{channel}/history?since=0&before=2"
    response = await town.http.get(url, headers=town.operator)
    assert response.status_code in {409, 422}
    problem(response, response.status_code, "conflict" if response.status_code == 409 else "invalid_argument")


@in_town
@pytest.mark.parametrize("before", ["0", "-1", "x", "1.k", "1.5"])
async def test_what_is_no_offset_is_refused(town: Instance, channel: str, before: str) -> None:
    response = await town.http.get(f"/api/channels/{channel}/history", params={"before": before}, headers=town.operator)
    problem(response, 422, "invalid_argument")
