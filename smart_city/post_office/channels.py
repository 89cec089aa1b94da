"""The channels of the city: their names, their kinds, and who may do what on each.

A channel is known by its name alone; nothing is created before it is used. Private logs belong to their owner and
can be granted to nobody.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from foundations.errors import CityError, Forbidden, UnknownChannel
from foundations.telemetry import OTHER
from smart_city.vocabulary import CHANNEL_PATTERN, Identity, Right

_NAME = re.compile(CHANNEL_PATTERN)
Kind = Literal["agent", "user", "connection"]


class Channels:
    """The namespaces that exist here. ``pillars`` are the configured agent channels beside the guide."""

    def __init__(self, pillars: Iterable[str]) -> None:
        self.agents = ("guide", *(f"pillar:{name}" for name in pillars))
        """The agent channels, each with an inbox."""
        self._agents = frozenset(self.agents)  # looked up for every publication, also among thousands

    def kind(self, channel: str) -> Kind:
        """What kind of channel this is.

        Raises:
            UnknownChannel: there is none of this name.
        """
        if channel in self._agents:
            return "agent"
        namespace, _, name = channel.partition(":")
        if namespace in {"user", "connection"} and name and _NAME.fullmatch(channel):
            return "user" if namespace == "user" else "connection"
        raise UnknownChannel(f"there is no channel {channel[:160]!r}; agent channels are {', '.join(self.agents)}")

    def is_agent(self, channel: str) -> bool:
        """Whether the channel has an inbox."""
        return channel in self._agents

    def counted_as(self, channel: str) -> str:
        """The name for a channel's figures: private logs of a kind share one, what does not exist has another."""
        try:
            kind = self.kind(channel)
        except UnknownChannel:
            return OTHER
        return channel if kind == "agent" else f"{kind}:*"

    def check_inbox(self, channel: str) -> None:
        """Lets channels pass that have an inbox.

        Raises:
            UnknownChannel: this one has none.
        """
        if not self.is_agent(channel):
            known = ", ".join(self.agents)
            raise UnknownChannel(f"{channel[:160]!r} is no agent channel; those are {known}")

    def check(self, who: Identity, right: Right, channel: str, *, connection_id: str = "") -> None:
        """Lets ``who`` do this on the channel, or says why not.

        Private logs: their owner subscribes and reads, the operator reads; nobody publishes into them by name.

        Raises:
            UnknownChannel: there is none of this name.
            Forbidden: a right that is missing.
        """
        kind = self.kind(channel)
        if refusal := self._refusal(kind, who, right, channel, connection_id):
            raise refusal

    def _refusal(self, kind: Kind, who: Identity, right: Right, channel: str, connection_id: str) -> CityError | None:
        if kind == "agent":
            if who.may(right, channel):
                return None
            if right == "send" and not who.is_user:
                return Forbidden("services ask agents with send_to_agent, not with messages")
            return Forbidden(f"{who.subject} may not {right} on {channel}; grant it when the session or token is made")
        owned = f"user:{who.subject}" if kind == "user" else f"connection:{connection_id}"
        reads = right in {"subscribe", "history"}
        if reads and (channel == owned or (who.kind == "operator" and right == "history")):
            return None
        return Forbidden(f"{channel} belongs to its owner; use send_to_user or send_to_connection to write to it")


def user_log(user_id: str) -> str:
    """The log of all of a user's connections."""
    return f"user:{user_id}"


def connection_log(connection_id: str) -> str:
    """The log of one connection."""
    return f"connection:{connection_id}"


def is_private(channel: str) -> bool:
    """Whether the channel is the log of one user or one connection."""
    return channel.startswith(("user:", "connection:"))
