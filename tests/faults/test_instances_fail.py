"""Instances die, are stopped and replaced: their clients come back elsewhere and have missed nothing."""

from __future__ import annotations

from tests.faults.trial import Trials


async def test_an_instance_that_is_killed(trials: Trials) -> None:
    async with trials("SIGKILL of an instance") as city:
        city.instances.kill("one")
        await city.flows()
        await city.instances.open("one")
        await city.flows()


async def test_both_instances_killed_one_after_the_other(trials: Trials) -> None:
    async with trials("SIGKILL of each instance in turn") as city:
        for name in ("one", "two"):
            city.instances.kill(name)
            await city.instances.open(name)
            await city.flows()


async def test_an_instance_that_is_stopped(trials: Trials) -> None:
    async with trials("SIGTERM of an instance") as city:
        assert await city.instances.stop("one") == 0
        await city.flows()


async def test_a_rolling_restart(trials: Trials) -> None:
    async with trials("rolling restart of three instances", instances=3) as city:
        for name in ("one", "two", "three"):
            assert await city.instances.stop(name) == 0
            await city.instances.open(name)
            await city.flows()
