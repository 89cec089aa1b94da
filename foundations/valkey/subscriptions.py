"""What an instance hears: one pub/sub connection for all its shard channels, whose every loss is noticed.

Valkey's pub/sub promises nothing: what is sent while the connection is away is gone. This says when it hears
again (`on_confirmed`, `heard_again`) and deliberately leaves it to its users to ask the store for the rest.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass

import hiredis

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.wire import Reply, Wire, WireLost, packed

_log = logging.getLogger("smart_city.valkey.subscriptions")

MISSED_CANARIES = 3
NAMES_AT_ONCE = 512
"""Channels in one command: enough to make thousands cheap, few enough not to hold the server up."""
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 1.0
START_SECONDS = 10.0


@dataclass(frozen=True, slots=True, eq=False)
class _Listener:
    handler: Callable[[bytes], None]
    on_confirmed: Callable[[], None] | None
    confirmed: asyncio.Future[None]


class Subscriptions:
    """Sharded pub/sub for one instance. Handlers are called in the order of arrival and must not wait.

    A canary that this publishes to itself every ``canary_seconds`` shows that it hears; after three without
    one the connection is replaced, since a deaf connection looks alive.
    """

    def __init__(self, valkey: Valkey, tasks: Tasks, *, canary_seconds: float = 1.0) -> None:
        self.heard_again: list[Callable[[], None]] = []
        self._valkey = valkey
        self._tasks = tasks
        self._canary_seconds = canary_seconds
        self._canary = f"canary:{valkey.incarnation}:{secrets.token_hex(4)}"
        self._listeners: dict[bytes, _Listener] = {}
        self._wanted: dict[bytes, bool] = {}
        """What to tell the server at the end of this turn: subscribe or not; the last word counts."""
        self._asked: dict[bytes, int] = {}
        """Subscribe commands on this connection that are not confirmed yet, by channel."""
        self._recovering: set[bytes] = set()
        """Channels that were listened to when the connection began and are not confirmed since."""
        self._was_deaf = False
        self._wire: Wire | None = None
        self._unheard = 0
        self._running: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connects and waits until the first canary is heard.

        Raises:
            Unavailable: Valkey did not let it.
        """
        heard = self.listen(self._canary, lambda _: None)
        self._running = [
            self._tasks.start("bus", self._stay_connected),
            self._tasks.start("canary", self._send_canaries),
        ]
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(heard)
        except TimeoutError:
            await self.close()
            raise Unavailable(f"Valkey confirmed no subscription within {START_SECONDS:.0f} s") from None

    async def close(self) -> None:
        """Ends the connection. Futures that were not resolved are cancelled."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        for listener in self._listeners.values():
            listener.confirmed.cancel()
        self._listeners.clear()

    def listen(
        self, channel: str, handler: Callable[[bytes], None], on_confirmed: Callable[[], None] | None = None
    ) -> asyncio.Future[None]:
        """Hears a shard channel from its confirmation on, which resolves the future.

        ``on_confirmed`` is called at every confirmation: a second one is the only sign that something may
        have been missed. All that is asked for in one turn of the event loop goes to the server together.

        Raises:
            ValueError: the channel has a listener already.
        """
        name = self._valkey.key(channel).encode()
        if name in self._listeners:
            raise ValueError(f"{channel} has a listener already")
        confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listeners[name] = _Listener(handler, on_confirmed, confirmed)
        self._want(name, True)
        return confirmed

    def leave(self, channel: str) -> None:
        """Stops hearing a channel, at once; a future that still waits is cancelled."""
        name = self._valkey.key(channel).encode()
        if (listener := self._listeners.pop(name, None)) is None:
            return
        listener.confirmed.cancel()
        self._want(name, False)
        self._is_back(name)

    @property
    def is_hearing(self) -> bool:
        """Whether what is published now would be heard here, as far as one can know."""
        return self._wire is not None and not self._recovering and self._unheard < MISSED_CANARIES

    # What is asked for

    def _want(self, name: bytes, wanted: bool) -> None:
        if not self._wanted:
            asyncio.get_running_loop().call_soon(self._tell)
        self._wanted[name] = wanted

    def _tell(self) -> None:
        wanted, self._wanted = self._wanted, {}
        if self._wire is None:
            return  # the next connection begins with everything that has a listener
        self._subscribe([name for name, wants in wanted.items() if wants])
        self._send(b"SUNSUBSCRIBE", [name for name, wants in wanted.items() if not wants])

    def _subscribe(self, names: list[bytes]) -> None:
        for name in names:
            self._asked[name] = self._asked.get(name, 0) + 1
        self._send(b"SSUBSCRIBE", names)

    def _send(self, verb: bytes, names: list[bytes]) -> None:
        starts = range(0, len(names), NAMES_AT_ONCE)
        if self._wire is not None and names:
            self._wire.write(b"".join(packed((verb, *names[i : i + NAMES_AT_ONCE])) for i in starts))

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
        elif isinstance(reply, hiredis.ReplyError) and self._wire is not None:
            self._wire.abort(f"refused: {reply}")

    def _confirmed(self, name: bytes) -> None:
        asked = self._asked.get(name, 1) - 1
        if asked > 0:  # left and listened to again meanwhile: only the last confirmation is this listener's
            self._asked[name] = asked
            return
        self._asked.pop(name, None)
        listener = self._listeners.get(name)
        if listener is not None:
            if not listener.confirmed.done():
                listener.confirmed.set_result(None)
            if listener.on_confirmed is not None:
                _call(listener.on_confirmed)
        self._is_back(name)

    def _unsubscribed(self, name: bytes) -> None:
        """Subscribes again when it was the server that ended it, as it does when a slot moves away."""
        if name in self._listeners and name not in self._asked and name not in self._wanted:
            self._was_deaf = True
            self._recovering.add(name)
            self._want(name, True)

    def _is_back(self, name: bytes) -> None:
        if name not in self._recovering:
            return
        self._recovering.discard(name)
        if self._was_deaf and not self._recovering:
            self._was_deaf = False
            for callback in self.heard_again:
                _call(callback)

    # The connection

    async def _stay_connected(self) -> None:
        pause = FIRST_PAUSE
        while True:
            try:
                wire = await self._open()
            except WireLost as error:
                _log.debug("no pub/sub connection: %s", error)
                await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311  # spreads reconnects
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            pause = FIRST_PAUSE
            try:
                self._begin(wire)
                reason = await asyncio.shield(wire.lost)
                _log.warning("the pub/sub connection was lost (%s); connecting again", reason)
            finally:
                self._wire, self._was_deaf = None, True
                await wire.close("closed")

    async def _open(self) -> Wire:
        (pool,) = self._valkey.store.homes()
        return await Wire.open(pool, self._received, seconds=self._valkey.timeout, name="smart-city-bus")

    def _begin(self, wire: Wire) -> None:
        self._wire = wire
        self._unheard = 0
        self._asked.clear()
        self._wanted.clear()
        names = list(self._listeners)
        self._recovering = set(names)
        self._subscribe(names)

    async def _send_canaries(self) -> None:
        canary = self._valkey.key(self._canary)
        while True:
            await asyncio.sleep(self._canary_seconds)
            if self._wire is None:
                continue
            self._unheard += 1
            if self._unheard < MISSED_CANARIES:
                self._wire.write(packed(("SPUBLISH", canary, b"")))
            else:
                self._wire.abort(f"deaf: {MISSED_CANARIES} canaries did not come back")


def _call(callback: Callable[[], None]) -> None:
    """A subscriber's failure is its own: the others are still told, and the connection stays."""
    try:
        callback()
    except Exception:
        _log.exception("a callback of the bus failed")
