"""The frame `stop` of one connection: its user wants no answer to a question any more.

Which connection asked does not matter, only whose question it is. How it is ended is `answers`' work.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from msgspec import UNSET

from smart_city.post_office.channels import connection_log, user_log
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.messages import encode, wire
from smart_city.post_office.gateway.server_frames import Ack
from smart_city.vocabulary import Identity


class Asker(Protocol):
    """The connection that asks no more."""

    connection_id: str
    identity: Identity

    def send(self, frame: bytes) -> None: ...


async def stop(desk: Desk, asker: Asker, frame: messages.Stop) -> None:
    """Ends a question of the asker's user, and tells what became of it."""
    user = asker.identity.subject

    async def logs() -> Iterable[str]:
        """Where answers to this user may stand."""
        living = {each["connection_id"] for each in await desk.registry.connections_of(user)}
        living.add(asker.connection_id)
        return [user_log(user), *map(connection_log, sorted(living))]

    outcome = await desk.answers.stopping.stop(user, frame.message_id, logs)
    if frame.id is not UNSET:
        asker.send(wire(encode(Ack(id=frame.id, message_id=frame.message_id, outcome=outcome))))
