"""The HTTP surface over a real server: tokens, bodies, problems, documents, and what is public."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs

from city_hall.surfaces import http as http_surface
from city_hall.surfaces.catalogue import Catalogue
from city_hall.surfaces.http import bind_operations
from city_hall.surfaces.later import MCP_PATH
from city_hall.surfaces.problems import Problem
from foundations.errors import ERRORS, CityError, Unavailable
from foundations.operations import Caller, Result, operation, operations_of
from tests.support.example_city import ALICE, AWAY, NOBODY, OPERATOR, PUBLISHER, ExampleCity, identify
from tests.support.http_server import serving
from tests.support.parity import plain_client
from tests.support.waiting import PATIENCE

BY_SOCKET_ONLY = {"invalid_message", "unknown_type"}


@pytest.fixture
def city() -> ExampleCity:
    return ExampleCity(allowed_origins="https://city.example")


@pytest.fixture
async def http(city: ExampleCity) -> AsyncIterator[httpx2.AsyncClient]:
    """A client without a token."""
    async with serving(city.app) as url, plain_client(url) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def problem_of(response: httpx2.Response, code: str) -> Problem:
    """The problem in a response, complete and consistent."""
    assert response.headers["content-type"] == "application/problem+json"
    problem = Problem.model_validate_json(response.content)
    assert problem.code == code
    assert problem.status == response.status_code
    assert problem.error == problem.detail
    assert problem.success is False
    assert problem.type == f"/docs/problems#{code}"
    return problem


# Calling


async def test_a_call_answers_success_and_the_results_fields(http: httpx2.AsyncClient) -> None:
    response = await http.post("/soa/example/who_am_i", headers=bearer(ALICE))
    assert response.status_code == 200
    assert response.json() == {"success": True, "subject": "alice", "kind": "session"}


async def test_a_result_without_fields_is_just_success(http: httpx2.AsyncClient) -> None:
    response = await http.post("/soa/example/refuse", json={"code": "none"}, headers=bearer(OPERATOR))
    assert response.json() == {"success": True}


async def test_the_idempotency_key_and_the_trace_of_the_caller_reach_the_operation(
    http: httpx2.AsyncClient,
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {
        **bearer(PUBLISHER), "Idempotency-Key": "k1", "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
    }  # fmt: skip
    response = await http.post("/soa/example/echo", json={"payload": {"n": None}}, headers=headers)
    assert response.json() == {"success": True, "payload": {"n": None}, "key": "k1", "trace": trace}


async def test_a_key_that_is_too_long_is_named(http: httpx2.AsyncClient) -> None:
    headers = {**bearer(PUBLISHER), "Idempotency-Key": "k" * 65}
    response = await http.post("/soa/example/echo", json={"payload": {}}, headers=headers)
    problem = problem_of(response, "invalid_argument")
    assert [wrong.field for wrong in problem.errors or ()] == ["key"]


async def test_the_callers_own_connections_are_shown_to_the_caller(http: httpx2.AsyncClient) -> None:
    response = await http.get("/api/connections/info", headers=bearer(ALICE))
    assert response.json()["connections"] == [{"connection_id": "c1", "user_id": "alice"}]
    problem_of(await http.get("/api/connections/info"), "unauthenticated")


class Connections:
    """The one operation that has a plain address, too."""

    @operation(scope="post_office.observe", read_only=True, example={})
    async def get_connection_count(self, caller: Caller) -> Result:
        """Counts connections."""
        return Result()


async def test_connection_stats_are_the_operation_that_counts_them() -> None:
    city = ExampleCity()
    counted = Catalogue(operations_of(Connections(), "post_office"))
    bind_operations(city.app, counted, identify, city.invocation, city.settings, city.direct)
    async with serving(city.app) as url, plain_client(url) as http:
        problem_of(await http.get("/api/connections/stats"), "unauthenticated")
        problem_of(await http.get("/api/connections/stats", headers=bearer(NOBODY)), "forbidden")
        response = await http.get("/api/connections/stats", headers=bearer(PUBLISHER))
        assert response.json() == {"success": True}


async def test_operations_are_found_without_the_router(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    assert set(city.direct) == {entry.operation.path for entry in city.catalogue} | {MCP_PATH}
    city.app.router.routes.clear()
    problem_of(await http.post("/soa/example/wait"), "unauthenticated")
    assert (await http.get("/soa/example/wait")).status_code == 404


async def test_a_long_poll_whose_caller_leaves_is_given_up(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    call = asyncio.create_task(http.post("/soa/example/wait", headers=bearer(OPERATOR)))
    await asyncio.wait_for(city.service.began.wait(), PATIENCE)
    call.cancel()
    await asyncio.wait_for(city.service.cancelled.wait(), PATIENCE)
    assert city.counters.operation("example.wait").refusals == {}


async def test_a_long_poll_whose_caller_stays_is_answered(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    call = asyncio.create_task(http.post("/soa/example/wait", headers=bearer(OPERATOR)))
    await asyncio.wait_for(city.service.began.wait(), PATIENCE)
    city.service.release.set()
    assert (await call).json() == {"success": True}


# Tokens


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, 'Bearer realm="smart-city"'),
        (bearer("svc_unknown"), 'Bearer realm="smart-city", error="invalid_token"'),
        ({"Authorization": "Basic YTpi"}, 'Bearer realm="smart-city", error="invalid_token"'),
        ({"Authorization": "Bearer"}, 'Bearer realm="smart-city", error="invalid_token"'),
    ],
)
async def test_who_brings_no_good_token_is_told_how(
    http: httpx2.AsyncClient, headers: dict[str, str], told: str
) -> None:
    response = await http.post("/soa/example/who_am_i", headers=headers)
    problem_of(response, "unauthenticated")
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == told


async def test_a_token_that_nobody_can_judge_now_is_not_called_bad(http: httpx2.AsyncClient) -> None:
    response = await http.post("/soa/example/who_am_i", headers=bearer(AWAY))
    assert problem_of(response, "unavailable").retryable
    assert response.headers["retry-after"] == "2"


async def test_the_cookie_of_a_browser_counts_for_pages_of_allowed_origins_only(
    http: httpx2.AsyncClient,
) -> None:
    host = urlsplit(str(http.base_url)).netloc
    cookie = {"Cookie": f"other=1; session_token={ALICE}"}
    for origin in ({}, {"Origin": "https://city.example"}, {"Origin": f"http://{host}"}):
        response = await http.post("/soa/example/who_am_i", headers={**cookie, **origin})
        assert response.json()["subject"] == "alice"
    for foreign in ("https://evil.example", "null", f"http://{host}.evil.example", "http://[", "http://"):
        response = await http.post("/soa/example/who_am_i", headers={**cookie, "Origin": foreign})
        problem_of(response, "forbidden")


@pytest.mark.parametrize(
    ("site", "status"), [("none", 200), ("same-origin", 200), ("same-site", 403), ("cross-site", 403)]
)
async def test_what_a_foreign_page_only_shows_or_loads_goes_without_the_cookie(
    http: httpx2.AsyncClient, site: str, status: int
) -> None:
    """An image's address, say: such a request names no origin, and would open streams in the user's name."""
    headers = {"Cookie": f"session_token={ALICE}", "Sec-Fetch-Site": site}
    assert (await http.post("/soa/example/who_am_i", headers=headers)).status_code == status


async def test_a_bearer_token_is_no_matter_of_origins(http: httpx2.AsyncClient) -> None:
    headers = {**bearer(ALICE), "Origin": "https://evil.example", "Cookie": "session_token=ses_other"}
    assert (await http.post("/soa/example/who_am_i", headers=headers)).json()["subject"] == "alice"


# Bodies


async def test_a_body_at_the_limit_passes_and_one_above_it_does_not() -> None:
    city = ExampleCity(max_message_bytes=1024)
    limit = 1024 + http_surface.ENVELOPE_BYTES
    frame = len(json.dumps({"payload": {"text": ""}}))
    async with serving(city.app) as url, plain_client(url) as http:
        fits = json.dumps({"payload": {"text": "x" * (limit - frame)}})
        response = await http.post("/soa/example/echo", content=fits, headers=bearer(OPERATOR))
        assert response.status_code == 200
        response = await http.post("/soa/example/echo", content=fits + " ", headers=bearer(OPERATOR))
        problem_of(response, "too_large")


async def test_a_large_body_is_refused_even_if_it_does_not_say_how_large_it_is() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(80):
            yield b" " * 1024

    city = ExampleCity(max_message_bytes=1024)
    async with serving(city.app) as url, plain_client(url) as http:
        response = await http.post("/soa/example/echo", content=pieces(), headers=bearer(OPERATOR))
        problem_of(response, "too_large")


async def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    city = ExampleCity(body_seconds=0.05)
    async with serving(city.app) as url, plain_client(url) as http:
        reader, writer = await begun_request(http)
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readline()).startswith(b"HTTP/1.1 504 ")
            await reader.readuntil(b'"code":"deadline_exceeded"')
        writer.close()


async def begun_request(http: httpx2.AsyncClient) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request whose body ends in the middle."""
    url = urlsplit(str(http.base_url))
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"POST /soa/example/echo HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n"
    writer.write((head + 'Content-Length: 100\r\n\r\n{"payload"').encode())
    await writer.drain()
    return reader, writer


