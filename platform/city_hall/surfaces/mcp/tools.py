"""Every operation of the catalogue as a tool, with its schemas, its hints and its refusals.

Validation, rights and limits are the invocation's, as on every surface.
"""

from __future__ import annotations

from typing import Any

import mcp_types
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic_core import to_json
from starlette.requests import Request

from city_hall.surfaces.catalogue import Catalogue, Entry
from city_hall.surfaces.mcp.calls import Calls, name_of
from city_hall.surfaces.mcp.refusals import REFUSAL, refused
from foundations.errors import CityError, NotFound
from foundations.invocation import Invocation, encode


class Tools:
    """The tools and their calls."""

    def __init__(self, catalogue: Catalogue, invocation: Invocation, calls: Calls) -> None:
        self._catalogue = catalogue
        self._invocation = invocation
        self._calls = calls
        self._listed = mcp_types.ListToolsResult(tools=[_tool(entry) for entry in catalogue])

    def input_schema(self, name: str) -> dict[str, Any] | None:
        """What a tool takes."""
        entry = self._catalogue.tool(name)
        return dict(entry.input_schema) if entry else None

    async def list(
        self, _context: ServerRequestContext[Any, Any], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        """All tools; what a caller may not call is refused when called."""
        return self._listed

    async def call(
        self, context: ServerRequestContext[Any, Request], params: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        """Calls an operation; its refusal is a result as well."""
        entry = self._catalogue.tool(params.name)
        if entry is None:
            unknown = NotFound(f"there is no tool {params.name[:100]}; tools/list names all")
            raise MCPError(mcp_types.INVALID_PARAMS, unknown.message, refused(unknown))
        assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        meta: dict[str, Any] = dict(context.meta or {})
        called = self._invocation(
            entry.operation, context.request.user, to_json(params.arguments or {}),
            traceparent=str(meta.get("traceparent", "")),
        )  # fmt: skip
        try:
            result = await (self._calls.wait(context, called, name_of(context)) if entry.operation.waits else called)
        except CityError as error:
            return _answer(refused(error), is_error=True)
        return _answer({"success": True, **encode(result)})


def _tool(entry: Entry) -> mcp_types.Tool:
    operation = entry.operation
    declared = operation.declared
    title = operation.name.replace("_", " ").capitalize()
    who = f"Needs {operation.who}."
    example = f"Example: {to_json(dict(declared.example)).decode()}"
    told = (operation.summary, operation.description, who, example)
    return mcp_types.Tool(
        name=operation.tool_name,
        title=title,
        description="\n".join(filter(None, told)),
        input_schema=dict(entry.input_schema),
        output_schema={"type": "object", "oneOf": [dict(entry.output_schema), REFUSAL]},
        annotations=mcp_types.ToolAnnotations(
            title=title, read_only_hint=declared.read_only, destructive_hint=declared.destructive,
            idempotent_hint=declared.idempotent, open_world_hint=False,
        ),
    )  # fmt: skip


def _answer(content: dict[str, Any], *, is_error: bool = False) -> mcp_types.CallToolResult:
    """The same object twice: structured, and as text for clients that only read text."""
    text = mcp_types.TextContent(type="text", text=to_json(content).decode())
    return mcp_types.CallToolResult(content=[text], structured_content=content, is_error=is_error)
