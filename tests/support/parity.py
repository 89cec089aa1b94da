"""One operation over both surfaces: the same names, results, refusals and codes.

It knows no operation: everything that it sends is derived from the catalogue, so that whoever declares a new
operation has it tested on both surfaces.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx2
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it has no stubs
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import Tool

from city_hall.surfaces.catalogue import Entry
from foundations.operations import ANY_TOKEN

MODES = ("auto", "legacy")
"""The sessionless protocol era, and the one with a handshake."""
_WRONG: tuple[Any, ...] = ({"wrong": [1]}, "\n wrong", -1.5, [[]], None)


_REFUSED = ("success", "code", "retryable", "retry_after", "errors")
"""What a refusal has on both surfaces, beside its sentence."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to: a result, or a refusal in the fields that both surfaces have."""

    result: Mapping[str, Any] | None = None
    refusal: Mapping[str, Any] | None = None

    @property
    def code(self) -> str:
        return str(self.refusal["code"]) if self.refusal else ""

    @property
    def fields(self) -> set[str]:
        """The arguments that a refusal names."""
        return {error["field"] for error in (self.refusal or {}).get("errors", ())}


@dataclass(frozen=True, slots=True)
class BothSurfaces:
    """One caller's way to call over HTTP and over MCP."""

    http: httpx2.AsyncClient
    mcp: Client
    tools: Mapping[str, Tool]

    async def over_http(self, entry: Entry, arguments: Mapping[str, Any]) -> Outcome:
        response = await self.http.post(entry.operation.path, json=arguments)
        body = response.json()
        if response.status_code == 200:
            assert body["success"] is True
            return Outcome(result=body)
        assert response.headers["content-type"] == "application/problem+json"
        assert body["success"] is False
        assert body["status"] == response.status_code
        told = {name: body[name] for name in _REFUSED if name in body}
        return Outcome(refusal={**told, "message": body["detail"]})

    async def over_mcp(self, entry: Entry, arguments: Mapping[str, Any]) -> Outcome:
        answer = await self.mcp.call_tool(entry.operation.tool_name, dict(arguments))
        content = answer.structured_content
        assert isinstance(content, dict)
        schema = self.tools[entry.operation.tool_name].output_schema
        Draft202012Validator(schema).validate(content)  # refusals as well: some clients insist
        return Outcome(refusal=content) if answer.is_error else Outcome(result=content)

    async def refused(self, entry: Entry, arguments: Mapping[str, Any]) -> Outcome:
        """The refusal, which must be the same on both surfaces to the last word."""
        by_http, by_mcp = await self.over_http(entry, arguments), await self.over_mcp(entry, arguments)
        assert by_http.refusal is not None
        assert by_http == by_mcp
        return by_http


@asynccontextmanager
async def both_surfaces(url: str, token: str, mode: str) -> AsyncIterator[BothSurfaces]:
    """Opens both for the caller who has ``token``."""
    async with (
        plain_client(url, Authorization=f"Bearer {token}") as http,
        Client(streamable_http_client(f"{url}/mcp", http_client=http), mode=mode) as mcp,
    ):
        listed = (await mcp.list_tools()).tools
        yield BothSurfaces(http, mcp, {tool.name: tool for tool in listed})


def plain_client(url: str, **headers: str) -> httpx2.AsyncClient:
    """A client for plain HTTP; reading the certificates of all authorities would take it 25 ms."""
    unused = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return httpx2.AsyncClient(base_url=url, headers=headers, timeout=10, verify=unused)


async def check_names(surfaces: BothSurfaces, entry: Entry) -> None:
    """Both surfaces document the same arguments and the same result, and the example fits."""
    document = (await surfaces.http.get("/openapi.json")).json()
    described = document["paths"][entry.operation.path]["post"]
    body = described["requestBody"]["content"]["application/json"]
    answer = described["responses"]["200"]["content"]["application/json"]
    tool = surfaces.tools[entry.operation.tool_name]
    assert tool.output_schema is not None
    rules = {"allOf": list(entry.operation.declared.rules)} if entry.operation.declared.rules else {}
    assert body["schema"] == {**tool.input_schema, **rules}  # readers of tools do not understand rules
    assert answer["schema"] == tool.output_schema["oneOf"][0]
    assert set(tool.input_schema.get("properties", {})) == set(entry.operation.arguments.model_fields)
    for schema in (tool.input_schema, tool.output_schema):
        Draft202012Validator.check_schema(schema)
    Draft202012Validator(tool.input_schema).validate(body["example"])


async def check_refused_arguments(surfaces: BothSurfaces, entry: Entry) -> None:
    """Missing, unknown and wrong-typed arguments are refused alike, by name."""
    example = dict(entry.operation.declared.example)
    for arguments, field in wrong_arguments(entry, example):
        refusal = await surfaces.refused(entry, arguments)
        assert refusal.code == "invalid_argument", (arguments, refusal)
        assert any(name.split(".")[0] == field for name in refusal.fields), (arguments, refusal)


def wrong_arguments(entry: Entry, example: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Arguments that break the declaration in one place, and the place."""
    wrong = [({**example, "no_such_argument": 1}, "no_such_argument")]
    for name in entry.input_schema.get("required", ()):
        wrong += [({key: value for key, value in example.items() if key != name}, name)]
    for name, schema in entry.input_schema.get("properties", {}).items():
        validator = Draft202012Validator(schema)
        unfit = [value for value in _WRONG if not validator.is_valid(value)]
        wrong.extend(({**example, name: value}, name) for value in unfit)
    return wrong


async def check_result(surfaces: BothSurfaces, entry: Entry) -> None:
    """The declared example gives the same on both: fields of the declared shape, or an error's code."""
    example = entry.operation.declared.example
    by_http, by_mcp = await surfaces.over_http(entry, example), await surfaces.over_mcp(entry, example)
    assert by_http.code == by_mcp.code
    if by_http.result is None or by_mcp.result is None:
        return
    assert set(by_http.result) == set(by_mcp.result)
    Draft202012Validator(entry.output_schema).validate(by_http.result)


async def check_stranger(url: str, entry: Entry) -> None:
    """Without a token neither surface does anything, and both say how to come back."""
    call = {
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": entry.operation.tool_name, "arguments": {}},
    }  # fmt: skip
    accept = {"Accept": "application/json, text/event-stream"}
    async with plain_client(url) as stranger:
        for path, body in ((entry.operation.path, {}), ("/mcp", call)):
            response = await stranger.post(path, json=body, headers=accept)
            assert response.status_code == 401
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.json()["code"] == "unauthenticated"


async def check_wrong_scope(surfaces: BothSurfaces, entry: Entry) -> None:
    """A token without scopes may call nothing but ask about itself; ``surfaces`` is one that has such a token."""
    if entry.operation.declared.scope == ANY_TOKEN:
        await check_result(surfaces, entry)
        return
    refusal = await surfaces.refused(entry, entry.operation.declared.example)
    assert refusal.code == "forbidden"
