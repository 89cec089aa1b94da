"""Section 3: the routes beside the operations, and who may see them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.contract.shapes import has_only, problem
from tests.support.platform import Instance, Platform, unique

in_town = pytest.mark.asyncio(loop_scope="module")

OBSERVE = ("post_office.observe", "traffic_cop.observe", "nurse.observe")
POST_OFFICE = (
    "publish_to_agent_channel", "send_to_agent", "publish_batch", "send_to_connection", "send_to_user",
    "get_websocket_endpoint", "subscribe_to_channel", "receive_messages", "acknowledge_messages", "reply",
    "extend_delivery", "fail_delivery", "forward_delivery", "get_channel_history", "get_connection_count",
    "get_connections_by_channel", "list_connections", "get_connection", "disconnect", "list_channels",
    "get_queue_status",
)  # fmt: skip
TRAFFIC_COP = (
    "create_session", "validate_session", "get_session", "refresh_session", "revoke_session", "list_sessions",
    "create_service_token", "list_service_tokens", "revoke_service_token", "check_rate_limit",
    "get_caller_identity",
)  # fmt: skip


@in_town
@pytest.mark.parametrize("path", ["/metrics", "/docs", "/openapi.json", "/asyncapi.json"])
async def test_metrics_and_documents_need_a_scope(town: Instance, path: str) -> None:
    problem(await town.http.get(path), 401, "unauthenticated")
    nothing = await town.service(unique("nothing"))
    problem(await town.http.get(path, headers={"Authorization": f"Bearer {nothing}"}), 403, "forbidden")
    observer = await town.service(unique("observer"), *OBSERVE)
    assert (await town.http.get(path, headers={"Authorization": f"Bearer {observer}"})).status_code == 200
    assert (await town.http.get(path, headers=town.operator)).status_code == 200


@in_town
async def test_metrics_carry_neither_tokens_nor_user_names(town: Instance) -> None:
    user, key = unique("mallory"), "very-secret-key"
    token = await town.session(user)
    async with town.connected(token) as client:
        await client.ask(channel="guide", payload={}, key=key)
    page = (await town.http.get("/metrics", headers=town.operator)).text
    assert user not in page
    assert token not in page
    assert key not in page


def operations_of(document: dict[str, Any]) -> dict[str, Any]:
    """The described operation of every path under /soa."""
    return {path: item["post"] for path, item in document["paths"].items() if path.startswith("/soa/")}


@in_town
async def test_the_openapi_document_has_every_operation_with_example_and_errors(town: Instance) -> None:
    document = (await town.http.get("/openapi.json", headers=town.operator)).json()
    for path, operation in operations_of(document).items():
        assert "example" in operation["requestBody"]["content"]["application/json"], path
        assert {"200", "401", "403", "422"} <= set(operation["responses"]), path
        assert operation.get("security", document.get("security")), path
        for status, response in operation["responses"].items():
            if "$ref" in response:
                response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
            wanted = "application/json" if status in {"200", "202"} else "application/problem+json"
            assert "schema" in response["content"][wanted], (path, status)


@in_town
async def test_every_operation_of_this_step_is_there(town: Instance) -> None:
    document = (await town.http.get("/openapi.json", headers=town.operator)).json()
    wanted = {f"/soa/post-office/{name}" for name in POST_OFFICE} | {f"/soa/traffic-cop/{name}" for name in TRAFFIC_COP}
    assert wanted <= set(operations_of(document))
    for path in wanted:
        assert (await town.http.post(path, json={})).status_code == 401, path


@in_town
@pytest.mark.parametrize("path", ["/", "/console/"])
async def test_the_consoles_files_are_public(town: Instance, path: str) -> None:
    response = await town.http.get(path, follow_redirects=True)
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    for script in re.findall(r'src="([^"]+\.js)"', response.text):
        assert (await town.http.get(f"/console/{script.removeprefix('/console/')}")).status_code == 200


@in_town
@pytest.mark.parametrize(
    "path",
    ["/console/../pyproject.toml", "/console/%2e%2e/%2e%2e/README.md", "/console/..%2f..%2fREADME.md",
     "/console//etc/passwd", "/console/%00", "/console/index.html%00.js", "/console/__init__.py"],
)  # fmt: skip
async def test_nothing_beside_the_consoles_files_is_public(town: Instance, path: str) -> None:
    response = await town.http.get(path)
    assert response.status_code in {400, 404}, response.text[:200]


@in_town
async def test_connection_stats_are_those_of_the_operation(town: Instance) -> None:
    problem(await town.http.get("/api/connections/stats"), 401, "unauthenticated")
    session = await town.session(unique("alice"))
    refused = await town.http.get("/api/connections/stats", headers={"Authorization": f"Bearer {session}"})
    problem(refused, 403, "forbidden")
    async with town.connected(session) as alice:
        await alice.subscribe("guide")
        stats = (await town.http.get("/api/connections/stats", headers=town.operator)).json()
        counted = await town.done("post_office.get_connection_count")
    assert stats == counted
    has_only(stats, {"global", "by_channel", "by_instance", "users"})


@in_town
async def test_connection_info_is_the_callers_own(town: Instance) -> None:
    alice, bob = unique("alice"), unique("bob")
    token = await town.session(alice)
    problem(await town.http.get("/api/connections/info"), 401, "unauthenticated")
    stranger = await town.session(bob)
    async with town.connected(token) as first, town.connected(token) as second, town.connected(stranger):
        response = await town.http.get("/api/connections/info", headers={"Authorization": f"Bearer {token}"})
    assert response.status_code == 200
    assert bob not in response.text
    ids = {connection["connection_id"] for connection in response.json()["connections"]}
    assert ids == {first.id, second.id}


@in_town
async def test_answers_are_json_without_what_json_does_not_know(town: Instance) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    for path in ("/health", "/api/health", "/health/ready", "/api/connections/stats"):
        json.loads((await town.http.get(path, headers=town.operator)).text, parse_constant=refuse)


@in_town
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403), ({"Host": "evil.example"}, 403),
        ({"Origin": "OWN"}, 200),
    ],
    ids=str,
)  # fmt: skip
async def test_one_click_signs_in_from_this_machine_only(town: Instance, headers: dict[str, str], status: int) -> None:
    """Of the issue: only when bound to loopback, with Host and Origin checked. The console's script names the path."""
    script = (await town.http.get("/console/model/session.js")).text
    (path,) = set(re.findall(r'"(/console/[a-z/]+)"', script))
    given = {name: town.url if value == "OWN" else value for name, value in headers.items()}
    response = await town.http.post(path, json={"user_id": unique("alice")}, headers=given)
    assert response.status_code == status, response.text
    cookie = response.headers.get("set-cookie", "")
    assert cookie.startswith("session_token=") is (status == 200)
    if status == 200:
        assert "HttpOnly" in cookie
        assert "samesite=strict" in cookie.lower()


async def test_one_click_is_not_offered_where_others_can_come(platform: Platform) -> None:
    city = await platform.start(host="0.0.0.0")  # noqa: S104 - nothing is bound there: the test brings its own socket
    response = await city.http.post("/console/session", json={"user_id": "mallory"}, headers={"Origin": city.url})
    assert response.status_code in {403, 404}, response.text
    assert "set-cookie" not in response.headers
