"""What each frame of a client does: one table for all connections.

Frames come here in order and with credit, which is the connection's matter; questions, publications and an agent's
words are `posting`'s and `consuming`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec import UNSET

from foundations.errors import CityError, Forbidden, Unauthenticated
from smart_city.post_office.gateway import messages
from smart_city.post_office.gateway.desk import Waiting
from smart_city.post_office.gateway.messages import ClientFrame, encode, wire
from smart_city.post_office.gateway.server_frames import Pong, Unsubscribed
from smart_city.post_office.gateway.stopping import stop
from smart_city.vocabulary import Position

if TYPE_CHECKING:
    from smart_city.post_office.gateway.connection import Connection

Action = Callable[["Connection", Any], Waiting]


async def _subscribe(connection: Connection, frame: messages.Subscribe) -> None:
    wanted: dict[str, Position | None] = {}
    refused: dict[str, CityError] = {}
    for channel, since in frame.channels.items():
        try:
            connection.allow("subscribe", channel)
            wanted[channel] = Position(since.offset, since.epoch) if since else None
        except CityError as error:
            refused[channel] = error
    await connection.subscriptions.subscribe(wanted, connection, frame_id(frame), refused)


async def _unsubscribe(connection: Connection, frame: messages.Unsubscribe) -> None:
    connection.subscriptions.unsubscribe(frame.channels)
    await _rewritten(connection)
    connection.acknowledge(frame)


async def _rewritten(connection: Connection) -> None:
    """Writes the connection again; while the store is away, with the next renewal."""
    registry = connection.desk.registry
    try:
        await registry.update(connection)
    except CityError:
        registry.write_later(connection)


def _stop(connection: Connection, frame: messages.Stop) -> None:
    connection.side_by_side(frame, stop(connection.desk, connection, frame))


def _ping(connection: Connection, frame: messages.Ping) -> None:
    connection.send(wire(encode(Pong(id=frame.id))))


async def _refresh(connection: Connection, frame: messages.Refresh) -> None:
    """Takes a new token of the same user; what it does not allow ends."""
    began, sessions = monotonic(), connection.desk.sessions
    identity = await sessions.identify(frame.session_token, address=connection.address)
    if identity.subject != connection.user_id:
        raise Forbidden("the new token belongs to somebody else; open a connection with it instead")
    if sessions.revoked_since(identity, began):
        raise Unauthenticated("the new token was revoked just now")
    connection.identified(identity)
    for channel in connection.channels:
        try:
            connection.allow("subscribe", channel)
        except CityError as error:
            connection.subscriptions.unsubscribe([channel])
            ended = Unsubscribed(channel=channel, code=error.code, message=error.message)
            connection.send(wire(encode(ended)))
    await _rewritten(connection)
    connection.acknowledge(frame)


ACTIONS: Mapping[type[ClientFrame], Action] = {
    messages.Subscribe: _subscribe, messages.Unsubscribe: _unsubscribe, messages.Ping: _ping,
    messages.Refresh: _refresh, messages.Stop: _stop,
    messages.Message: lambda connection, frame: connection.posting.message(frame),
    messages.Publish: lambda connection, frame: connection.posting.publish(frame),
    messages.Consume: lambda connection, frame: connection.consuming.consume(frame),
    messages.Done: lambda connection, frame: connection.consuming.done(frame),
    messages.Failed: lambda connection, frame: connection.consuming.failed(frame),
    messages.Working: lambda connection, frame: connection.consuming.working(frame),
    messages.Reply: lambda connection, frame: connection.consuming.reply(frame),
    messages.Forward: lambda connection, frame: connection.consuming.forward(frame),
}  # fmt: skip
"""One for all, since one of every connection's own was 3.8 kB of its 25 (case: idle connections)."""


def frame_id(frame: ClientFrame) -> str:
    """What the answer to a frame is matched by; empty when it carries nothing."""
    return "" if frame.id is UNSET else frame.id
