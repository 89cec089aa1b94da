"""A storm: thousands of clients lose their sockets at once and come back at once; all are resumed, nothing is lost.

How long it takes and how late the event loop comes to what is due is recorded, not judged: that is the machine's, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.crowd import Member, all_in, all_out
from tests.support.serving import Serving
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually

CLIENTS = int(os.environ.get("SMART_CITY_TEST_STORM", "5000"))
A_USER = 10
STEADY = 20
OPERATOR = "op_" + "s" * 43
SETTINGS = {
    "OPERATOR_TOKEN": OPERATOR, "ADDRESS_HANDSHAKES_PER_SECOND": "100000", "ADDRESS_HANDSHAKES_BURST": "1000000",
    "MAX_CONNECTIONS": "15000", "CALLS_PER_SECOND": "100000", "CALLS_BURST": "100000", "OPEN_METRICS": "true",
    "LOG_LEVEL": "warning", "RESUME_WINDOW_SECONDS": "600",
}  # fmt: skip
LONG = 240.0


@dataclass
class Busy:
    """A channel on which something is said all the time, and one on which it is said now and then."""

    http: httpx2.AsyncClient
    said: dict[str, list[int]] = field(default_factory=lambda: {"guide": [], "pillar:content": []})

    async def go_on(self) -> None:
        number = 0
        while True:
            number += 1
            await self.say("pillar:content")
            if number % 20 == 0:
                await self.say("guide")
            await asyncio.sleep(0.05)  # the pace of the channel

    async def say(self, channel: str) -> None:
        done = await call(self.http, "post_office.publish_to_agent_channel", channel=channel, realm="storm",
                          message={"at": time.time()})  # fmt: skip
        self.said[channel].append(done["offset"])


async def call(http: httpx2.AsyncClient, operation: str, **arguments: Any) -> dict[str, Any]:
    service, _, name = operation.partition(".")
    answer = await http.post(f"/soa/{service.replace('_', '-')}/{name}", json=arguments)
    assert answer.status_code == 200, answer.text
    result: dict[str, Any] = answer.json()
    return result


@asynccontextmanager
async def asking(city: Serving) -> AsyncIterator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {OPERATOR}"}
    async with httpx2.AsyncClient(base_url=city.url, timeout=60, headers=headers, trust_env=False) as http:
        yield http


async def late(http: httpx2.AsyncClient) -> dict[float, float]:
    """How often the event loop was at most so late."""
    page = (await http.get("/metrics")).text
    lines = [line for line in page.splitlines() if line.startswith("event_loop_lag_seconds_bucket")]
    return {float(line.split('le="')[1].split('"')[0]): float(line.rpartition(" ")[2]) for line in lines}


def lag_between(before: dict[float, float], after: dict[float, float]) -> dict[str, float]:
    counts = {bound: after[bound] - before.get(bound, 0) for bound in after}
    total = counts[float("inf")]
    return {name: min(b for b, n in counts.items() if n >= share * total)
            for name, share in (("p50", 0.5), ("p99", 0.99), ("worst", 1))}  # fmt: skip


def workers(city: Serving) -> list[int]:
    pid = city.process.pid
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture
def cities(tmp_path: Path) -> Iterator[tuple[Serving, Serving]]:
    with ExitStack() as stack:
        store = stack.enter_context(ValkeyServer())
        settings = SETTINGS | {"VALKEY_URL": store.url}
        one, two = (stack.enter_context(Serving(tmp_path / n, "--no-demo", settings=settings)) for n in ("one", "two"))
        yield one.opened(), two.opened()


async def tokens(http: httpx2.AsyncClient, count: int) -> list[str]:
    turns = asyncio.Semaphore(20)

    async def one(number: int) -> str:
        async with turns:
            return str((await call(http, "traffic_cop.create_session", user_id=f"u{number}"))["session_token"])

    return await asyncio.gather(*(one(number) for number in range(count)))


@pytest.mark.timeout(600)
async def test_thousands_that_come_back_at_once_are_all_resumed_and_miss_nothing(
    cities: tuple[Serving, Serving], record_property: Any
) -> None:
    here, there = cities
    async with asking(there) as http, AsyncExitStack() as leaving:
        known = await tokens(http, CLIENTS // A_USER)
        crowd = [Member(known[number // A_USER], "guide") for number in range(CLIENTS)]
        steady = [Member(known[number % len(known)], "pillar:content") for number in range(STEADY)]
        leaving.push_async_callback(all_out, crowd + steady)
        await all_in(steady, there.url, LONG)
        fresh = await all_in(crowd, here.url, LONG)
        busy = Busy(http)
        speaking = asyncio.create_task(busy.go_on())
        told: dict[str, Any] = {"clients": CLIENTS, "fresh_seconds": round(fresh, 2)}
        for storm in ("an instance is killed", "all lose their sockets"):
            before = await late(http)
            if storm == "an instance is killed":
                for pid in [*workers(here), here.process.pid]:
                    os.kill(pid, signal.SIGKILL)
            else:
                for member in crowd:
                    member.cut()
            await busy.say("guide")
            seconds = await all_in(crowd, there.url, LONG, resume=True)
            told[storm] = {"seconds": round(seconds, 2)} | lag_between(before, await late(http))
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        await busy.say("guide")
        await nothing_lost(crowd, busy.said["guide"])
        await nothing_lost(steady, busy.said["pillar:content"])
        await on_its_own_log(http, crowd)
    assert [member.resumed for member in crowd] == [[False, True, True]] * CLIENTS
    record_property("storm", json.dumps(told))
    print(json.dumps(told))  # noqa: T201  # the figures of a run


async def nothing_lost(members: list[Member], said: list[int]) -> None:
    """Each has everything that was said while it was a client, once and in order."""

    async def all_have_the_last() -> bool:
        return all(said[-1] in member.got[-5:] for member in members)

    await eventually(all_have_the_last, "the last publication is there", 60)
    for member in members:
        assert member.got == list(range(member.got[0], member.got[-1] + 1)), member.id
        assert set(said) <= set(member.got), member.id


async def on_its_own_log(http: httpx2.AsyncClient, members: list[Member]) -> None:
    """The logs of the resumed connections are theirs, still."""
    some = members[:: max(1, len(members) // 50)]
    sent = [await call(http, "post_office.send_to_connection", connection_id=m.id, message={}) for m in some]

    async def heard() -> bool:
        return all(one["message_id"] in member.answers for one, member in zip(sent, some, strict=True))

    await eventually(heard, "what was sent to each connection", 30)
