"""A name that one living process holds: taken by compare-and-set, renewed, lost when renewing fails too long.

It says who holds it and for how long; what must happen when it is lost is decided by whoever hears of it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial

from foundations.errors import CityError
from foundations.processes import Process, machine
from foundations.supervision import Tasks
from foundations.ticks import tick
from foundations.valkey.client import Valkey
from foundations.valkey.scripts import Script

_log = logging.getLogger("smart_city.lease")

RENEWALS = 5
"""How often a lease is renewed while it would last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who holds a lease. Pids are counted in ``machine``; ``started`` tells a process from a later one."""

    host: str
    pid: int
    started: str
    machine: str

    @classmethod
    def this(cls) -> Owner:
        """The process that asks."""
        process = Process.this()
        return cls(host=socket.gethostname(), pid=process.pid, started=process.started, machine=machine())

    @classmethod
    def parse(cls, text: bytes) -> Owner:
        """Reads a stored record; of one that this version cannot read, only that it is somebody else's."""
        try:
            stored = json.loads(text)
            return cls(
                host=str(stored["host"]), pid=int(stored["pid"]),
                started=str(stored["started"]), machine=str(stored["machine"]),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return cls(host="unknown", pid=0, started="", machine="")

    def is_dead_as_seen_from(self, other: Owner) -> bool:
        """Whether it certainly is no more. Of another machine's processes nothing is certain."""
        return self.machine == other.machine and not Process(self.pid, self.started).is_alive


class Held(Exception):
    """A living process holds the lease."""

    def __init__(self, name: str, owner: Owner) -> None:
        super().__init__(name, owner)
        self.name = name
        self.owner = owner

    def __str__(self) -> str:
        return f"{self.name!r} is held by process {self.owner.pid} on host {self.owner.host}, which is alive"


@dataclass(frozen=True, slots=True)
class _Holder:
    token: bytes
    owner: Owner
    seconds_left: float


class Lease:
    """A name held for ``seconds`` in Valkey's clock and renewed five times in that; kept until `release`.

    ``lost`` is called when it was not renewed in time or somebody else took it. It is then tried for again at
    every renewal, and ``regained`` called when it is back; between the two, others may have been its holder.
    ``taken`` is called with the new holder when somebody else has it.
    """

    def __init__(self, valkey: Valkey, name: str, *, seconds: float, tasks: Tasks) -> None:
        self.name = name
        self.seconds = seconds
        self.lost: list[Callable[[], None]] = []
        self.regained: list[Callable[[], None]] = []
        self.taken: list[Callable[[Owner], None]] = []
        self._valkey = valkey
        self._tasks = tasks
        self._key = valkey.key(f"lease:{{{name}}}")
        self._token = secrets.token_hex(16)
        self._owner = Owner.this()
        self._scripts = {verb: Script.read("foundations", f"{verb}_lease") for verb in ("acquire", "renew", "release")}
        self._held_until = 0.0
        self._was_held = False
        self._lapse: asyncio.TimerHandle | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def is_held(self) -> bool:
        """Whether nobody else can hold it. It errs on the safe side: our clock runs out before Valkey's."""
        return time.monotonic() < self._held_until

    async def acquire(self) -> None:
        """Takes the lease and keeps it.

        A holder that died on this machine is replaced at once; one elsewhere has until its lease lapses to
        show that it lives, by renewing.

        Raises:
            Held: a living process has it.
            Unavailable: Valkey is away.
        """
        patience = time.monotonic() + self.seconds + self._pause
        before: _Holder | None = None
        dead = b""
        while (holder := await self._take(dead)) is not None:
            if holder.owner.is_dead_as_seen_from(self._owner):
                dead = holder.token
                continue
            here = holder.owner.machine == self._owner.machine
            if here or self._has_renewed(before, holder) or time.monotonic() > patience:
                raise Held(self.name, holder.owner)
            before = holder
            await asyncio.sleep(self._pause)
        self._keeper = self._tasks.start(f"lease {self.name}", self._keep)

    async def release(self) -> None:
        """Gives the lease back. With Valkey away it lapses by itself, and that is no error."""
        if self._keeper is None:
            return
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        self._hold_until(0.0)
        try:
            await self._valkey.run(self._scripts["release"], [self._key], [self._token])
        except CityError as error:
            _log.warning("the lease %r was not given back and lapses by itself: %s", self.name, error)

    @property
    def _pause(self) -> float:
        return self.seconds / RENEWALS

    @property
    def _milliseconds(self) -> int:
        return int(self.seconds * 1000)

    def _has_renewed(self, before: _Holder | None, now: _Holder) -> bool:
        """Whether the holder has prolonged its lease between two looks that lie one pause apart."""
        if before is None:
            return False
        return before.token != now.token or now.seconds_left > before.seconds_left - self._pause / 2

    async def _take(self, dead: bytes = b"") -> _Holder | None:
        """Takes the lease; the holder if there is a living one."""
        asked = time.monotonic()
        record = json.dumps(asdict(self._owner))
        reply = await self._valkey.run(
            self._scripts["acquire"], [self._key], [self._token, record, self._milliseconds, dead]
        )
        if reply:
            return _Holder(reply[0], Owner.parse(reply[1]), reply[2] / 1000)
        self._hold_until(asked + self.seconds)
        return None

    async def _keep(self) -> None:
        new_holder: Owner | None = None
        while True:
            await tick(self._pause)
            before = new_holder
            try:
                new_holder = await self._renew()
                if new_holder is not None and before is None:
                    self._lose_to(new_holder)
            except CityError as error:
                _log.warning("the lease %r could not be renewed: %s", self.name, error)

    def _lose_to(self, holder: Owner) -> None:
        _log.error("the lease %r was taken by process %d on host %s", self.name, holder.pid, holder.host)
        self._hold_until(0.0)
        self._call([partial(callback, holder) for callback in self.taken])

    async def _renew(self) -> Owner | None:
        """Prolongs the lease, or takes one that lapsed again; who else has it, if somebody has."""
        asked = time.monotonic()
        if await self._valkey.run(self._scripts["renew"], [self._key], [self._token, self._milliseconds]):
            self._hold_until(asked + self.seconds)
            return None
        holder = await self._take()
        return None if holder is None else holder.owner

    def _hold_until(self, moment: float) -> None:
        self._held_until = moment
        if self._lapse is not None:
            self._lapse.cancel()
        seconds = moment - time.monotonic()
        self._lapse = asyncio.get_running_loop().call_later(seconds, self._lapsed) if seconds > 0 else None
        self._tell()

    def _lapsed(self) -> None:
        self._held_until = 0.0  # a timer may fire a little early, and is believed
        self._tell()

    def _tell(self) -> None:
        """Tells the listeners about a change, once for each."""
        if (held := self.is_held) == self._was_held:
            return
        self._was_held = held
        if self._keeper is None:
            return  # taken for the first time, or given back
        _log.warning("the lease %r %s", self.name, "is held again" if held else "was lost")
        self._call(self.regained if held else self.lost)

    def _call(self, callbacks: Sequence[Callable[[], None]]) -> None:
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log.exception("a callback of the lease %r failed", self.name)
