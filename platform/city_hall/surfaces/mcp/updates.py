"""The frames of a ``subscriptions/listen`` stream, as the surface sends them and the bridge passes them on.

They are words only, and need nothing of the platform: a host waits for the bridge to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mcp_types
from mcp.server import ServerRequestContext
from mcp.server.subscriptions import SUBSCRIPTION_ID_META_KEY


def listen_meta(context: ServerRequestContext[Any, Any]) -> dict[str, Any]:
    """What every frame of a stream carries: the request it belongs to."""
    return {SUBSCRIPTION_ID_META_KEY: context.request_id}


async def acknowledge(context: ServerRequestContext[Any, Any], uris: Sequence[str]) -> None:
    """A stream's first frame: what is told of from now on."""
    params = mcp_types.SubscriptionsAcknowledgedNotificationParams(
        notifications=mcp_types.SubscriptionFilter(resource_subscriptions=list(uris) or None),
        _meta=listen_meta(context),
    )
    await context.session.send_notification(
        mcp_types.SubscriptionsAcknowledgedNotification(params=params), context.request_id
    )


async def tell_changed(context: ServerRequestContext[Any, Any], uris: Sequence[str]) -> None:
    """One frame for each resource that has changed."""
    for uri in uris:
        params = mcp_types.ResourceUpdatedNotificationParams(uri=uri, _meta=listen_meta(context))
        await context.session.send_notification(
            mcp_types.ResourceUpdatedNotification(params=params), context.request_id
        )
