"""``/metrics`` over a real platform: what is measured, how it is labelled, and what it says while Valkey is away."""

from __future__ import annotations

import time

from websockets.asyncio.client import connect

from tests.support.metrics import Series, families, samples, series
from tests.support.platform import IMPATIENT, Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually


async def scraped(city: Instance) -> dict[Series, float]:
    response = await city.http.get("/metrics", headers=city.operator)
    assert response.status_code == 200
    return samples(response.text)


async def test_every_family_has_a_help_text_and_every_series_the_instance(city: Instance) -> None:
    page = (await city.http.get("/metrics", headers=city.operator)).text
    for family in families(page).values():
        assert len(family.documentation.split()) >= 2, family.name
        for sample in family.samples:
            assert sample.labels["instance_id"] == city.settings.instance_id


async def test_inboxes_show_what_waits_and_who_takes_it(city: Instance) -> None:
    before = await scraped(city)
    async with city.connected(await city.session(unique("alice"))) as alice:
        await alice.ask(channel="guide", payload={"message": "hello"})
        after = await scraped(city)
        depth = series("post_office_inbox_depth", channel="guide")
        assert (before[depth], after[depth]) == (0, 1)
        assert after[series("post_office_inbox_capacity", channel="guide")] == city.settings.inbox_count
        assert after[series("post_office_inbox_bytes", channel="guide")] > 0
        assert after[series("post_office_inbox_consumers", channel="guide")] == 0
        assert after[series("post_office_inbox_dead_letters", channel="guide")] == 0

        async def oldest() -> bool:
            return (await scraped(city))[series("post_office_inbox_oldest_seconds", channel="guide")] > 0

        await eventually(oldest, "the question grows old")


async def test_valkey_and_the_event_loop_are_measured(city: Instance) -> None:
    async def is_measured() -> bool:
        return (await scraped(city))[series("event_loop_lag_seconds_count")] >= 1

    await eventually(is_measured, "the loop is looked at")
    found = await scraped(city)
    assert found[series("valkey_up")] == 1
    assert found[series("valkey_round_trip_seconds_count")] >= 1
    assert 0 < found[series("valkey_round_trip_seconds_sum")] < found[series("valkey_round_trip_seconds_count")]
    assert found[series("valkey_failures_total")] == 0


async def test_a_loop_that_is_held_up_shows_it(city: Instance) -> None:
    late = series("event_loop_lag_seconds_sum")
    before = (await scraped(city))[late]

    async def is_late() -> bool:
        time.sleep(0.6)  # noqa: ASYNC251  # what no code of ours does, and what this is to show
        return (await scraped(city))[late] > before + 0.05

    await eventually(is_late, "the lag is seen")


async def test_every_instance_tells_the_connections_of_all(platform: Platform) -> None:
    one, other = await platform.start(), await platform.start()
    async with one.connected(await one.session(unique("alice"))):

        async def is_known() -> bool:
            found = await scraped(other)
            wanted = series("fleet_connections", of_instance=one.settings.instance_id)
            return found[series("fleet_instances")] == 2 and found.get(wanted) == 1

        await eventually(is_known, "the other knows it")


async def test_handshakes_that_are_refused_and_sockets_that_close_are_counted_by_code(city: Instance) -> None:
    async with connect(city.ws_url + "?session_token=ses_nobody") as stranger:
        await stranger.wait_closed()
    async with city.connected(await city.session(unique("alice"))) as alice:
        await alice.socket.close(4321)

    async def are_counted() -> bool:
        found = await scraped(city)
        refused = found.get(series("websocket_refusals_total", code="unauthenticated"))
        closed = found.get(series("websocket_closes_total", code="other"))
        return (refused, closed, found[series("websocket_handshake_seconds_count")]) == (1, 1, 1)

    await eventually(are_counted, "both are counted")


async def test_http_responses_are_counted_by_status(city: Instance) -> None:
    await city.http.get("/nowhere")
    await city.http.post("/soa/post-office/list_channels", json={})
    await city.call("post_office.list_channels", {"unknown": 1})
    found = await scraped(city)
    for status in ("404", "401", "422"):
        assert found[series("http_responses_total", status=status)] == 1


async def test_operations_are_counted_whichever_surface_called_them(city: Instance) -> None:
    await city.done("post_office.list_channels")
    await city.http.post(
        "/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "tools/call",
              "params": {"name": "post_office_list_channels", "arguments": {}}},
        headers=city.operator | {"Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2025-06-18"},
    )  # fmt: skip
    await city.call("post_office.list_channels", {"unknown": 1})
    found = await scraped(city)
    name = {"operation": "post_office.list_channels"}
    assert found[series("operation_calls_total", **name)] == 3
    assert found[series("operation_refusals_total", code="invalid_argument", **name)] == 1
    assert found[series("operation_latency_seconds_count", **name)] == 3


async def test_while_valkey_is_away_the_page_says_so(platform: Platform) -> None:
    with ValkeyServer(appendfsync="no") as server:
        city = await platform.start(**IMPATIENT, valkey_url=server.url, open_metrics=True)
        server.hang()
        try:

            async def is_away() -> bool:
                found = await scraped(city)
                return found[series("valkey_up")] == 0 and found[series("valkey_failures_total")] > 0

            await eventually(is_away, "its absence is seen")
            assert series("post_office_inbox_depth", channel="guide") not in await scraped(city)
        finally:
            server.resume()

        async def is_back() -> bool:
            return (await scraped(city))[series("valkey_up")] == 1

        await eventually(is_back, "its return is seen")
