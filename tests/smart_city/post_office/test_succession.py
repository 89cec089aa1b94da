"""What a dead instance held: its deliveries go to other agents, and then its estate is settled."""

from __future__ import annotations

from foundations.supervision import Tasks
from smart_city.post_office.fleet.succession import Succession
from tests.support.waiting import until


class Desk:
    """Hears whose deliveries are to be reclaimed, and whose connections taken out."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def lapsed(self, instance_id: str) -> None:
        self.heard.append(instance_id)

    async def clear(self, member: str) -> None:
        self.heard.append(f"and {member}'s connections")


async def test_what_a_dead_instance_held_is_taken_over_before_its_estate_is_settled(tasks: Tasks) -> None:
    desk, settled = Desk(), list[tuple[str, list[str]]]()

    async def settle(dead: str) -> None:
        settled.append((dead, list(desk.heard)))

    Succession(desk, desk, tasks, settled=settle).lapsed("one#1")
    await until(lambda: settled == [("one#1", ["one#1", "and one#1's connections"])], "the estate is settled")
