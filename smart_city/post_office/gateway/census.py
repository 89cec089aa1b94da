"""What an instance tells operators of those who are with it: values for a list, and whom a channel concerns.

It changes nothing and asks no store; what the registry has written down is told from there.
"""

from __future__ import annotations

from typing import Any

from smart_city.post_office.gateway.desk import Guest

MOST_CHANNELS = 50
"""Of one connection in a list, so that a few hundred connections fit into one message between instances."""


def concerns(guest: Guest, channel: str) -> bool:
    """Whether somebody listens to the channel, takes from its inbox, or has sent to it."""
    return channel in guest.subscriptions or channel in guest.sent_to or channel in guest.consumes


def described(guest: Guest, instance_id: str) -> dict[str, Any]:
    """One connection; of its channels the first ones and how many there are."""
    channels = guest.channels
    return {
        "connection_id": guest.connection_id, "user_id": guest.user_id, "instance_id": instance_id,
        "connected_at": guest.connected_at, "last_heartbeat": guest.last_heartbeat,
        "channels": channels[:MOST_CHANNELS], "channel_count": len(channels),
        "consumes": guest.consumes[:MOST_CHANNELS],
        "unsent_bytes": guest.unsent_bytes, "is_lagging": guest.is_lagging, "address": guest.address,
    }  # fmt: skip
