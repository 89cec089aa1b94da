"""The frame `stop` of one connection: its user wants no answer to a question any more.

Which connection asked does not matter, only whose question it is. How it is ended is `answers`' work.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Protocol

from msgspec import UNSET

from smart_city.post_office.channels import connection_log, user_log
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.messages import ClientFrame, encode, wire
from smart_city.post_office.gateway.server_frames import Ack
from smart_city.vocabulary import Identity


class Asker(Protocol):
    """The connection that asks no more."""

    connection_id: str
    identity: Identity

    def send(self, frame: bytes) -> None: ...

    def side_by_side(self, frame: ClientFrame, work: Coroutine[Any, Any, None]) -> None: ...


class Stopping:
    """Carries out the frames `stop` of one connection."""

    def __init__(self, desk: Desk, asker: Asker) -> None:
        self._desk = desk
        self._asker = asker
        self.handlers: Mapping[type[ClientFrame], Callable[[Any], None]] = {messages.Stop: self._stop}

    def _stop(self, frame: messages.Stop) -> None:
        self._asker.side_by_side(frame, self._end(frame))

    async def _end(self, frame: messages.Stop) -> None:
        user = self._asker.identity.subject
        outcome = await self._desk.answers.stopping.stop(user, frame.message_id, self._logs)
        if frame.id is not UNSET:
            self._asker.send(wire(encode(Ack(id=frame.id, message_id=frame.message_id, outcome=outcome))))

    async def _logs(self) -> Iterable[str]:
        """Where answers to this user may stand."""
        user = self._asker.identity.subject
        living = {each["connection_id"] for each in await self._desk.registry.connections_of(user)}
        living.add(self._asker.connection_id)
        return [user_log(user), *map(connection_log, sorted(living))]
