"""Registries of instances of their own, without the rest of an instance."""

from __future__ import annotations

from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.fleet.directory import Directory
from smart_city.post_office.fleet.ownership import Ownership
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.fleet.renewal import Renewal
from smart_city.post_office.fleet.subscribers import Subscribers
from tests.support.platform import unique


def a_registry(
    valkey: Valkey, tasks: Tasks, *, member: str = "", name: str = "", lease_seconds: float = 5,
    cycle_seconds: float = 20, window_seconds: float = 60, most_per_user: int = 20,
) -> Registry:  # fmt: skip
    """The registry of one more instance, on its own or under a name."""
    name = name or unique("instance")
    ownership = Ownership(
        valkey, member=member or unique("member"), window_seconds=window_seconds, unclaimed_seconds=cycle_seconds
    )
    subscribers = Subscribers(valkey, tasks, instance_id=name, lease_seconds=lease_seconds, holds_name=lambda: True)
    directory = Directory(valkey, instance_id=name, lease_seconds=lease_seconds, most_per_user=most_per_user)
    renewal = Renewal(lease_seconds=lease_seconds, cycle_seconds=cycle_seconds)
    return Registry(directory, ownership, subscribers, renewal, tasks)
