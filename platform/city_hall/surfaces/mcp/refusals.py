"""A `CityError` as MCP clients read it: in a tool's result, or as the error of any other request.

It words nothing anew: code, sentence and what to do are the error's own, as on every surface.
"""

from __future__ import annotations

from typing import Any

import mcp_types
from mcp.shared.exceptions import MCPError

from foundations.errors import ERRORS, CityError

REFUSAL: dict[str, Any] = {
    "type": "object", "title": "Refusal", "additionalProperties": False,
    "required": ["success", "code", "message", "retryable"],
    "properties": {
        "success": {"type": "boolean", "const": False},
        "code": {"type": "string", "enum": [error.code for error in ERRORS]},
        "message": {"type": "string"},
        "retryable": {"type": "boolean"},
        "retry_after": {"type": "number", "description": "seconds"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object", "additionalProperties": False, "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}  # fmt: skip
"""A tool's other answer. It stands in the output schema: TypeScript clients hold errors to that, too."""


def refused(error: CityError) -> dict[str, Any]:
    """An error in the words of the protocol's error frames."""
    told: dict[str, Any] = {
        "success": False, "code": error.code, "message": error.message, "retryable": error.retryable,
    }  # fmt: skip
    if error.retry_after is not None:
        told["retry_after"] = error.retry_after
    if error.errors:
        told["errors"] = [{"field": wrong.field, "message": wrong.message} for wrong in error.errors]
    return told


def protocol_error(error: CityError) -> MCPError:
    """The error of a request that has no result to put it into; its data are those of `refused`."""
    is_ours = error.status >= 500 or error.retryable
    code = mcp_types.INTERNAL_ERROR if is_ours else mcp_types.INVALID_PARAMS
    return MCPError(code, error.message, refused(error))
