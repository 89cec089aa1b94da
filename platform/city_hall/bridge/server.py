"""What a host sees of the bridge: the platform's tools, resources and prompts, in the era in which the host speaks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mcp_types
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError

from city_hall.bridge.following import Following
from city_hall.bridge.upstream import Upstream
from city_hall.surfaces.mcp.updates import acknowledge, listen_meta, tell_changed

_OWN_META = "io.modelcontextprotocol/"
"""What each exchange says of itself; the rest of a ``_meta`` is passed on."""
_FORWARDED: Sequence[tuple[type[Any], type[mcp_types.RequestParams], type[mcp_types.Result]]] = (
    (mcp_types.ListToolsRequest, mcp_types.PaginatedRequestParams, mcp_types.ListToolsResult),
    (mcp_types.CallToolRequest, mcp_types.CallToolRequestParams, mcp_types.CallToolResult),
    (mcp_types.ListResourcesRequest, mcp_types.PaginatedRequestParams, mcp_types.ListResourcesResult),
    (mcp_types.ListResourceTemplatesRequest, mcp_types.PaginatedRequestParams, mcp_types.ListResourceTemplatesResult),
    (mcp_types.ReadResourceRequest, mcp_types.ReadResourceRequestParams, mcp_types.ReadResourceResult),
    (mcp_types.ListPromptsRequest, mcp_types.PaginatedRequestParams, mcp_types.ListPromptsResult),
    (mcp_types.GetPromptRequest, mcp_types.GetPromptRequestParams, mcp_types.GetPromptResult),
    (mcp_types.CompleteRequest, mcp_types.CompleteRequestParams, mcp_types.CompleteResult),
)

_Context = ServerRequestContext[Any, Any]


def bridge_to(
    upstream: Upstream, who: mcp_types.Implementation | None, instructions: str | None, following: Following
) -> Server[Any]:
    """The server for one host."""
    server: Server[Any] = Server(
        who.name if who else "smart-city", version=who.version if who else "", title=who.title if who else None,
        instructions=instructions,
    )  # fmt: skip
    for request, params, result in _FORWARDED:
        server.add_request_handler(_method(request), params, _forwarder(upstream, request, result))
    changes = _Changes(upstream, following)
    server.add_request_handler("subscriptions/listen", mcp_types.SubscriptionsListenRequestParams, changes.listen)
    server.add_request_handler("resources/subscribe", mcp_types.SubscribeRequestParams, changes.subscribe)
    server.add_request_handler("resources/unsubscribe", mcp_types.UnsubscribeRequestParams, changes.unsubscribe)
    return server


def _method(request: type[Any]) -> str:
    return str(request.model_fields["method"].default)


def _forwarder(upstream: Upstream, request: type[Any], result: type[mcp_types.Result]) -> Any:
    async def forward(context: _Context, params: mcp_types.RequestParams) -> mcp_types.Result:
        meta = _passed_on(params.meta)
        wants_progress = meta.pop("progress_token", None) is not None
        asked = request(params=params.model_copy(update={"meta": meta or None}))
        answer = await upstream.ask(asked, result, context.session.report_progress if wants_progress else None)
        return answer.model_copy(update={"meta": _passed_on(answer.meta) or None})

    return forward


def _passed_on(meta: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (meta or {}).items() if not name.startswith(_OWN_META)}


class _Changes:
    """Notifications of changes: a stream for each listening request, or one for all that a host subscribes to."""

    def __init__(self, upstream: Upstream, following: Following) -> None:
        self._upstream = upstream
        self._following = following

    async def listen(
        self, context: _Context, params: mcp_types.SubscriptionsListenRequestParams
    ) -> mcp_types.SubscriptionsListenResult:
        """The platform's stream, frame by frame; it ends as the platform's does."""
        if context.request_id is None:
            raise MCPError(mcp_types.INVALID_REQUEST, "subscriptions/listen needs a request id")

        async def acknowledged(uris: Sequence[str]) -> None:
            await acknowledge(context, uris)

        async def changed(uris: Sequence[str]) -> None:
            await tell_changed(context, uris)

        await self._upstream.listen(params.notifications.resource_subscriptions or (), acknowledged, changed)
        return mcp_types.SubscriptionsListenResult(_meta=listen_meta(context))

    async def subscribe(self, context: _Context, params: mcp_types.SubscribeRequestParams) -> mcp_types.EmptyResult:
        """Follows one more resource for this host."""

        async def changed(uris: Sequence[str]) -> None:
            for uri in uris:
                await context.session.send_resource_updated(uri)

        await self._following.add(params.uri, changed)
        return mcp_types.EmptyResult()

    async def unsubscribe(
        self, _context: _Context, params: mcp_types.UnsubscribeRequestParams
    ) -> mcp_types.EmptyResult:
        """Follows it no more."""
        await self._following.remove(params.uri)
        return mcp_types.EmptyResult()
