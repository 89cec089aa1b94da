"""One admitted client: what it may do, how it is heard and answered, and what ends with it.

The order of its frames is kept by `turns`; what each of them does is `frame_actions`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from msgspec import UNSET, UnsetType
from websockets.frames import CloseCode

from foundations.errors import CityError, DeadlineExceeded, Internal
from foundations.invocation import Credit
from smart_city.post_office.channels import connection_log
from smart_city.post_office.envelopes import timestamp
from smart_city.post_office.gateway import messages, msgpack
from smart_city.post_office.gateway.close_codes import is_final
from smart_city.post_office.gateway.consuming import Consuming
from smart_city.post_office.gateway.desk import Desk
from smart_city.post_office.gateway.frame_actions import ACTIONS, Action, frame_id
from smart_city.post_office.gateway.messages import HEARTBEAT, BadFrame, ClientFrame, encode, error_frame, wire
from smart_city.post_office.gateway.posting import Posting
from smart_city.post_office.gateway.server_frames import Ack
from smart_city.post_office.gateway.socket import Socket
from smart_city.post_office.gateway.subscribing import Subscribing
from smart_city.post_office.gateway.turns import Turns
from smart_city.vocabulary import SENDING, Identity, Right

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Where connections are at home: the gateway."""

    def left(self, connection: Connection, code: int, reason: str) -> None:
        """The socket is gone."""
        ...

    def identified(self, connection: Connection, identity: Identity) -> None:
        """The client has brought a new token of the same user."""
        ...


