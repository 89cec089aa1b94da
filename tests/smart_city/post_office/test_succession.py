"""What a dead instance held: its deliveries go to other agents, and then its estate is settled."""

from __future__ import annotations

from foundations.supervision import Tasks
from smart_city.post_office.fleet.succession import Succession
from tests.support.waiting import until


class Desk:
    """Hears which member's deliveries are to be reclaimed."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def lapsed(self, instance_id: str) -> None:
        self.heard.append(instance_id)


async def test_the_deliveries_of_a_dead_instance_are_reclaimed_before_its_estate_is_settled(tasks: Tasks) -> None:
    desk, settled = Desk(), list[tuple[str, list[str]]]()

    async def settle(dead: str) -> None:
        settled.append((dead, list(desk.heard)))

    Succession(desk, tasks, settled=settle).lapsed("one#1")
    await until(lambda: settled == [("one#1", ["one#1"])], "the estate is settled")
