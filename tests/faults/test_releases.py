"""Upgrades: the instances are replaced one after the other, by another release or in place, while everybody goes on."""

from __future__ import annotations

from pathlib import Path

from tests.faults.trial import City, Trials
from tests.support.machine import ROOT
from tests.support.releases import loading, previous_release, unpacked


async def test_an_upgrade_from_the_previous_release_and_back(trials: Trials, tmp_path: Path) -> None:
    """Whatever one of the two writes the other reads: both work side by side over one store, in either order.

    The previous release resumes no connection, and answers under way on one that ends with it are lost.
    """
    previous = unpacked(previous_release(), tmp_path / "previous")
    with loading(previous):
        async with trials("upgrade from the previous release, and back") as city:
            for name, old, new in (("one", previous, ROOT), ("two", previous, ROOT), ("one", ROOT, previous)):
                links = standing(city)
                with loading(new):
                    await city.instances.stop(name)
                    await city.instances.open(name)
                await city.flows()
                if old is previous:
                    city.record.forgetful |= links - standing(city)


def standing(city: City) -> set[str]:
    """The askers' links of this moment."""
    return {asker.link for asker in city.load.askers.values()}


async def test_workers_that_are_replaced_in_place(trials: Trials) -> None:
    async with trials("SIGHUP to each of two instances") as city:
        for name in ("one", "two"):
            await city.instances.renew(name)
            await city.flows()
