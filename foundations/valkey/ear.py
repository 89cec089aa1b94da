"""One pub/sub connection to one server, which stays connected and knows by a canary of its own whether it hears.

It hears the channels that it is given and tells its owner what became of each; where a channel is to be heard, and who
is told of a loss, is `subscriptions`' work.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import hiredis
from redis.asyncio import ConnectionPool

from foundations.supervision import Tasks
from foundations.valkey import slots
from foundations.valkey.client import Valkey
from foundations.valkey.wire import Reply, Wire, WireLost, packed

_log = logging.getLogger("smart_city.valkey.subscriptions")

MISSED_CANARIES = 3
NAMES_AT_ONCE = 512
"""Channels in one command: enough to make thousands cheap, few enough not to hold the server up."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0


@dataclass(slots=True, eq=False)
class Heard:
    """That the server has confirmed a channel, and for as long as it ``stands``, without a break."""

    ear: Ear
    stands: bool = True

    @property
    def canary(self) -> bytes:
        """What only the ear's present connection hears: the server tells by it whether that is still there."""
        return self.ear.canary


@dataclass(slots=True, eq=False)
class Listener:
    """Who hears one channel, and where: nowhere while nobody serves its slot."""

    handler: Callable[[bytes], None]
    on_confirmed: Callable[[], None] | None
    confirmed: asyncio.Future[None]
    ear: Ear | None = None
    heard: Heard | None = None
    """The confirmation that stands, if any does."""

    def unheard(self) -> None:
        """What was confirmed stands no more."""
        if self.heard is not None:
            self.heard.stands = False
            self.heard = None


class Owner(Protocol):
    """Who is told what becomes of channels, and of the connection."""

    def lost(self) -> None:
        """A connection has ended: what is sent now is not heard."""
        ...

    def begins(self, names: Collection[bytes]) -> None:
        """There is a new connection; none of these is confirmed on it yet."""
        ...

    def confirmed(self, name: bytes, listener: Listener) -> None:
        """A channel is heard from now on."""
        ...

    def ended(self, name: bytes, listener: Listener) -> None:
        """The server ended or refused a channel, as it does when its slot has moved."""
        ...

    def hears(self) -> None:
        """The connection hears itself."""
        ...


