"""Section 3: what balancers and operators are told about an instance, and who may read why it is not well."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
import redis

from tests.contract.shapes import has_only
from tests.contract.watching import eventually
from tests.support.metrics import samples
from tests.support.platform import Instance, Platform, unique
from tests.support.valkey import ValkeyServer

STATUSES = {"healthy", "degraded", "unhealthy"}


async def status_of(city: Instance, path: str) -> int:
    return (await city.http.get(path)).status_code


async def metrics(city: Instance) -> dict[str, float]:
    """Every series without labels but the instance's."""
    page = (await city.http.get("/metrics", headers=city.operator)).text
    return {name: value for (name, labels), value in samples(page).items() if not labels}


@pytest.fixture
def own_valkey() -> Iterator[ValkeyServer]:
    with ValkeyServer(appendfsync="no") as server:
        yield server


@pytest.fixture
async def lonely(own_valkey: ValkeyServer) -> AsyncIterator[Instance]:
    """An instance whose Valkey may be harmed."""
    async with AsyncExitStack() as stack:
        yield await Platform(own_valkey, stack).start()


async def test_balancers_need_no_token_and_get_200_when_all_is_well(city: Instance) -> None:
    for path in ("/health/live", "/health/ready", "/health", "/api/health"):
        assert await status_of(city, path) == 200, path


async def test_the_gateways_health_has_the_fields_of_the_seeds(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"))):
        body, api = [(await city.http.get(f"{root}/health/websocket-gateway")).json() for root in ("", "/api")]
    assert body == api
    has_only(body, {"status", "instance_id", "dependencies", "connections"})
    assert body["status"] == "ready"
    assert body["instance_id"] == city.settings.instance_id
    assert set(body["dependencies"]) == {"valkey", "traffic_cop", "post_office"}
    assert body["connections"] == 1


async def test_api_health_lists_only_what_exists(city: Instance) -> None:
    body = (await city.http.get("/api/health")).json()
    has_only(body, {"status", "services"})
    assert body["status"] == "healthy"
    assert body["services"]["valkey"]["status"] == "healthy"
    assert body["services"]["valkey"]["response_time_ms"] >= 0
    assert "error" not in body["services"]["valkey"]
    assert not {"database", "consul"} & set(body["services"])
    assert all(service["status"] in STATUSES for service in body["services"].values())


async def test_health_is_api_health_with_service_and_version(city: Instance) -> None:
    body, api = (await city.http.get("/health")).json(), (await city.http.get("/api/health")).json()
    has_only(body, {"status", "services", "service", "version"})
    assert body["status"] == api["status"]
    assert set(body["services"]) == set(api["services"])
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", body["version"])


async def test_without_valkey_the_city_is_degraded_and_only_who_may_reads_why(
    own_valkey: ValkeyServer, lonely: Instance
) -> None:
    session = await lonely.session(unique("alice"))
    plain = await lonely.service(unique("plain"))
    own_valkey.kill()

    async def look() -> dict[str, Any]:
        response = await lonely.http.get("/api/health", headers=lonely.operator)
        assert response.status_code == 200, response.text
        body: dict[str, Any] = response.json()
        return body

    body = await eventually(look, lambda seen: seen["status"] != "healthy", "degraded")
    assert body["status"] == "degraded"
    assert body["services"]["valkey"]["status"] == "unhealthy"
    assert body["services"]["valkey"]["error"].startswith("disconnected: ")
    for headers in ({}, {"Authorization": f"Bearer {session}"}, {"Authorization": f"Bearer {plain}"}):
        for path in ("/api/health", "/health"):
            response = await lonely.http.get(path, headers=headers)
            assert response.status_code == 200
            assert response.json()["services"]["valkey"]["status"] == "unhealthy"
            assert "disconnected" not in response.text
    assert await status_of(lonely, "/health/ready") == 200
    assert await status_of(lonely, "/health/live") == 200
    own_valkey.start()
    await eventually(look, lambda seen: seen["status"] == "healthy", "healthy again", 10)


async def test_deaf_although_valkey_answers_is_not_ready(own_valkey: ValkeyServer, lonely: Instance) -> None:
    """Its subscriptions are cut and not taken again, as by a rule of access; everything else is answered."""
    with redis.Redis(unix_socket_path=str(own_valkey.socket)) as admin:
        admin.execute_command("ACL", "SETUSER", "default", "-ssubscribe", "-subscribe")
        admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")

        async def ready() -> int:
            return await status_of(lonely, "/health/ready")

        await eventually(ready, lambda status: status == 503, "deaf", 10)
        gateway = (await lonely.http.get("/health/websocket-gateway")).json()
        assert gateway["status"] == "not_ready"
        assert await status_of(lonely, "/health/live") == 200
        admin.execute_command("ACL", "SETUSER", "default", "+ssubscribe", "+subscribe")
        await eventually(ready, lambda status: status == 200, "hearing again", 10)


async def test_metrics_have_the_names_of_section_7_and_count(city: Instance) -> None:
    before = await metrics(city)
    async with city.connected(await city.session(unique("alice"))) as alice:
        during = await metrics(city)
        await alice.subscribe("guide")
        await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {}})
        await alice.messages(1)
        await alice.socket.send("nonsense")
        await alice.of("error")
        after = await metrics(city)
    assert during["websocket_connections_active"] == before["websocket_connections_active"] + 1
    assert during["websocket_connections_total"] == before["websocket_connections_total"] + 1
    assert after["websocket_messages_received_total"] == during["websocket_messages_received_total"] + 2
    assert after["websocket_messages_sent_total"] == during["websocket_messages_sent_total"] + 1
    assert after["websocket_errors_total"] == during["websocket_errors_total"] + 1
    assert any(name.startswith("websocket_message_latency") for name in after)

    async def active() -> float:
        return (await metrics(city))["websocket_connections_active"]

    await eventually(active, lambda count: count == before["websocket_connections_active"], "the connection is gone")


async def test_a_setting_opens_metrics_and_documents(platform: Platform) -> None:
    city = await platform.start(open_metrics=True, open_docs=True)
    for path in ("/metrics", "/docs", "/openapi.json"):
        assert await status_of(city, path) == 200
