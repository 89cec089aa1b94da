"""The supervisor of one ``serve``: owns the data dir and Valkey, the listening socket, and the workers on it.

It starts them, keeps them alive, and ends them in reverse. It serves nothing itself. Workers need more than a
second to load, so they begin before anything else, and this module imports nothing that is heavy.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from city_hall.children import Briefing, Child
from city_hall.data_dir import DataDir
from city_hall.instance_names import all_names, instance_names
from city_hall.listener import listen, local_url
from city_hall.refusals import StartRefused, StopFailed
from foundations.supervision import Tasks

if TYPE_CHECKING:
    from city_hall.residence import Residence
    from foundations.settings import Settings

READY_SECONDS = 60.0
GUIDES_SECONDS = 2.0
"""What the demo agents get to end what they are saying."""
MARGIN_SECONDS = 5.0
"""What a worker gets beyond what its drain takes at most."""

_log = logging.getLogger("smart_city.supervisor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What ``serve`` was asked for, beyond the settings; tests put other programs below it."""

    workers: int = 1
    valkey_port: int = 0
    has_demo: bool = True
    worker: Sequence[str] = (sys.executable, "-m", "city_hall", "worker")
    guides: Sequence[str] = (sys.executable, "-m", "city_hall", "guides")


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What can be told once the city is open. ``url`` is for programs on this machine."""

    url: str
    seconds: float
    has_guides: bool
    settings: Settings


class Supervisor:
    """Runs the platform until a signal; a second signal hurries."""

    def __init__(self, plan: Plan, read_settings: Callable[[], Settings], announce: Callable[[Opened], None]) -> None:
        self._plan = plan
        self._read_settings = read_settings
        self._announce = announce
        self._keeping = Tasks("supervisor")
        self._listener = socket.socket()
        self._workers: list[Child] = []
        self._guides: list[Child] = []
        self._names: dict[Child, str] = {}
        self._keepers: dict[Child, asyncio.Task[None]] = {}
        self._renewing: asyncio.Task[None] | None = None
        self._residence: Residence | None = None
        self._is_open = False
        self._is_hurried = False
        self._patience = MARGIN_SECONDS

    async def run(self) -> None:
        """Opens the city, keeps it, and closes it again.

        Whatever it raises (`refusal_of` has the words for people), what was started has been ended before.
        """
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._signals():
            opening = asyncio.ensure_future(self._open())
            try:
                await asyncio.wait({opening, self._over}, return_when=asyncio.FIRST_COMPLETED)
                if opening.done():
                    opening.result()
                await self._over
            finally:
                opening.cancel()
                await asyncio.wait({opening})
                ended_badly = await self._close()
        if ended_badly:
            raise StopFailed(f"Not ended in good order: {', '.join(ended_badly)}; the log says why.")

    async def _open(self) -> None:
        began = perf_counter()
        plan = self._plan
        self._workers += [self._start(f"worker {n}", plan.worker) for n in range(1, plan.workers + 1)]
        settings = await asyncio.to_thread(self._read_settings)  # meanwhile the loop starts the workers
        self._patience = patience_of(settings)
        if settings.valkey_url == "embedded":
            DataDir(settings.data_dir)  # refused before anything else is started
        self._listener = await listen(settings.host, settings.port)
        if settings.valkey_url == "embedded":
            await self._move_in(settings)
        self._settings = settings
        port = self._listener.getsockname()[1]
        self._names = dict(zip(self._workers, instance_names(settings.instance_id, port, plan.workers), strict=True))
        self._brief_workers()
        await self._until_ready()
        url, token = local_url(self._listener), self._token(settings)
        if plan.has_demo and token:
            self._guides.append(self._start("the demo agents", plan.guides))
            self._guides[0].brief(Briefing({"SMART_CITY_URL": url, "SMART_CITY_TOKEN": token}))
        elapsed = perf_counter() - began
        opened = Opened(url=url, seconds=elapsed, has_guides=bool(self._guides), settings=settings)
        self._is_open = True
        self._announce(opened)

    async def _close(self) -> list[str]:
        """In reverse: nobody new, the agents, the workers, at last what all of them used; who did not end well."""
        self._listener.close()
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.wait({self._renewing})
        await asyncio.gather(*(child.end(GUIDES_SECONDS) for child in self._guides))
        statuses = await asyncio.gather(*(child.end(self._patience) for child in self._workers))
        await self._keeping.close()
        if self._residence is not None:
            await self._residence.move_out()
        fine = {0, -signal.SIGTERM, -signal.SIGKILL if self._is_hurried else 0}  # SIGTERM ends one that still loads
        return [child.name for child, status in zip(self._workers, statuses, strict=True) if status not in fine]

    async def _move_in(self, settings: Settings) -> None:
        from city_hall.residence import Residence  # brings the Valkey driver

        def moved() -> None:
            """The workers know Valkey under its old URL only, so they are replaced."""
            self._brief_workers()
            for worker in self._workers:
                worker.replace()

        token = settings.operator_token.get_secret_value()
        port = self._plan.valkey_port
        self._residence = await Residence.move_in(settings.data_dir, valkey_port=port, token=token)
        self._residence.watch(moved)

    def _token(self, settings: Settings) -> str:
        """The operator's token: of the data dir, or with somebody else's Valkey the variable's; or none."""
        if self._residence is not None:
            return self._residence.operator_token
        return settings.operator_token.get_secret_value()

    def _brief_workers(self) -> None:
        for worker, name in self._names.items():
            self._brief(worker, name)

    def _brief(self, worker: Child, name: str) -> None:
        """Tells it what it cannot know from the environment that it inherits, and hands it the listener."""
        settings = self._settings
        told = {
            "SMART_CITY_HOST": settings.host,
            "SMART_CITY_PORT": str(self._listener.getsockname()[1]),
            "SMART_CITY_DATA_DIR": str(settings.data_dir.absolute()),
            "SMART_CITY_VALKEY_URL": self._residence.valkey_url if self._residence else settings.valkey_url,
            "SMART_CITY_OPERATOR_TOKEN": self._token(settings),
            "SMART_CITY_INSTANCE_ID": name,
        }
        worker.brief(Briefing(told, (self._listener.fileno(),), settings.hang_seconds))

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                for worker in self._workers:
                    await worker.ready.wait()
        except TimeoutError:
            slow = ", ".join(worker.name for worker in self._workers if not worker.ready.is_set())
            raise StartRefused(f"Not ready within {READY_SECONDS:.0f} s: {slow}.") from None

    def _start(self, name: str, command: Sequence[str]) -> Child:
        child = Child(name, command)
        self._keepers[child] = self._keeping.spawn(name, self._keep(child))
        return child

    # Renewal

    async def _renew(self) -> None:
        """Replaces the workers one after the other: each successor is ready before its predecessor drains.

        There is one name more than there are workers, so that both live side by side.
        """
        port = self._listener.getsockname()[1]
        names = all_names(self._settings.instance_id, port, self._plan.workers)
        for predecessor in list(self._workers):
            name = next(name for name in names if name not in self._names.values())
            if not await self._succeed(predecessor, name):
                return
        _log.info("All workers are replaced")

    async def _succeed(self, predecessor: Child, name: str) -> bool:
        successor = self._start(predecessor.name, self._plan.worker)
        self._names[successor] = name
        self._brief(successor, name)
        waiting = asyncio.ensure_future(successor.ready.wait())
        try:
            await asyncio.wait(
                {waiting, self._keepers[successor]}, timeout=READY_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            waiting.cancel()
            if not successor.ready.is_set():
                await successor.end(0)
                self._forget(successor)
        if not successor.ready.is_set():
            _log.error("%s stays as it is: its successor did not get ready", predecessor.name)
            return False
        self._workers.append(successor)
        if await predecessor.end(self._patience):
            _log.error("%s did not end in good order", predecessor.name)
        self._workers.remove(predecessor)
        self._forget(predecessor)
        return True

    def _forget(self, child: Child) -> None:
        del self._names[child], self._keepers[child]

    async def _keep(self, child: Child) -> None:
        """A worker that must not be started again ends everything; demo agents may be missing."""
        try:
            await child.keep()
        except StartRefused as refusal:
            if child not in self._workers:
                _log.error("%s", refusal)
            elif not self._over.done():
                self._over.set_exception(refusal)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, ``kill`` and a closed terminal end it in good order; ``nohup`` holds against the last.

        A shell starts its background jobs deaf to Ctrl-C; they are to hear ``kill -INT`` all the same. Where there
        is no terminal that could close, SIGHUP asks for new workers, as daemons have it.
        """
        loop = asyncio.get_running_loop()
        heard = {signal.SIGINT: self._asked_to_stop, signal.SIGTERM: self._asked_to_stop}
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            heard[signal.SIGHUP] = self._asked_to_stop if has_terminal() else self._asked_to_renew
        for number, action in heard.items():
            loop.add_signal_handler(number, action)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    def _asked_to_renew(self) -> None:
        if not self._is_open or self._over.done() or (self._renewing is not None and not self._renewing.done()):
            return
        _log.info("The workers are replaced, one after the other")
        self._renewing = self._keeping.spawn("renew the workers", self._renew())

    def _asked_to_stop(self) -> None:
        if not self._over.done():
            _log.info("The city closes; a second signal hurries")
            self._over.set_result(None)
            return
        self._is_hurried = True
        for child in (*self._guides, *self._workers):
            child.kill()


def patience_of(settings: Settings) -> float:
    """How long a worker may take to end: its notice, its waves, the closing of the last, and the rest twice.

    Requests under way have the rest once, and the logs that are flushed after them once more; at last come the spans.
    """
    drain = settings.drain_notice_seconds + settings.drain_seconds + settings.close_seconds
    return drain + 2 * settings.stop_seconds + settings.traces_flush_seconds + MARGIN_SECONDS


def has_terminal() -> bool:
    """Whether this process belongs to a terminal, whose end it would be told by SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
