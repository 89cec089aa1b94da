"""Upgrades: the instances are replaced one after the other, by another release or in place, while everybody goes on."""

from __future__ import annotations

from pathlib import Path

from tests.faults.trial import Trials
from tests.support.machine import ROOT
from tests.support.releases import loading, previous_release, unpacked


async def test_an_upgrade_from_the_previous_release_and_back(trials: Trials, tmp_path: Path) -> None:
    """Whatever one of the two writes the other reads: both work side by side over one store, in either order.

    The previous release resumes no connection.
    """
    previous = unpacked(previous_release(), tmp_path / "previous")
    with loading(previous):
        async with trials("upgrade from the previous release, and back") as city:
            for name, release in (("one", ROOT), ("two", ROOT), ("one", previous)):
                with loading(release):
                    await city.instances.stop(name)
                    await city.instances.open(name)
                await city.flows()


async def test_workers_that_are_replaced_in_place(trials: Trials) -> None:
    async with trials("SIGHUP to each of two instances") as city:
        for name in ("one", "two"):
            await city.instances.renew(name)
            await city.flows()