async def test_a_caller_who_leaves_within_the_body_leaves_no_trace_of_trouble(
    http: httpx2.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await begun_request(http)
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    assert (await http.get("/health/live")).status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# Problems


@pytest.mark.parametrize("error", [error for error in ERRORS if error.code not in BY_SOCKET_ONLY])
async def test_each_error_has_its_status_and_its_code(http: httpx2.AsyncClient, error: type[CityError]) -> None:
    arguments = {"code": error.code, "retry_after": 0.2}
    response = await http.post("/soa/example/refuse", json=arguments, headers=bearer(OPERATOR))
    problem = problem_of(response, error.code)
    assert (problem.status, problem.title, problem.retryable) == (error.status, error.title, error.retryable)
    assert problem.retry_after == 0.2
    assert response.headers["retry-after"] == "1"
    assert response.headers["cache-control"] == "no-store"


async def test_a_defect_tells_nothing_of_the_inside(http: httpx2.AsyncClient) -> None:
    response = await http.post("/soa/example/break_down", headers=bearer(OPERATOR))
    problem_of(response, "internal")
    assert "secret" not in response.text


async def test_a_defect_outside_of_operations_is_a_problem_too(http: httpx2.AsyncClient) -> None:
    response = await http.get("/defect")
    problem_of(response, "internal")
    assert "secret" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/soa/example/unknown", 404, "not_found"),
        ("POST", "/soa/unknown/echo", 404, "not_found"),
        ("GET", "/soa/example/echo", 405, "method_not_allowed"),
        ("GET", "/mcp", 405, "method_not_allowed"),
        ("DELETE", "/mcp", 405, "method_not_allowed"),
        ("GET", "/ws", 426, "upgrade_required"),
    ],
)
async def test_the_frameworks_own_refusals_are_problems(
    http: httpx2.AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    response = await http.request(method, path)
    assert problem_of(response, code).status == status
    assert ("allow" in response.headers) == (status == 405)
    assert response.headers.get("upgrade") == ("websocket" if status == 426 else None)


async def test_wrong_parameters_of_other_routes_are_problems(city: ExampleCity) -> None:
    async def read(limit: int) -> None:
        """Takes a number in the query."""

    city.app.add_api_route("/numbered", read, methods=["GET"])
    async with serving(city.app) as url, plain_client(url) as http:
        problem = problem_of(await http.get("/numbered?limit=x"), "invalid_argument")
        assert [wrong.field for wrong in problem.errors or ()] == ["limit"]


# Documents


async def test_documents_are_for_tokens_with_a_scope(http: httpx2.AsyncClient) -> None:
    for path in ("/openapi.json", "/docs"):
        problem_of(await http.get(path), "unauthenticated")
        for token in (NOBODY, ALICE):
            problem_of(await http.get(path, headers=bearer(token)), "forbidden")
        for token in (PUBLISHER, OPERATOR):
            assert (await http.get(path, headers=bearer(token))).status_code == 200


async def test_a_setting_opens_documents_and_metrics_to_all() -> None:
    city = ExampleCity(open_docs=True, open_metrics=True)
    async with serving(city.app) as url, plain_client(url) as http:
        for path in ("/openapi.json", "/docs", "/metrics"):
            assert (await http.get(path)).status_code == 200


@pytest.fixture
async def document(http: httpx2.AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = (await http.get("/openapi.json", headers=bearer(OPERATOR))).json()
    return found


async def test_the_document_describes_every_operation_whole(city: ExampleCity, document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for entry in city.catalogue:
        operation = entry.operation
        described = document["paths"][operation.path]["post"]
        assert described["summary"] == operation.summary
        assert described.get("description", "") == operation.description
        assert described["operationId"] == operation.tool_name
        assert described["tags"] == [operation.service]
        declared = operation.declared
        assert described["x-scope"] == declared.scope
        told = (described["x-read-only"], described["x-destructive"], described["x-idempotent"])
        assert told == (declared.read_only, declared.destructive, declared.idempotent)
        body = described["requestBody"]["content"]["application/json"]
        assert body["example"] == operation.declared.example
        sessions = {"session": []} in described["security"]
        assert sessions == operation.declared.sessions
        for status in {error.status for error in ERRORS} - {400}:
            assert str(status) in described["responses"]


async def test_everything_that_the_document_refers_to_is_in_it(document: dict[str, Any]) -> None:
    references = set(_references(document))
    assert "#/components/schemas/Problem" in references
    for reference in references:
        found: Any = document
        for part in reference.removeprefix("#/").split("/"):
            found = found[part]
        assert found


def _references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in _references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for value in node.values() for found in _references(value)]


async def test_problems_are_as_the_document_says(http: httpx2.AsyncClient, document: dict[str, Any]) -> None:
    components = document["components"]
    schema = {**components["schemas"]["Problem"], "components": components}
    validator = Draft202012Validator(schema)
    response = await http.post("/soa/example/add", json={}, headers=bearer(OPERATOR))
    validator.validate(response.json())
    for answer in components["responses"].values():
        for example in answer["content"]["application/problem+json"]["examples"].values():
            validator.validate(example["value"])


async def test_only_operations_with_a_key_take_the_header(document: dict[str, Any]) -> None:
    header = {"$ref": "#/components/parameters/IdempotencyKey"}
    assert document["paths"]["/soa/example/echo"]["post"]["parameters"] == [header]
    assert "parameters" not in document["paths"]["/soa/example/add"]["post"]


async def test_the_page_names_every_operation_and_runs_nothing(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    response = await http.get("/docs", headers=bearer(OPERATOR))
    for entry in city.catalogue:
        assert entry.operation.path in response.text
        assert entry.operation.summary in response.text
    assert "<script" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


# What is public


async def test_a_living_process_says_so(http: httpx2.AsyncClient) -> None:
    response = await http.get("/health/live")
    assert (response.status_code, response.json()) == (200, {"status": "alive"})


@pytest.mark.parametrize("path", ["/health/websocket-gateway", "/api/health/websocket-gateway"])
async def test_the_gateway_says_whether_it_takes_connections(http: httpx2.AsyncClient, path: str) -> None:
    response = await http.get(path)
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready", "instance_id": "i-1", "connections": 3,
        "dependencies": {"valkey": "healthy", "traffic_cop": "healthy", "post_office": "healthy"},
    }  # fmt: skip


async def test_health_names_service_and_version(http: httpx2.AsyncClient) -> None:
    body = (await http.get("/health")).json()
    assert (body["status"], body["service"], body["version"]) == ("healthy", "smart-city", "1.2.3")
    assert set((await http.get("/api/health")).json()) == {"status", "services"}


async def test_health_may_be_asked_for_without_its_body(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    for path in ("/health", "/health/live", "/health/ready", "/api/health"):
        response = await http.head(path)
        assert (response.status_code, response.content) == (200, b"")
    city.surroundings.state = "draining"
    assert (await http.head("/health/ready")).status_code == 503


async def test_error_texts_are_for_those_who_may_observe(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    city.surroundings.error = Unavailable("10.0.0.7 refused")
    for path in ("/health", "/api/health"):
        for token in ("", NOBODY, ALICE, AWAY, "svc_unknown"):
            response = await http.get(path, headers=bearer(token) if token else {})
            assert (response.status_code, response.json()["status"]) == (200, "degraded")
            assert "error" not in response.json()["services"]["valkey"]
        for token in (PUBLISHER, OPERATOR):
            response = await http.get(path, headers=bearer(token))
            assert response.json()["services"]["valkey"]["error"] == "disconnected: 10.0.0.7 refused"


async def test_balancers_are_sent_away_while_draining(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    city.surroundings.state = "draining"
    for path in ("/health/ready", "/health/websocket-gateway", "/health", "/api/health"):
        assert (await http.get(path)).status_code == 503
    assert (await http.get("/health/live")).status_code == 200


async def test_metrics_are_for_those_who_may_observe(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    city.counters.connections_active = 4
    problem_of(await http.get("/metrics"), "unauthenticated")
    problem_of(await http.get("/metrics", headers=bearer(NOBODY)), "forbidden")
    response = await http.get("/metrics", headers=bearer(PUBLISHER))
    assert "websocket_connections_active 4.0" in response.text
    assert response.headers["content-type"].startswith("text/plain")
    openmetrics = {**bearer(PUBLISHER), "Accept": "application/openmetrics-text"}
    response = await http.get("/metrics", headers=openmetrics)
    assert response.headers["content-type"].startswith("application/openmetrics-text")


async def test_a_rate_limit_is_told_with_its_wait(city: ExampleCity, http: httpx2.AsyncClient) -> None:
    city.limits.only.left = 0
    response = await http.post("/soa/example/who_am_i", headers=bearer(ALICE))
    assert problem_of(response, "rate_limited").retry_after == 0.25
    assert response.headers["retry-after"] == "1"
    assert city.limits.asked == [("alice", "calls")]


async def test_a_misspelt_operation_is_told_which_was_meant(http: httpx2.AsyncClient) -> None:
    problem = problem_of(await http.post("/soa/example/who_am_y", json={}), "not_found")
    assert "did you mean /soa/example/who_am_i?" in problem.detail
    assert "did you mean" not in problem_of(await http.get("/soa/zzz"), "not_found").detail
