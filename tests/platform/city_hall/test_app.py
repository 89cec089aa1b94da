"""The application as a whole: what only shows when every surface is bound."""

from __future__ import annotations

from tests.support.metrics import samples, series
from tests.support.platform import Instance, Platform, unique

CALL = "/soa/post-office/get_channel_history"
ORIGIN = "https://app.example"


async def test_pages_of_an_allowed_origin_may_call_operations(platform: Platform) -> None:
    city = await platform.start(allowed_origins=ORIGIN)
    asked = {
        "Origin": ORIGIN, "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }  # fmt: skip
    allowed = await city.http.options(CALL, headers=asked)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    refused = await city.http.options(CALL, headers=asked | {"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in refused.headers
    token = await city.session(unique("alice"))
    called = await city.http.post(
        CALL, json={"channel": "guide"}, headers={"Origin": ORIGIN, "Authorization": f"Bearer {token}"}
    )
    assert called.status_code == 200
    assert called.headers["access-control-allow-origin"] == ORIGIN


async def test_without_configured_origins_no_page_elsewhere_may(city: Instance) -> None:
    answer = await city.http.post(CALL, json={"channel": "guide"}, headers=city.operator | {"Origin": ORIGIN})
    assert "access-control-allow-origin" not in answer.headers


async def test_metrics_count_what_happened(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"))) as alice:
        await alice.ask(channel="guide", payload={"message": "hello"})
        text = (await city.http.get("/metrics", headers=city.operator)).text
    values = samples(text)
    assert values[series("websocket_connections_active")] == 1
    assert values[series("websocket_connections_total")] == 1
    assert values[series("websocket_messages_received_total")] == 1
    assert values[series("websocket_message_latency_seconds_count")] == 1
    assert values[series("operation_calls_total", operation="traffic_cop.create_session")] == 1