class Connection:
    """One client between its welcome and its close.

    There are tens of thousands, most of them idle: what one in a hundred needs comes into being with its first use, and
    what is the same for all is kept once (case: idle connections).
    """

    __slots__ = (
        "__weakref__", "_allowed", "_close_code", "_credit", "_decode", "_heard_offset", "_is_ping_answered",
        "_ping_number", "_sent_offset", "_takes_text", "_turns", "connected_at", "connection_id", "consuming", "desk",
        "fence", "host", "identity", "last_heartbeat", "may_return", "posting", "sent_to", "socket", "subscriptions",
        "unanswered_heartbeats",
    )  # fmt: skip

    def __init__(self, desk: Desk, socket: Socket, identity: Identity, connection_id: str, *,
                 fence: int = 1, heard_offset: int = 0) -> None:  # fmt: skip
        self.connection_id = connection_id
        self.fence = fence
        """Higher than that of every socket that this connection had before."""
        self.identity = identity
        self.socket = socket
        self.connected_at = timestamp()
        self.last_heartbeat = self.connected_at
        self.unanswered_heartbeats = 0
        self.may_return = True
        """Whether the client may resume the connection once its socket is gone."""
        self.sent_to: set[str] | frozenset[str] = _NOWHERE
        self.host: Host | None = None
        self.subscriptions = Subscribing(desk.joining, desk.registry, socket.outbox, most=desk.max_subscriptions)
        self._turns = Turns(socket, self, most_beside=desk.max_unanswered)
        self.posting: Posting = Posting(desk, self)
        self.consuming: Consuming = Consuming(desk, self, socket.outbox)
        self.desk = desk
        self._credit = desk.limits.credit(identity, "messages")
        self._takes_text = not socket.is_packed
        self._decode: Callable[[bytes], ClientFrame] = messages.decode
        if socket.is_packed:
            self._decode = partial(msgpack.decode, most_bytes=desk.max_message_bytes)
        self._allowed = _NOTHING
        self._heard_offset = self._sent_offset = heard_offset
        self._ping_number = 0
        self._is_ping_answered = True
        self._close_code = 0

    @property
    def user_id(self) -> str:
        """The user's id, or ``~REALM`` of a service."""
        return self.identity.subject

    @property
    def channels(self) -> Sequence[str]:
        """The channels listened to, private logs left out."""
        return self.subscriptions.channels

    @property
    def consumes(self) -> Sequence[str]:
        """The channels whose inboxes it takes from."""
        return self.consuming.channels

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the client."""
        return self.socket.outbox.unsent

    @property
    def is_working(self) -> bool:
        """Whether it is an agent with deliveries that it has not answered, or frames of it are under way."""
        return self.consuming.is_working or not self._turns.is_idle

    @property
    def is_lagging(self) -> bool:
        """Whether something waits until the client has taken what was sent."""
        return self.socket.outbox.is_awaited

    @property
    def address(self) -> str:
        """Where the other end is."""
        return self.socket.address

    def send(self, frame: bytes) -> None:
        """Queues whole frames for the write at the end of this turn."""
        self.socket.outbox.send(frame)

    def close(self, code: int, reason: str = "") -> None:
        """Sends what is queued, then ends."""
        self.socket.close(code, reason)

    def sends_to(self, channel: str) -> None:
        """Notes that it has sent something to a channel."""
        if not isinstance(self.sent_to, set):
            self.sent_to = set()
        self.sent_to.add(channel)

    # Frames, one after the other

    def received(self, data: bytes, is_text: bool) -> None:
        """Handles a frame now, or after those before it."""
        self.desk.counters.messages_received += 1
        if is_text is not self._takes_text:
            self.socket.fail(CloseCode.UNSUPPORTED_DATA, _other_encoding(is_text))
        else:
            self._turns.take(data)

    def heard(self) -> None:
        """The peer lives."""
        self.unanswered_heartbeats = 0

    def lagging(self, is_lagging: bool) -> None:
        """One that lags is fed from the logs, and given no more work; nobody waits for it."""
        counters = self.desk.counters
        counters.connections_lagging += 1 if is_lagging else -1
        if is_lagging:
            counters.lags += 1
            self.subscriptions.fall_back()
        else:
            self.consuming.has_room()

    def beat(self) -> None:
        """Sends a heartbeat, and a ping whose pong tells that what was sent before it has arrived.

        Until that comes the ping is repeated as it was. Other words of the client tell that it lives, and no more.
        """
        if self._is_ping_answered:
            self._is_ping_answered = False
            self._ping_number += 1
            self._sent_offset = self._own_offset()
        self.send(HEARTBEAT)
        self.socket.ping(str(self._ping_number).encode())

    def ponged(self, data: bytes) -> None:
        """A pong came; one that answers no ping of ours says nothing."""
        if data == str(self._ping_number).encode() and not self._is_ping_answered:
            self._is_ping_answered = True
            self._heard_offset = max(self._heard_offset, self._sent_offset)

    @property
    def heard_offset(self) -> int:
        """Up to here the connection's own log has certainly reached the client, through all its sockets.

        Never beyond what it was sent of the log as that is now: one that a store lost has begun anew.
        """
        position = self.subscriptions.position_of(connection_log(self.connection_id))
        return self._heard_offset if position is None else min(self._heard_offset, position.offset)

    def _own_offset(self) -> int:
        """Up to where the client has been sent its own log, as far as this socket was asked for it."""
        position = self.subscriptions.position_of(connection_log(self.connection_id))
        return self._sent_offset if position is None else position.offset

    def closed(self, code: int, reason: str) -> None:
        """The socket is gone: whatever hangs on it ends, once what it said before is carried out."""
        if self._close_code:
            return
        self._close_code = code
        has_said_goodbye = code == CloseCode.NORMAL_CLOSURE and self.may_return  # else an operator said it
        self._heard_offset = self._own_offset() if has_said_goodbye else self.heard_offset
        self.may_return = self.may_return and not is_final(code)
        self.subscriptions.end()
        self.consuming.pause()
        if self.host is not None:
            self.host.left(self, code, reason)
        self.on_idle()

    def on_idle(self) -> None:
        """What an agent has answered before it left is not handed to another."""
        if self._close_code and self._turns.is_idle:
            self.consuming.end(counts=self._close_code != CloseCode.SERVICE_RESTART)

    def refuse(self, frame: ClientFrame, error: CityError) -> None:
        """Answers with an ``error`` frame; the connection stays open."""
        counters, channel = self.desk.counters, self.desk.channels.counted_as(getattr(frame, "channel", ""))
        counters.errors += 1
        counters.channel(channel).refused(error.code)
        self.send(error_frame(error, frame_id(frame), _delivery(frame)))

    def acknowledge(
        self, frame: ClientFrame, *, is_held: bool = False, lease_seconds: float | UnsetType = UNSET
    ) -> None:
        """Answers a frame that carried an id and needs no other answer; of one that is held, it is not the last."""
        if frame.id is not UNSET:
            self.send(wire(encode(Ack(id=frame.id, status="held" if is_held else UNSET, lease_seconds=lease_seconds))))

    def handle(self, data: bytes) -> None:
        """Handles a frame at once if there is credit for it here; refused frames cost credit, too."""
        try:
            frame = self._decode(data)
            act = ACTIONS[type(frame)]
        except BadFrame as bad:
            frame, act = ClientFrame(id=bad.frame_id or UNSET), _refusing(bad.error)
        try:
            waiting = act(self, frame) if self._credit.spend() else self._act_with_credit(act, frame)
        except Exception as error:  # a connection is supervised here: one bad frame must not end it
            self.failed(frame, error)
            return
        if waiting is not None:
            self._turns.hold()
            self._spawn(f"frame of {self.connection_id}", self._finish(frame, waiting), waiting)

    async def _act_with_credit(self, act: Action, frame: ClientFrame) -> None:
        await self._credit.refill()
        waiting = act(self, frame)
        if waiting is not None:
            await waiting

    async def _finish(self, frame: ClientFrame, waiting: Coroutine[Any, Any, None]) -> None:
        """Carries out a frame that has to wait, then the ones behind it."""
        await self._carry_out(frame, waiting)
        self._turns.release()

    def began(self) -> None:
        """A frame is under way beside the others."""
        self._turns.began()

    def ended(self) -> None:
        """One of them is answered."""
        self._turns.ended()

    def side_by_side(self, frame: ClientFrame, work: Coroutine[Any, Any, None]) -> None:
        """Carries out a frame without holding back those behind it; only so many at once."""
        self.began()

        async def carry_out() -> None:
            await self._carry_out(frame, work)
            self.ended()

        self._spawn(f"{frame.type} of {self.connection_id}", carry_out(), work)

    def _spawn(self, name: str, carrying: Coroutine[Any, Any, None], work: Coroutine[Any, Any, None]) -> None:
        """Carries out in a task of its own. Where the instance ends before its first step, nobody awaits ``work``."""
        try:
            task = self.desk.tasks.spawn(name, carrying)
        except RuntimeError:
            work.close()
            raise
        task.add_done_callback(lambda _: work.close())

    async def _carry_out(self, frame: ClientFrame, work: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self.desk.frame_seconds):
                await work
        except TimeoutError:
            told = f"{frame.type} took longer than {self.desk.frame_seconds:g} seconds"
            self.refuse(frame, DeadlineExceeded(told))
        except Exception as error:  # a connection is supervised here: one bad frame must not end it
            self.failed(frame, error)

    def allow(self, right: Right, channel: str) -> Credit | None:
        """Checks a right; the credit that using it costs, if any.

        The right to send is asked for with every message, and checked once for as long as the identity stays the same.
        """
        try:
            return self._allowed[right, channel]
        except KeyError:
            self.desk.channels.check(self.identity, right, channel, connection_id=self.connection_id)
            if right not in SENDING:
                return None
            credit = self.desk.limits.sending(self.identity, channel)
            if not isinstance(self._allowed, dict):
                self._allowed = {}
            self._allowed[right, channel] = credit
            return credit

    def failed(self, frame: ClientFrame, error: Exception) -> None:
        """Answers a frame that came to nothing; a defect of ours is logged and told as `internal`."""
        if not isinstance(error, CityError):
            _log.error("the frame %s of %s failed", frame.type, self.connection_id, exc_info=error)
            error = Internal("something went wrong here; the log of this instance has the details")
        self.refuse(frame, error)

    def identified(self, identity: Identity) -> None:
        """Takes a new identity of the same user, and what it allows."""
        if self.host is not None:
            self.host.identified(self, identity)
        self._allowed = _NOTHING
        self._credit = self.desk.limits.credit(identity, "messages")
        self.consuming.recheck()


_NOWHERE: frozenset[str] = frozenset()
_NOTHING: Mapping[tuple[Right, str], Credit | None] = MappingProxyType({})


def _refusing(error: CityError) -> Action:
    return lambda connection, frame: connection.refuse(frame, error)


def _delivery(frame: ClientFrame) -> str:
    """The delivery that an agent's frame is about."""
    found = getattr(frame, "delivery_id", "")
    return found if isinstance(found, str) else ""


def _other_encoding(is_text: bool) -> str:
    if is_text:
        return "this connection speaks MessagePack, in binary frames; for JSON offer another subprotocol"
    return "binary frames need the subprotocol smart-city.v1.msgpack"
