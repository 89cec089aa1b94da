"""The OpenAPI document: complete, with examples that are as described, and nothing that a fuzzer finds untrue."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import pytest_asyncio
from starlette.routing import Route

from city_hall.surfaces.channel_events import PATH as EVENTS
from tests.support.platform import OPERATOR_TOKEN, PATIENT, Instance, Platform
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
ELSEWHERE = {"/ws", "/mcp", "/", "/console", "/console/session", "/console/{path:path}"}
"""What is described as a protocol of its own, and the pages of the console."""
EXAMPLES = 15


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    async with AsyncExitStack() as stack:
        yield await Platform(valkey_server, stack, **PATIENT).start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def document(town: Instance) -> dict[str, Any]:
    answer: dict[str, Any] = (await town.http.get("/openapi.json", headers=town.operator)).json()
    return answer


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for operation in item.values():
            yield path, operation


async def test_every_route_is_described(town: Instance, document: dict[str, Any]) -> None:
    routes = {route.path for route in town.app.routes if isinstance(route, Route)}
    assert routes - ELSEWHERE == set(document["paths"])


async def test_every_operation_has_words_a_name_of_its_own_and_a_tag_that_is_explained(
    document: dict[str, Any],
) -> None:
    explained = {tag["name"] for tag in document["tags"] if tag["description"]}
    names = []
    for path, operation in operations(document):
        assert operation["summary"], path
        assert set(operation["tags"]) <= explained, path
        names.append(operation["operationId"])
    assert len(set(names)) == len(names)
    assert {tag for _, operation in operations(document) for tag in operation["tags"]} == explained


async def test_every_body_and_every_answer_has_an_example_that_is_as_described(document: dict[str, Any]) -> None:
    checked = 0
    for path, operation in operations(document):
        answer = operation["responses"]["200"]["content"]
        for content in (operation.get("requestBody", {"content": {}})["content"], answer):
            described = content.get("application/json", {})
            if "documents" not in operation["tags"] and described:
                whole = {**described["schema"], "components": document["components"]}
                jsonschema_rs.Draft202012Validator(whole).validate(described["example"])
                checked += 1
        assert (
            "parameters" not in operation
            or path not in EVENTS
            or all("example" in one or not one.get("required") for one in operation["parameters"])
        )
    assert checked > 2 * 30


async def test_every_refusal_has_examples_that_are_problems(document: dict[str, Any]) -> None:
    problem = {"$ref": "#/components/schemas/Problem", "components": document["components"]}
    for response in document["components"]["responses"].values():
        shown = response["content"]["application/problem+json"]["examples"]
        for example in shown.values():
            jsonschema_rs.Draft202012Validator(problem).validate(example["value"])


@pytest.mark.timeout(180)
async def test_schemathesis_finds_nothing(town: Instance, tmp_path: Path) -> None:
    """Everything but the endless stream, which has no end to be judged by: its head and its refusals have own tests."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("schemathesis")), "--no-color", "run", f"{town.url}/openapi.json",
        "--header", f"Authorization: Bearer {OPERATOR_TOKEN}", "--exclude-path", EVENTS,
        "--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(EXAMPLES), "--workers", "2",
        "--generation-deterministic", "--suppress-health-check", "all", "--request-timeout", "60",
        "--warnings", "off",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    try:
        async with asyncio.timeout(150):
            told, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, told.decode()


async def test_rates_and_what_a_refusal_tells_of_them_are_described(document: dict[str, Any]) -> None:
    history = document["paths"]["/soa/post-office/get_channel_history"]["post"]
    assert history["x-rate"] == "200/1000"
    assert "x-rate" not in document["paths"]["/soa/post-office/list_channels"]["post"]
    [refused] = [r for r in document["components"]["responses"].values() if "RateLimit" in r.get("headers", {})]
    assert refused["headers"].keys() == {"Retry-After", "RateLimit", "RateLimit-Policy"}
    assert refused["content"]["application/problem+json"]["examples"].keys() == {"rate_limited"}
