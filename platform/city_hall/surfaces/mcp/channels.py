"""Channels as resources: ``channel://guide`` is a channel's newest publications, or those after a position.

What is read is `get_channel_history`, called as every surface calls it, so that rights and limits are the same.
Private logs are resources of their owner alone; a connection's log is none, since MCP clients have no connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import mcp_types
from mcp.server import ServerRequestContext
from pydantic_core import to_json
from starlette.requests import Request

from city_hall.surfaces.catalogue import Entry
from city_hall.surfaces.mcp.refusals import protocol_error
from foundations.errors import CityError, FieldError, InvalidArgument, NotFound
from foundations.invocation import Invocation, encode
from smart_city.post_office.channels import Channels, user_log
from smart_city.vocabulary import Identity, Position

SCHEME = "channel"
JSON = "application/json"
NEWEST = f"{SCHEME}://{{channel}}"
SINCE = f"{SCHEME}://{{channel}}{{?since,before,limit}}"
_LONGEST_URI = 1024
_NUMBERS = ("before", "limit")
_PARAMETERS = {"since", *_NUMBERS}


@dataclass(frozen=True, slots=True)
class Address:
    """What a URI names: a channel, and what of it."""

    channel: str
    arguments: dict[str, Any]

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Reads ``channel://pillar%3Acontent?since=41.k3f9&limit=20``; a plain colon in the name is taken, too.

        Raises:
            NotFound: it is no URI of ours.
            InvalidArgument: a parameter that there is not.
        """
        try:
            parts = urlsplit(uri if len(uri) <= _LONGEST_URI else "")
        except ValueError:
            parts = urlsplit("")
        if parts.scheme != SCHEME or not parts.netloc or parts.path not in {"", "/"} or parts.fragment:
            raise NotFound(f"there is no resource {uri[:100]!r}; channels are resources, as in {SCHEME}://guide")
        given: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := given.keys() - _PARAMETERS:
            wrong = [FieldError(name[:100], "is no parameter of a channel") for name in sorted(unknown)]
            raise InvalidArgument(f"a channel takes since, before and limit, and not {wrong[0].field}", errors=wrong)
        given |= {name: int(given[name]) for name in _NUMBERS if given.get(name, "").isdecimal()}
        return cls(unquote(parts.netloc), given)


def uri_of(channel: str, *, since: Position | None = None, before: int | None = None) -> str:
    """A channel's URI, as the templates expand to it."""
    page = f"?since={since}" if since is not None else f"?before={before}" if before is not None else ""
    return f"{SCHEME}://{quote(channel, safe='')}{page}"


def _linked(channel: str, page: dict[str, Any]) -> dict[str, Any]:
    """A page of history with the URIs of the ``next`` one and, where there is more to go back to, the ``previous``."""
    links = {"next": uri_of(channel, since=Position(page["offset"], page["epoch"]))}
    if page["publications"] and (first := page["publications"][0]["offset"]) > page["oldest"]:
        links["previous"] = uri_of(channel, before=first)
    return page | links


class ChannelResources:
    """The channels as each caller sees them."""

    def __init__(self, channels: Channels, history: Entry, invocation: Invocation) -> None:
        self._channels = channels
        self._history = history
        self._invocation = invocation

    def readable(self, caller: Identity) -> Sequence[str]:
        """The channels that this caller may read, its own log among them."""
        own = (user_log(caller.subject),) if caller.is_user else ()
        return [channel for channel in (*self._channels.agents, *own) if self._may(caller, channel)]

    def _may(self, caller: Identity, channel: str) -> bool:
        try:
            self._channels.check(caller, "history", channel)
        except CityError:
            return False
        return True

    async def list(
        self, context: ServerRequestContext[Any, Request], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListResourcesResult:
        """The channels that the caller may read."""
        assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        return mcp_types.ListResourcesResult(
            resources=[
                mcp_types.Resource(
                    name=channel, uri=uri_of(channel), mime_type=JSON, title=f"The channel {channel}",
                    description=f"The newest publications of {channel}, and the position after them.",
                )
                for channel in self.readable(context.request.user)
            ]
        )  # fmt: skip

    async def templates(
        self, _context: ServerRequestContext[Any, Any], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListResourceTemplatesResult:
        """How URIs are made."""
        return mcp_types.ListResourceTemplatesResult(
            resource_templates=[
                mcp_types.ResourceTemplate(
                    name="channel", uri_template=NEWEST, mime_type=JSON, title="A channel",
                    description="The newest publications of a channel.",
                ),
                mcp_types.ResourceTemplate(
                    name="channel_since", uri_template=SINCE, mime_type=JSON, title="A channel, from a position",
                    description="Up to `limit` publications after the position `since` (OFFSET.EPOCH); 0 is the "
                    "beginning. Or those right before the offset `before`. Each answer has the URI of the `next` one, "
                    "and of the `previous` while there is one.",
                ),
            ]
        )  # fmt: skip

    async def read(
        self, context: ServerRequestContext[Any, Request], params: mcp_types.ReadResourceRequestParams
    ) -> mcp_types.ReadResourceResult:
        """A page of a channel's log, as JSON."""
        assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        meta: dict[str, Any] = dict(context.meta or {})
        try:
            address = Address.parse(params.uri)
            page = encode(
                await self._invocation(
                    self._history.operation, context.request.user,
                    to_json({"channel": address.channel, **address.arguments}),
                    traceparent=str(meta.get("traceparent", "")),
                )
            )  # fmt: skip
        except CityError as error:
            raise protocol_error(error) from None
        told = to_json(_linked(address.channel, page)).decode()
        text = mcp_types.TextResourceContents(uri=params.uri, mime_type=JSON, text=told)
        return mcp_types.ReadResourceResult(contents=[text])
