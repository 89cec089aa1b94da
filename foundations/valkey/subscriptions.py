"""What an instance hears: its shard channels, over one connection to each server, whose every loss is noticed.

Valkey's pub/sub promises nothing: what is sent while a connection is away, or a slot moves, is gone. This says when it
hears again (`on_confirmed`, `heard_again`) and deliberately leaves it to its users to ask the store for the rest.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection
from contextlib import suppress

from redis.asyncio import ConnectionPool

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.ear import Ear, Heard, Listener

_log = logging.getLogger("smart_city.valkey.subscriptions")

START_SECONDS = 10.0
CANARY_SECONDS = 0.75
"""Three that do not come back make two seconds and a quarter until a deaf connection is noticed."""


class Subscriptions:
    """Sharded pub/sub for one instance. Handlers are called in the order of arrival and must not wait.

    A channel is heard where its slot lies, and follows it; channels of one server keep their order between them. One
    server that is not heard makes the instance deaf, and nothing is confirmed again but what was heard there.
    """

    def __init__(self, valkey: Valkey, tasks: Tasks, *, canary_seconds: float = CANARY_SECONDS) -> None:
        self.heard_again: list[Callable[[], None]] = []
        self._valkey = valkey
        self._tasks = tasks
        self._canary_seconds = canary_seconds
        self._listeners: dict[bytes, Listener] = {}
        self._ears: dict[ConnectionPool, Ear] = {}
        self._recovering: set[bytes] = set()
        """Channels that were listened to and are not heard, or not known to be."""
        self._was_deaf = True
        self._is_settling = False
        self._is_closed = False
        self._started: asyncio.Future[None]

    async def start(self) -> None:
        """Connects to every server and waits until each confirms a canary.

        Raises:
            Unavailable: Valkey did not let it.
        """
        self._started = asyncio.get_running_loop().create_future()
        self._valkey.store.moved.append(self._settle_soon)
        self._settle()
        try:
            async with asyncio.timeout(START_SECONDS):
                await asyncio.shield(self._started)
        except TimeoutError:
            await self.close()
            raise Unavailable(f"Valkey confirmed no subscription within {START_SECONDS:.0f} s") from None

    async def close(self) -> None:
        """Ends the connections. Futures that were not resolved are cancelled."""
        self._is_closed = True
        with suppress(ValueError):
            self._valkey.store.moved.remove(self._settle_soon)
        for listener in self._listeners.values():
            listener.confirmed.cancel()
        self._listeners.clear()
        ears, self._ears = self._ears, {}
        await asyncio.gather(*(ear.close() for ear in ears.values()))

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
        self._listeners[name] = listener = Listener(handler, on_confirmed, confirmed)
        self._place(name, listener)
        return confirmed

    def leave(self, channel: str) -> None:
        """Stops hearing a channel, at once; a future that still waits is cancelled."""
        name = self._valkey.key(channel).encode()
        if (listener := self._listeners.pop(name, None)) is None:
            return
        listener.confirmed.cancel()
        listener.unheard()
        if listener.ear is not None:
            listener.ear.leave(name)
        self._is_back(name)

    def hearing(self, channel: str) -> Heard | None:
        """That a channel is heard, where the server has confirmed it and nothing came between."""
        listener = self._listeners.get(self._valkey.key(channel).encode())
        return None if listener is None else listener.heard

    @property
    def is_hearing(self) -> bool:
        """Whether what is published now would be heard here, wherever, as far as one can know."""
        return bool(self._ears) and not self._recovering and all(ear.is_hearing for ear in self._ears.values())

    # What the connections tell

    def lost(self) -> None:
        """Notes that something may be missed."""
        self._was_deaf = True

    def begins(self, names: Collection[bytes]) -> None:
        """Waits for the confirmations of what was heard on the connection before."""
        self._recovering.update(names)
        for name in names:
            self._listeners[name].unheard()

    def confirmed(self, name: bytes, listener: Listener) -> None:
        """Tells the listener."""
        if not listener.confirmed.done():
            listener.confirmed.set_result(None)
        if listener.on_confirmed is not None:
            _call(listener.on_confirmed)
        self._is_back(name)

    def ended(self, name: bytes, listener: Listener) -> None:
        """Looks for the channel where its slot is now."""
        self._displace(name, listener)
        self._settle_soon()

    def hears(self) -> None:
        """Tells everybody, if that was the last that was missing."""
        if not self.is_hearing:
            return
        if not self._started.done():
            self._started.set_result(None)
            self._was_deaf = False
        if self._was_deaf:
            self._was_deaf = False
            for callback in self.heard_again:
                _call(callback)

    def _is_back(self, name: bytes) -> None:
        if name in self._recovering:
            self._recovering.discard(name)
            self.hears()

    # Where it is heard

    def _settle_soon(self) -> None:
        """Once in a turn, however many slots have moved in it."""
        if not self._is_settling:
            self._is_settling = True
            asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Has an ear at every server that serves something, and every channel heard where its slot is."""
        self._is_settling = False
        if self._is_closed:
            return
        homes = self._valkey.store.homes()
        for home in homes:
            if home not in self._ears:
                ear = Ear(self._valkey, home, self, self._listeners, canary_seconds=self._canary_seconds)
                self._ears[home] = ear
                ear.start(self._tasks)
        for name, listener in self._listeners.items():
            if listener.ear is not self._ear_of(name):
                if listener.ear is not None:
                    listener.ear.leave(name)
                self._displace(name, listener)
            if listener.ear is None:
                self._place(name, listener)
        for home in self._ears.keys() - set(homes):
            self._tasks.spawn("close a pub/sub connection", self._ears.pop(home).close())
        for ear in self._ears.values():
            ear.check_canary()
        self.hears()

    def _place(self, name: bytes, listener: Listener) -> None:
        listener.ear = self._ear_of(name)
        if listener.ear is not None:
            listener.ear.listen(name)

    def _displace(self, name: bytes, listener: Listener) -> None:
        """Takes a channel from where it was heard. Who is told of confirmations learns so what may be missed."""
        listener.ear = None
        listener.unheard()
        self._recovering.add(name)
        if listener.on_confirmed is None:
            self._was_deaf = True

    def _ear_of(self, name: bytes) -> Ear | None:
        home = self._valkey.store.home_of(name)
        return None if home is None else self._ears.get(home)


def _call(callback: Callable[[], None]) -> None:
    """A subscriber's failure is its own: the others are still told, and the connection stays."""
    try:
        callback()
    except Exception:
        _log.exception("a callback of the bus failed")
