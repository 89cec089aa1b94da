"""Traffic of the whole platform: what calls and frames leave behind in the figures of every instance."""

from __future__ import annotations

from typing import Any

from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique

Figures = dict[str, Any]
QUICK: Figures = {"traffic_seconds": 0.1, "operation_rates": "traffic_cop.get_traffic_analytics=1000/10000"}


async def figures(city: Instance) -> Figures:
    return await city.done("traffic_cop.get_traffic_analytics")


def total(shown: Figures, kind: str, name: str) -> Figures:
    nothing: Figures = {"count": 0, "refusals": {}, "buckets": []}
    found: Figures = shown[kind].get(name, {}).get("total", nothing)
    return found


async def test_calls_and_messages_of_all_instances_are_in_the_figures(platform: Platform) -> None:
    here, there = await platform.start(**QUICK), await platform.start(**QUICK)
    for city in (here, there):
        await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}})
        refused = await city.call("post_office.publish_to_agent_channel", {"channel": "nowhere:1", "message": {}})
        assert refused.status_code == 404
    token = await here.session(unique("alice"))
    async with here.connected(token) as alice:
        for duplicate in (None, True):
            asked = await alice.ask(channel="pillar:content", payload={"message": "hello"}, key="once")
            assert (asked["status"], asked.get("duplicate")) == ("queued", duplicate)
        assert (await alice.ask(type="publish", channel="guide", payload={}))["code"] == "forbidden"
        assert (await alice.ask(channel="nowhere:2", payload={}))["code"] == "unknown_channel"

    def is_whole(shown: Figures) -> bool:
        calls = total(shown, "operations", "post_office.publish_to_agent_channel")
        return (
            (calls["count"], calls["refusals"], sum(calls["buckets"])) == (4, {"unknown_channel": 2}, 4)
            and total(shown, "channels", "guide")["count"] == 2
            and total(shown, "channels", "guide")["refusals"] == {"forbidden": 1}
            and total(shown, "channels", "pillar:content")["count"] == 1
            and sum(total(shown, "channels", "pillar:content")["buckets"]) == 2
            and total(shown, "channels", "other")["refusals"] == {"unknown_channel": 1}
        )

    for city in (here, there):
        shown = await eventually(lambda: figures(city), is_whole, "all is counted")  # noqa: B023  # awaited at once
        assert shown["minutes"][0] == shown["from"]
        assert not any(name.startswith(("user:a", "connection:c")) for name in shown["channels"])


async def test_what_an_instance_counted_is_there_when_it_is_gone(platform: Platform) -> None:
    stays = await platform.start()
    async with platform.instance(traffic_seconds=1000) as leaves:
        await leaves.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": 1}})
    assert total(await figures(stays), "channels", "guide")["count"] == 1
