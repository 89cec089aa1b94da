"""What a node of a cluster knows of it: who serves which slots, and how fresh that knowledge is.

It reads what nodes answer and picks the best of several answers; whom to ask, and when, is `cluster`'s work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import hiredis

from foundations.valkey.address import Endpoint
from foundations.valkey.pipe import Pipe
from foundations.valkey.refusals import WrongStore, translated
from foundations.valkey.slots import SLOTS

WAITING_SECONDS = 0.25
"""How long the first nodes that answer wait for the rest: one that hangs must not hold up the news of its successor."""


@dataclass(frozen=True, slots=True)
class Range:
    """Slots ``first`` to ``last``, who serves them, and who has copies."""

    first: int
    last: int
    primary: Endpoint
    replicas: Sequence[Endpoint]


@dataclass(frozen=True, slots=True)
class Topology:
    """The cluster as one node sees it.

    Every election and every slot that moves raises the epoch, so the highest has seen the latest. A node that finds
    itself cut off from most others says that the cluster is down, and what it knows may be long past.
    """

    ranges: Sequence[Range]
    is_up: bool
    epoch: int

    @property
    def worth(self) -> tuple[bool, int, int]:
        """What to believe when answers differ: the greatest."""
        return self.is_up, self.epoch, sum(found.last - found.first + 1 for found in self.ranges)

    def endpoints(self) -> Iterator[Endpoint]:
        """Every node that is part of it."""
        for found in self.ranges:
            yield found.primary
            yield from found.replicas


async def newest(known: Collection[tuple[Endpoint, Pipe]], deadline: float) -> Topology:
    """Asks several nodes at once, and believes whoever knows most.

    Raises:
        Unavailable: none of them answers.
        WrongStore: it is no cluster.
    """
    asked = [asyncio.ensure_future(_known_to(endpoint, pipe, deadline)) for endpoint, pipe in known]
    try:
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait(asked, timeout=WAITING_SECONDS)
        if not any(_has_answered(each) for each in asked):
            await asyncio.wait(asked)
        answers = [each.result() for each in asked if _has_answered(each)]
        if not answers:
            raise next(error for each in asked if (error := each.exception()) is not None)
        return max(answers, key=lambda answer: answer.worth)
    finally:
        for each in asked:
            each.cancel()
        await asyncio.gather(*asked, return_exceptions=True)


def _has_answered(asked: asyncio.Future[Topology]) -> bool:
    return asked.done() and not asked.cancelled() and asked.exception() is None


async def _known_to(asked: Endpoint, pipe: Pipe, deadline: float) -> Topology:
    """What one node knows; both questions travel together."""
    info, slots = await asyncio.gather(
        pipe.ask(("CLUSTER", "INFO"), deadline), pipe.ask(("CLUSTER", "SLOTS"), deadline)
    )
    for reply in (info, slots):
        if isinstance(reply, hiredis.ReplyError):
            raise _refused(asked, str(reply))
    return read(bytes(info), slots, asked)


def _refused(asked: Endpoint, refusal: str) -> Exception:
    if "cluster support disabled" in refusal:
        return WrongStore(
            f"SMART_CITY_VALKEY_URL says cluster=true, but the server at {asked} is none of a cluster: "
            "leave cluster=true out, or start the server with cluster-enabled yes."
        )
    return translated(refusal)


def read(info: bytes, slots: Sequence[Any], asked: Endpoint) -> Topology:
    """Understands the replies to CLUSTER INFO and CLUSTER SLOTS of the node at ``asked``."""
    facts = dict(line.partition(":")[::2] for line in info.decode().split())
    ranges = [
        Range(int(first), int(last), _endpoint(primary, asked), [_endpoint(replica, asked) for replica in replicas])
        for first, last, primary, *replicas in slots
        if 0 <= int(first) <= int(last) < SLOTS
    ]
    return Topology(ranges, facts.get("cluster_state") == "ok", int(facts.get("cluster_current_epoch", 0)))


def _endpoint(node: Sequence[Any], asked: Endpoint) -> Endpoint:
    """Where a node wants to be called.

    An empty preferred endpoint means the host that was asked; a question mark a hostname that is not set, and then its
    address stands among what else is known of it.
    """
    preferred, port, *rest = node
    host = (preferred or b"").decode()
    if host == "?":
        host = _known(rest[1] if len(rest) > 1 else ()).get("ip", "")
    return Endpoint(host or asked.host, int(port))


def _known(metadata: Any) -> dict[str, str]:
    """What else a node's entry says: a map in RESP3, else names and values in turn."""
    pairs = metadata.items() if isinstance(metadata, dict) else zip(metadata[::2], metadata[1::2], strict=False)
    return {bytes(name).decode(): bytes(value).decode() for name, value in pairs}
