"""What an instance says of its own health."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from foundations.errors import CityError, Unavailable
from smart_city.nurse.health import GatewayState, Health


@dataclass(slots=True)
class World:
    """The store, the bus, the gateway and the time, as a test sets them."""

    seconds: float = 0.002
    error: CityError | None = None
    is_hearing: bool = True
    state: GatewayState = "ready"
    connections: tuple[str, ...] = ("c1", "c2")
    now: float = 100.0
    pings: int = 0
    full: bool = False

    async def ping(self) -> float:
        self.pings += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return self.seconds

    async def is_full(self) -> bool:
        return self.full

    def health(self) -> Health:
        return Health(instance_id="i-1", store=self, bus=self, gateway=self, clock=lambda: self.now)


async def test_everything_well_is_healthy_and_ready() -> None:
    health = World().health()
    report, gateway = await health.report(), await health.gateway()
    assert (report.status, report.http_status) == ("healthy", 200)
    assert report.services["valkey"].response_time_ms == 2.0
    assert (gateway.status, gateway.http_status, gateway.connections) == ("ready", 200, 2)
    assert gateway.instance_id == "i-1"
    assert dict(gateway.dependencies) == dict.fromkeys(("valkey", "traffic_cop", "post_office"), "healthy")


async def test_without_its_store_an_instance_is_degraded_and_stays_ready() -> None:
    health = World(error=Unavailable("connection refused"), is_hearing=False).health()
    report, gateway = await health.report(), await health.gateway()
    assert (report.status, report.http_status) == ("degraded", 200)
    assert report.services["valkey"].status == "unhealthy"
    assert report.services["valkey"].error == "disconnected: connection refused"
    assert (gateway.status, gateway.http_status) == ("ready", 200)
    assert gateway.dependencies["post_office"] == "degraded"


async def test_with_a_full_store_an_instance_is_degraded_and_says_why() -> None:
    health = World(full=True).health()
    report, gateway = await health.report(), await health.gateway()
    assert (report.status, report.http_status) == ("degraded", 200)
    assert report.services["valkey"].status == "degraded"
    assert "full" in (report.services["valkey"].error or "")
    assert gateway.status == "ready"


async def test_an_instance_that_is_deaf_although_its_store_answers_is_not_ready() -> None:
    health = World(is_hearing=False).health()
    report, gateway = await health.report(), await health.gateway()
    assert (report.status, report.http_status) == ("degraded", 200)
    assert report.services["post_office"].error
    assert (gateway.status, gateway.http_status) == ("not_ready", 503)


@pytest.mark.parametrize("state", ["starting", "draining"])
async def test_an_instance_that_starts_or_drains_serves_nobody_new(state: GatewayState) -> None:
    health = World(state=state).health()
    report, gateway = await health.report(), await health.gateway()
    assert (report.status, report.http_status) == ("unhealthy", 503)
    assert (gateway.status, gateway.http_status) == ("not_ready", 503)


async def test_a_slow_store_is_degraded() -> None:
    report = await World(seconds=0.4).health().report()
    assert (report.status, report.services["valkey"].status) == ("degraded", "degraded")
    assert report.services["valkey"].response_time_ms == 400.0


async def test_many_who_ask_at_once_cost_one_question_to_the_store() -> None:
    world = World()
    health = world.health()
    await asyncio.gather(*(health.report() for _ in range(50)))
    assert world.pings == 1


async def test_an_old_answer_is_not_given_again() -> None:
    world = World()
    health = world.health()
    await health.report()
    world.error = Unavailable("gone")
    world.now += 1
    assert (await health.report()).status == "degraded"
    assert world.pings == 2


async def test_the_public_is_not_told_what_is_wrong() -> None:
    report = await World(error=Unavailable("10.0.0.7:6379 refused")).health().report()
    public = report.without_errors()
    assert "error" not in public.model_dump_json(exclude_none=True)
    assert public.status == report.status
    assert public.services["valkey"].status == "unhealthy"
