"""The keys under which the fleet keeps what it knows of connections, each with the slot that it shares on purpose.

Names alone; who writes what, and in which order, is the registry's and the ownership's matter.
"""

from __future__ import annotations

from smart_city.post_office.channels import connection_log

WINDOWS = "{windows}"
"""A zset: connection -> when somebody is to look whether its resume window has ended, in Valkey's ms."""


def user_key(user_id: str) -> str:
    """The hash of a user's connections: a fixed name, without the prefix."""
    return f"connections:{user_id}"


def owner_key(connection_id: str) -> str:
    """The record of who owns a connection's log; it shares the log's slot."""
    return f"owner:{{{connection_log(connection_id)}}}"
