"""A connection as the registry sees it, without a socket."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.support.platform import unique


@dataclass
class Somebody:
    """One connection."""

    user_id: str
    connection_id: str = field(default_factory=lambda: unique("c"))
    connected_at: str = "2026-11-20T08:00:00.000Z"
    last_heartbeat: str = "2026-11-20T08:00:00.000Z"
    channels: tuple[str, ...] = ()
    fence: int = 1
    heard_offset: int = 0
