"""What goes on right now: channels, who is connected, instances, inboxes, health.

Every number comes from a call made for the answer in which it stands; nothing is kept.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from city_client import Operations, Question
from city_guides.specialist import Fact
from city_guides.understanding import channel_in

SHOWN = 10


async def channels(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """The channels that exist, and how many listen to each."""
    listed = (await city.call("post_office.list_channels"))["channels"]
    yield Fact(f"There are {len(listed)} channels to talk on:", {"channels": listed})
    for channel in listed:
        published, listeners = channel["offset"], channel["subscribers"]
        yield Fact(f"• {channel['channel']}: {_count(listeners, 'listener')}, {_count(published, 'publication')}")


async def people(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """Who is on a channel, or on all of them."""
    if named := channel_in(question.message):
        async for fact in _people_on(city, named):
            yield fact
        return
    counted = await city.call("post_office.get_connection_count")
    total, users = counted["global"], counted["users"]
    yield Fact(
        f"{_count(users, 'user')} on {_count(total, 'connection')} (agents count, too).",
        {"connections": total, "users": users, "by_channel": counted["by_channel"]},
    )
    for name, count in sorted(counted["by_channel"].items(), key=lambda item: (-item[1], item[0]))[:SHOWN]:
        yield Fact(f"• {name}: {count:,}")


async def _people_on(city: Operations, channel: str) -> AsyncIterator[Fact]:
    about = {"channel": channel}
    here = (await city.call("post_office.get_connections_by_channel", about))["connections"]
    queue = (await city.call("post_office.get_queue_status", about))["channels"][channel]
    yield Fact(
        f"{_count(len(here), 'connection')} listening to {channel} or speaking there,"
        f" and {_count(queue['consumers'], 'agent')} taking its questions.",
        {**about, "connections": len(here), "agents": queue["consumers"]},
    )
    for connection_id in here[:SHOWN]:
        yield Fact(f"• {connection_id}")
    if len(here) > SHOWN:
        yield Fact(f"… and {len(here) - SHOWN} more.")


async def instances(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """The instances that run, and how connections are spread over them."""
    counted = (await city.call("post_office.get_connection_count"))["by_instance"]
    yield Fact(f"{_count(len(counted), 'instance')} running:", {"by_instance": counted})
    for name, count in sorted(counted.items()):
        yield Fact(f"• {name} with {_count(count, 'connection')}")


async def queues(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """How the agents' inboxes stand."""
    status = (await city.call("post_office.get_queue_status"))["channels"]
    yield Fact("The agents' inboxes:", {"queues": status})
    for name, queue in sorted(status.items()):
        oldest = queue.get("oldest_age_seconds")
        waited = f", the oldest for {oldest:.0f} s" if queue["depth"] and oldest is not None else ""
        yield Fact(
            f"• {name}: {queue['depth']:,} of {queue['capacity']:,} waiting{waited},"
            f" {_count(queue['consumers'], 'agent')} taking"
        )


async def health(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """How the platform is, part by part."""
    report = await city.health()
    yield Fact(f"The platform is {report['status']}.", {"status": report["status"]})
    for name, part in sorted(report["services"].items()):
        took = part.get("response_time_ms")
        speed = f", answers in {took:.1f} ms" if took is not None else ""
        yield Fact(f"• {name} is {part['status']}{speed}", {name: part["status"]})


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
