"""``subscriptions/listen`` of the sessionless era: one request whose answer is a stream of changes.

Which changes there are, and who may hear them, is the Post Office's matter; here they are told in MCP's words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mcp_types
from mcp.server import ServerRequestContext
from mcp.shared.exceptions import MCPError
from starlette.requests import Request

from city_hall.surfaces.mcp.channels import Address
from city_hall.surfaces.mcp.credit import spend
from city_hall.surfaces.mcp.refusals import protocol_error
from city_hall.surfaces.mcp.updates import acknowledge, listen_meta, tell_changed
from foundations.errors import CityError, Overloaded, Unauthenticated
from foundations.invocation import Limits
from smart_city.post_office.gateway.listening import Listening
from smart_city.vocabulary import Identity


class ListenStreams:
    """Serves ``subscriptions/listen``."""

    def __init__(self, listening: Listening, limits: Limits) -> None:
        self._listening = listening
        self._limits = limits

    async def __call__(
        self, context: ServerRequestContext[Any, Request], params: mcp_types.SubscriptionsListenRequestParams
    ) -> mcp_types.SubscriptionsListenResult:
        """One stream, from its acknowledgement until the instance drains, which is its peaceful end.

        Only resources change here, and that is all that is acknowledged. A resource that the caller may not hear
        refuses the stream, so that nobody waits for what never comes.
        """
        assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        if context.request_id is None:
            raise MCPError(mcp_types.INVALID_REQUEST, "subscriptions/listen needs a request id")
        caller: Identity = context.request.user
        try:
            await spend(self._limits, caller)
            uris = by_channel(self._listening, caller, params.notifications.resource_subscriptions or ())
            async with self._listening.listener(caller, context.request.state.arrived) as listener:
                await listener.follow(uris)
                await acknowledge(context, [uri for named in uris.values() for uri in named])
                async for channels in listener.changes():
                    for channel in channels:
                        await tell_changed(context, uris[channel])
                if listener.dismissed:
                    raise Unauthenticated(listener.dismissed)
        except CityError as error:
            raise protocol_error(error) from None
        return mcp_types.SubscriptionsListenResult(_meta=listen_meta(context))


def by_channel(listening: Listening, caller: Identity, uris: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """The URIs by the channels they name, each as its client wrote it.

    Raises:
        NotFound, UnknownChannel, Forbidden: one of them is not to be heard.
        Overloaded: they are too many.
    """
    if len(uris) > listening.most_channels:
        raise Overloaded(f"one stream may follow {listening.most_channels} resources; open another")
    found: dict[str, list[str]] = {}
    for uri in uris:
        channel = Address.parse(uri).channel
        listening.check(caller, channel)
        found.setdefault(channel, []).append(uri)
    return found
