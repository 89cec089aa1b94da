"""How a platform is in one moment: health of every part, and what the token may see besides.

Taken in one go, shown as tables or as one JSON document; nothing is remembered from one to the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.text import Text

from city_hall.commands.tables import Rows

if TYPE_CHECKING:
    from city_client import Operations, Refused

COLOURS = {"healthy": "green", "degraded": "yellow", "warning": "yellow", "unhealthy": "red", "away": "red"}
CIRCUITS = {"closed": "", "half_open": "yellow", "open": "red"}
_COUNT, _QUEUES = "post_office.get_connection_count", "post_office.get_queue_status"
_LEFT_OUT = frozenset(("forbidden", "unavailable"))
"""Refusals that need no words: the token has no right to see it, or health says what is wrong."""


@dataclass(frozen=True, slots=True)
class Overview:
    """What was seen: ``url``, ``status``, ``services``, and with the right token ``connections`` and ``queues``.

    A platform that does not answer has the status ``away`` and an ``error``; one that did not take the token says
    why in ``refused``.
    """

    document: Mapping[str, Any]

    @classmethod
    def of_nobody(cls, url: str, why: str) -> Overview:
        """Nothing answers there."""
        return cls({"url": url, "status": "away", "error": why, "services": {}})

    @property
    def essence(self) -> dict[str, Any]:
        """What counts as a change: everything but how fast and how old."""
        services = {name: (part.get("status"), part.get("error")) for name, part in self.document["services"].items()}
        queues = {
            name: {key: value for key, value in queue.items() if key != "oldest_age_seconds"}
            for name, queue in self.document.get("queues", {}).items()
        }
        return {**self.document, "services": services, "queues": queues}

    def sentence(self) -> str:
        """All of it in a line of text."""
        return "; ".join(self._clauses())

    def readable(self) -> RenderableType:
        """For people on a terminal."""
        told = self.document
        title = Text.assemble(f"{told['url']} is ", (told["status"], COLOURS.get(told["status"], "")))
        if "error" in told:
            return Group(title, Text(told["error"], style="dim"))
        parts: list[RenderableType] = [title, "", self._parts()]
        if "connections" in told:
            parts += ["", self._connections()]
        if "queues" in told:
            parts += ["", self._queues()]
        return Group(*parts)

    def _clauses(self) -> Iterator[str]:
        told = self.document
        yield f"{told['status']}" + (f" ({told['error']})" if "error" in told else "")
        for name, part in told["services"].items():
            if part.get("status") != "healthy":
                yield f"{name} {part.get('status')}" + (f" ({part['error']})" if "error" in part else "")
        if "refused" in told:
            yield f"{told['refused']['code']} ({told['refused']['message']})"
        if "connections" in told:
            count = told["connections"]
            yield f"{count['global']} connections of {count['users']} users on {len(count['by_instance'])} instances"
        for name, queue in told.get("queues", {}).items():
            if queue["depth"]:
                yield f"{queue['depth']} wait on {name} for {queue['consumers']} agents"
            if queue["circuit"] != "closed":
                yield f"the circuit of {name} is {queue['circuit'].replace('_', ' ')}"

    def _parts(self) -> RenderableType:
        rows = Rows("part", "status", "answers in", "what is wrong", has_prose=True)
        for name, part in self.document["services"].items():
            state, milliseconds = part.get("status", "unknown"), part.get("response_time_ms")
            took = "" if milliseconds is None else f"{milliseconds:.1f} ms"
            rows.add_row(name, Text(state, style=COLOURS.get(state, "")), took, part.get("error", ""))
        return rows

    def _connections(self) -> RenderableType:
        count = self.document["connections"]
        rows = Rows("instance", "connections")
        for name, connections in sorted(count["by_instance"].items()):
            rows.add_row(name, str(connections))
        rows.add_row("all", f"{count['global']} of {count['users']} users", style="bold")
        return rows

    def _queues(self) -> RenderableType:
        rows = Rows("queue", "wait", "oldest", "agents", "circuit", "dead letters")
        for name, queue in self.document["queues"].items():
            age = queue.get("oldest_age_seconds")
            style = "yellow" if queue["depth"] and not queue["consumers"] else CIRCUITS[queue["circuit"]]
            oldest = "" if age is None else f"{age:.0f} s"
            circuit, dead = queue["circuit"].replace("_", " "), str(queue["dead_letters"])
            rows.add_row(name, str(queue["depth"]), oldest, str(queue["consumers"]), circuit, dead, style=style)
        return rows


async def look(city: Operations, url: str, *, may_ask_more: bool) -> Overview:
    """Asks for everything at once; what the token may not see is left out.

    Raises:
        ClientError: the platform does not answer, or not as one.
    """
    wanted = (_COUNT, _QUEUES) if may_ask_more else ()
    health, more = await asyncio.gather(
        city.health(), asyncio.gather(*(_asked(city, operation) for operation in wanted))
    )
    seen: dict[str, Any] = {
        "url": url, "status": health.get("status", "unknown"), "services": health.get("services", {})
    }  # fmt: skip
    for name, found in zip(("connections", "queues"), more, strict=False):
        if isinstance(found, Mapping):
            seen |= {name: found} if found else {}
        elif found.code not in _LEFT_OUT:
            seen["refused"] = {"code": found.code, "message": found.message}
    if "queues" in seen:
        seen["queues"] = seen["queues"]["channels"]
    return Overview(seen)


async def _asked(city: Operations, operation: str) -> dict[str, Any] | Refused:
    from city_client import Refused

    try:
        return await city.call(operation)
    except Refused as refused:
        return refused
