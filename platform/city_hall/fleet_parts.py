"""How the parts of the fleet are built: what says who lives here, who owns which connection, and what becomes of both.

The windows and leases of the settings are put together here; everything else is `container`'s.
"""

from __future__ import annotations

import os
import secrets
import socket
from datetime import UTC, datetime

from foundations.lease import Lease
from foundations.settings import Settings
from foundations.supervision import Tasks
from foundations.telemetry import Counters
from foundations.valkey import Subscriptions, Valkey
from smart_city.post_office.fleet import Figures, Fleet
from smart_city.post_office.fleet.directory import Directory
from smart_city.post_office.fleet.moving import Moving
from smart_city.post_office.fleet.ownership import Ownership
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.fleet.renewal import RENEWALS_A_LEASE, Renewal
from smart_city.post_office.fleet.subscribers import Subscribers
from smart_city.post_office.fleet.succession import Succession
from smart_city.post_office.fleet.takeovers import Takeovers
from smart_city.post_office.fleet.windows import Windows
from smart_city.post_office.inbox.dispatch import Dispatcher
from smart_city.post_office.log import ChannelLog


def member_name(settings: Settings) -> str:
    """This instance in this life: one that comes back under its name is not the one that died."""
    return f"{settings.instance_id}#{secrets.token_hex(4)}"


def instance_lease(settings: Settings, valkey: Valkey, tasks: Tasks) -> Lease:
    name = f"instance {settings.instance_id}"
    return Lease(valkey, name, seconds=settings.instance_lease_seconds, tasks=tasks)


def unheard_seconds(settings: Settings) -> float:
    """How long an answer may wait in a connection's log: unheard before the loss, through the window, to be moved."""
    before = 2 * settings.heartbeat_seconds + 2 * _cycle_seconds(settings) + 8 * settings.instance_lease_seconds
    return before + 2 * settings.resume_window_seconds


def private_tail_check_seconds(settings: Settings) -> float:
    """How often private logs are asked for; this also keeps them while nobody writes to them."""
    return min(settings.private_tail_check_seconds, unheard_seconds(settings) / 4)


def fleet(
    settings: Settings, valkey: Valkey, subscriptions: Subscriptions, tasks: Tasks, counters: Counters,
    subscribers: Subscribers, member: str,
) -> Fleet:  # fmt: skip
    host, pid, started_at = socket.gethostname(), os.getpid(), f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"

    def figures() -> Figures:
        return Figures(
            instance_id=settings.instance_id, host=host, pid=pid, started_at=started_at,
            connections=counters.connections_active, channels=subscribers.counts,
        )  # fmt: skip

    return Fleet(
        valkey,
        subscriptions,
        tasks,
        member=member,
        lease_seconds=settings.instance_lease_seconds,
        figures=figures,
    )


def ownership(settings: Settings, valkey: Valkey, member: str) -> Ownership:
    unclaimed = _cycle_seconds(settings) + 2 * settings.instance_lease_seconds / RENEWALS_A_LEASE
    return Ownership(
        valkey, member=member, window_seconds=settings.resume_window_seconds, unclaimed_seconds=unclaimed
    )  # fmt: skip


def _cycle_seconds(settings: Settings) -> float:
    """How often a connection is written again: its window may be that much longer when its instance dies."""
    return min(2 * settings.heartbeat_seconds, settings.resume_window_seconds / 3)


def subscribers(settings: Settings, valkey: Valkey, tasks: Tasks, name: Lease) -> Subscribers:
    return Subscribers(
        valkey, tasks, instance_id=settings.instance_id, lease_seconds=settings.instance_lease_seconds,
        holds_name=lambda: name.is_held,
    )  # fmt: skip


def directory(settings: Settings, valkey: Valkey) -> Directory:
    return Directory(
        valkey, instance_id=settings.instance_id, lease_seconds=settings.instance_lease_seconds,
        most_per_user=settings.max_connections_per_user,
    )  # fmt: skip


def registry(
    settings: Settings, directory: Directory, ownership: Ownership, subscribers: Subscribers, tasks: Tasks
) -> Registry:
    renewal = Renewal(lease_seconds=settings.instance_lease_seconds, cycle_seconds=_cycle_seconds(settings))
    return Registry(directory, ownership, subscribers, renewal, tasks)


def takeovers(valkey: Valkey, subscriptions: Subscriptions, tasks: Tasks, member: str) -> Takeovers:
    return Takeovers(valkey, subscriptions, tasks, member=member)


def windows(settings: Settings, ownership: Ownership, log: ChannelLog, tasks: Tasks) -> Windows:
    lease = settings.instance_lease_seconds
    return Windows(ownership, Moving(log), tasks, claim_seconds=4 * lease, quiet_seconds=lease)


def succession(dispatcher: Dispatcher, tasks: Tasks, fleet: Fleet) -> Succession:
    return Succession(dispatcher, tasks, settled=fleet.settle)