class Ear:
    """Hears those of ``listeners`` whose ear it is.

    A canary that this publishes to itself every ``canary_seconds`` shows that it hears; after three without one the
    connection is replaced, since a deaf connection looks alive.
    """

    def __init__(
        self, valkey: Valkey, home: ConnectionPool, owner: Owner, listeners: Mapping[bytes, Listener], *,
        canary_seconds: float,
    ) -> None:  # fmt: skip
        self._valkey = valkey
        self._home = home
        self._owner = owner
        self._listeners = listeners
        self._canary_seconds = canary_seconds
        self.canary = b""
        self._wanted: dict[bytes, bool] = {}
        """What to tell the server at the end of this turn: subscribe or not; the last word counts."""
        self._asked: dict[bytes, int] = {}
        """Subscribe commands on this connection that are not confirmed yet, by channel."""
        self._moved: set[int] = set()
        """Slots of which this turn told that they are elsewhere."""
        self._wire: Wire | None = None
        self._unheard = 0
        self._running: list[asyncio.Task[None]] = []

    def start(self, tasks: Tasks) -> None:
        """Connects, again and again."""
        self._running = [tasks.start("bus", self._stay_connected), tasks.start("canary", self._send_canaries)]

    async def close(self) -> None:
        """Ends the connection."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    @property
    def is_hearing(self) -> bool:
        """Whether the connection stands and lately heard itself, as far as one can know."""
        return self._wire is not None and self.canary not in self._asked and self._unheard < MISSED_CANARIES

    # What is asked for

    def listen(self, name: bytes) -> None:
        """Hears a channel from its confirmation on. What is asked for in one turn goes to the server together."""
        self._want(name, True)

    def leave(self, name: bytes) -> None:
        """Hears a channel no more."""
        self._want(name, False)

    def check_canary(self) -> None:
        """Takes another canary when the slot of this one has moved away."""
        if self._wire is not None and not self._is_here(self.canary):
            self._take_canary()

    def _want(self, name: bytes, wanted: bool) -> None:
        if not self._wanted:
            asyncio.get_running_loop().call_soon(self._tell)
        self._wanted[name] = wanted

    def _tell(self) -> None:
        wanted, self._wanted = self._wanted, {}
        if self._wire is None:
            return  # the next connection begins with everything that is to be heard
        self._subscribe([name for name, wants in wanted.items() if wants])
        self._send(b"SUNSUBSCRIBE", [name for name, wants in wanted.items() if not wants])

    def _subscribe(self, names: list[bytes]) -> None:
        for name in names:
            self._asked[name] = self._asked.get(name, 0) + 1
        self._send(b"SSUBSCRIBE", names)

    def _send(self, verb: bytes, names: list[bytes]) -> None:
        """A cluster takes only channels of one slot in one command."""
        if self._wire is None or not names:
            return
        groups = slots.by_slot(names, slots.slot_of) if self._valkey.store.is_cluster else [names]
        starts = ((group, at) for group in groups for at in range(0, len(group), NAMES_AT_ONCE))
        self._wire.write(b"".join(packed((verb, *group[at : at + NAMES_AT_ONCE])) for group, at in starts))

    # What is heard

    def _received(self, reply: Reply) -> None:
        """Takes one reply. Straight-line, the common case first: it runs for every message of the city."""
        if isinstance(reply, hiredis.PushNotification):
            kind = reply[0]
            if kind == b"smessage":
                self._unheard = 0
                listener = self._listeners.get(reply[1])
                if listener is not None:
                    try:
                        listener.handler(reply[2])
                    except Exception:
                        _log.exception("the handler of %r failed", reply[1])
            elif kind == b"ssubscribe":
                self._confirmed(reply[1])
            elif kind == b"sunsubscribe":
                self._unsubscribed(reply[1])
        elif isinstance(reply, hiredis.ReplyError):
            self._refused(str(reply))

    def _confirmed(self, name: bytes) -> None:
        asked = self._asked.get(name, 1) - 1
        if asked > 0:  # left and listened to again meanwhile: only the last confirmation is this listener's
            self._asked[name] = asked
            return
        self._asked.pop(name, None)
        if name == self.canary:
            self._owner.hears()
        elif (listener := self._mine(name)) is not None:
            listener.heard = Heard(self)
            self._owner.confirmed(name, listener)

    def _unsubscribed(self, name: bytes) -> None:
        """Tells the owner when it was the server that ended it."""
        if name == self.canary:
            self._asked[name] = self._asked.get(name, 0)
            self._valkey.store.look_again()
        elif name not in self._asked and name not in self._wanted and (listener := self._mine(name)) is not None:
            self._valkey.store.look_again()
            self._owner.ended(name, listener)

    def _refused(self, refusal: str) -> None:
        """A slot that has moved is heard elsewhere; any other refusal ends the connection."""
        if not refusal.startswith("MOVED "):
            if self._wire is not None:
                self._wire.abort(f"refused: {refusal}")
            return
        self._valkey.store.redirected(refusal, self._home)
        if not self._moved:
            asyncio.get_running_loop().call_soon(self._give_up_moved)
        self._moved.add(int(refusal.split(" ")[1]))

    def _give_up_moved(self) -> None:
        """Gives up what was asked for in slots that have moved: all that one turn tells of, which may be thousands."""
        moved, self._moved = self._moved, set()
        for name in [name for name in self._asked if slots.slot_of(name) in moved and name != self.canary]:
            del self._asked[name]
            if (listener := self._mine(name)) is not None:
                self._owner.ended(name, listener)

    def _mine(self, name: bytes) -> Listener | None:
        listener = self._listeners.get(name)
        return listener if listener is not None and listener.ear is self else None

    # The connection

    async def _stay_connected(self) -> None:
        """Connects at once after a loss; more and more slowly where nobody is let in, or a channel is refused."""
        pause = FIRST_PAUSE
        while True:
            has_heard = False
            try:
                has_heard = await self._connect()
            except WireLost as error:
                _log.debug("no pub/sub connection: %s", error)
            self._valkey.store.look_again()
            if has_heard:
                pause = FIRST_PAUSE
                continue
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads reconnects
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _connect(self) -> bool:
        """Hears on one connection until that is lost; whether all that was asked for was confirmed on it.

        Raises:
            WireLost: there was none.
        """
        wire = await self._open()
        try:
            self._begin(wire)
            reason = await asyncio.shield(wire.lost)
            _log.warning("the pub/sub connection was lost (%s); connecting again", reason)
            return not self._asked
        finally:
            self._wire = None
            self._owner.lost()
            await wire.close("closed")

    async def _open(self) -> Wire:
        return await Wire.open(self._home, self._received, seconds=self._valkey.timeout, name="smart-city-bus")

    def _begin(self, wire: Wire) -> None:
        self._wire = wire
        self._unheard = 0
        self._asked.clear()
        self._wanted.clear()
        names = [name for name, listener in self._listeners.items() if listener.ear is self]
        self._owner.begins(names)
        self._take_canary()
        self._subscribe(names)

    # The canary

    def _take_canary(self) -> None:
        """Begins with a canary that lives on this server."""
        self._asked.pop(self.canary, None)
        stem = self._valkey.key(f"canary:{self._valkey.incarnation}:{secrets.token_hex(4)}")
        names = (f"{stem}:{number}".encode() for number in itertools.islice(itertools.count(), 4 * slots.SLOTS))
        self.canary = next(filter(self._is_here, names), stem.encode())
        self._subscribe([self.canary])

    def _is_here(self, name: bytes) -> bool:
        return self._valkey.store.home_of(name) is self._home

    async def _send_canaries(self) -> None:
        while True:
            await asyncio.sleep(self._canary_seconds)
            if self._wire is None:
                continue
            self._unheard += 1
            if self._unheard < MISSED_CANARIES:
                self._wire.write(packed(("SPUBLISH", self.canary, b"")))
            else:
                self._wire.abort(f"deaf: {MISSED_CANARIES} canaries did not come back")
