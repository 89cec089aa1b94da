"""Figures that the platform counts, read where it shows them and told with what they count.

Counters belong to one instance and live as long as it does: each sentence says whose they are and since when,
and nothing is added up that was not counted together.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime

from city_client import Operations, Question
from city_guides.specialist import Fact

_SAMPLE = re.compile(r'^([A-Za-z_:]\w*)(?:\{instance_id="[^"]*"\})? (\S+)', re.MULTILINE)


async def messages(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """How many frames and publications went through, and how fast they were acknowledged."""
    counted = read_figures(await city.metrics())
    received, sent = counted["websocket_messages_received_total"], counted["websocket_messages_sent_total"]
    yield Fact(
        f"Since {_since(counted)} the instance that I asked has received {received:,.0f} frames from its"
        f" clients and sent them {sent:,.0f}.",
        {"frames_received": received, "frames_sent": sent, "since": _since(counted)},
    )
    count = counted.get("websocket_message_latency_seconds_count", 0)
    if count:
        mean = counted["websocket_message_latency_seconds_sum"] / count * 1000
        yield Fact(
            f"A message was acknowledged after {mean:.1f} ms on average, over {count:,.0f} messages.",
            {"mean_latency_ms": round(mean, 3), "messages": count},
        )


async def publications(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """How many publications the log of each channel has counted."""
    listed = (await city.call("post_office.list_channels"))["channels"]
    offsets = {channel["channel"]: channel.get("offset", 0) for channel in listed}
    for name, offset in sorted(offsets.items(), key=lambda item: -item[1]):
        yield Fact(f"• {name}: {offset:,} publications since its log began")
    yield Fact(f"Together: {sum(offsets.values()):,}.", {"publications": offsets})


async def outcomes(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """What came of the questions that people asked, since the start."""
    counted = read_figures(await city.metrics())
    answers, deliveries = counted["post_office_answers_total"], counted["post_office_deliveries_total"]
    dead = counted["post_office_dead_letters_total"]
    yield Fact(f"Since {_since(counted)} the instance that I asked has seen:", {"since": _since(counted)})
    yield Fact(f"• {answers:,.0f} answers completed by agents", {"answers": answers})
    yield Fact(f"• {deliveries:,.0f} questions handed to agents, each try counted", {"deliveries": deliveries})
    yield Fact(f"• {dead:,.0f} questions that no agent would or could answer", {"dead_letters": dead})


async def visitors(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """How many connections there have been since the start, and how many there are now."""
    counted = read_figures(await city.metrics())
    came, errors = counted["websocket_connections_total"], counted["websocket_errors_total"]
    now = await city.call("post_office.get_connection_count")
    yield Fact(
        f"Since {_since(counted)} the instance that I asked has welcomed {came:,.0f} connections and answered"
        f" {errors:,.0f} frames with an error.",
        {"connections_since_start": came, "errors": errors, "since": _since(counted)},
    )
    yield Fact(
        f"Now there are {now['global']:,} connections of {now['users']:,} users on all instances.",
        {"connections": now["global"], "users": now["users"]},
    )


def read_figures(exposition: str) -> dict[str, float]:
    """The samples in Prometheus' text form that have no label but the instance's, by name."""
    return {name: float(value) for name, value in _SAMPLE.findall(exposition)}


def _since(counted: Mapping[str, float]) -> str:
    """When the counting began, where the system tells it (macOS does not)."""
    started = counted.get("process_start_time_seconds")
    return f"{datetime.fromtimestamp(started, UTC):%Y-%m-%d %H:%M} UTC" if started else "its start"
