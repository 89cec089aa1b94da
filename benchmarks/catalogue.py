"""All cases and all subjects there are, in one place each. A new one is a line here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from benchmarks.case import Case
from benchmarks.cases import (
    connecting,
    fan_out_burst,
    fan_out_paced,
    fleet,
    growth_channels,
    growth_subscribers,
    history,
    idle,
    inbox,
    many_channels,
    mcp,
    publishing,
    resume,
    round_trip,
    tracing,
)
from benchmarks.cities import LARGE_INBOX, LONG_LOGS, OnCluster, Traced, TwoInstances
from benchmarks.city import City
from benchmarks.limit import Limit
from benchmarks.peers.django_channels import DjangoChannels
from benchmarks.peers.nats import Nats
from benchmarks.peers.nchan import Nchan
from benchmarks.peers.socket_io import PythonSocketIO, SocketIO
from benchmarks.subjects import Missing, Subject

CASES: Sequence[Case] = (
    fan_out_paced.CASE,
    fan_out_burst.CASE,
    many_channels.CASE,
    growth_subscribers.CASE,
    growth_channels.CASE,
    inbox.CASE,
    round_trip.CASE,
    round_trip.ACROSS,
    publishing.CASE,
    mcp.CASE,
    history.CASE,
    connecting.CASE,
    resume.CASE,
    idle.CASE,
    idle.ON_CLUSTER,
    tracing.CASE,
    fleet.CASE,
)

SUBJECTS: Mapping[str, Callable[[int], Subject]] = {
    "platform": City,
    "platform-two": TwoInstances,
    "platform-cluster": OnCluster,
    "platform-traced": Traced,
    "platform-large-inbox": lambda channels: City(channels, LARGE_INBOX),
    "platform-long-logs": lambda channels: City(channels, LONG_LOGS),
    "limit": lambda channels: Limit("each"),
    "gathered": lambda channels: Limit("gathered"),
    "nchan": lambda channels: Nchan(),
    "nats": lambda channels: Nats(),
    "nats-2-cores": lambda channels: Nats(processors=2),
    "socketio": lambda channels: SocketIO(),
    "python-socketio": lambda channels: PythonSocketIO(),
    "channels": lambda channels: DjangoChannels(),
}
"""Each is made for a number of channels, and started by entering it."""


def made(name: str, channels: int) -> Subject:
    """The subject of this name, not yet started.

    Raises:
        Missing: there is none.
    """
    if name not in SUBJECTS:
        raise Missing("the harness has no subject of this name")
    return SUBJECTS[name](channels)
