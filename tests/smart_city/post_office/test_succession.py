"""What dead instances held: their deliveries go to other agents, and then their estates are settled."""

from __future__ import annotations

from collections.abc import Sequence

from foundations.supervision import Tasks
from smart_city.post_office.fleet.succession import Succession
from tests.support.waiting import until


class Desk:
    """Hears whose deliveries are to be reclaimed, and whose connections taken out."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def lapsed(self, instance_id: str) -> None:
        self.heard.append(instance_id)

    async def clear(self, members: Sequence[str]) -> None:
        self.heard.append(f"and connections of {' and '.join(members)}")


async def test_what_dead_instances_held_is_taken_over_before_their_estates_are_settled(tasks: Tasks) -> None:
    desk, settled = Desk(), list[tuple[str, list[str]]]()

    async def settle(dead: str) -> None:
        settled.append((dead, list(desk.heard)))

    succession = Succession(desk, desk, tasks, settled=settle)
    for dead in ("one#1", "two#1"):
        succession.lapsed(dead)
    done = ["one#1", "two#1", "and connections of one#1 and two#1"]
    await until(lambda: settled == [("one#1", done), ("two#1", done)], "both estates are settled")
