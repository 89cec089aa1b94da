"""One MCP tool call as bytes on a keep-alive connection, in both eras of the protocol.

The official client spends more on a call than the server does, so these requests are made as it makes them, once, and
sent as they are. What they say is held against the official client by nothing here: a refusal ends the drive.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.callers import call, request

TOOL = "post_office_publish_to_agent_channel"
SESSIONLESS, HANDSHAKE = "2026-07-28", "2025-11-25"
ACCEPT = "application/json, text/event-stream"
_CLIENT = {"name": "benchmarks", "version": "1"}


def _rpc(method: str, params: Mapping[str, Any], number: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def sessionless(token: str, arguments: Mapping[str, Any]) -> bytes:
    """A call that carries all that it needs."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": SESSIONLESS,
        "io.modelcontextprotocol/clientInfo": _CLIENT,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    return request(
        "/mcp", _rpc("tools/call", {"name": TOOL, "arguments": arguments, "_meta": meta}), Accept=ACCEPT,
        Authorization=f"Bearer {token}", MCP_Protocol_Version=SESSIONLESS, Mcp_Method="tools/call", Mcp_Name=TOOL,
    )  # fmt: skip


async def handshake(host: str, port: int, token: str, arguments: Mapping[str, Any]) -> bytes:
    """A call within a session, which this begins."""
    greeting = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": _CLIENT}
    identity = {"Accept": ACCEPT, "Authorization": f"Bearer {token}"}
    headers, _ = await call(host, port, request("/mcp", _rpc("initialize", greeting), **identity))
    identity |= {"Mcp_Session_Id": headers["mcp-session-id"], "MCP_Protocol_Version": HANDSHAKE}
    return request("/mcp", _rpc("tools/call", {"name": TOOL, "arguments": arguments}), **identity)
