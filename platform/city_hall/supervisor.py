"""The supervisor of one ``serve``: owns the data dir and Valkey, the listening socket, and the workers on it.

It starts them, keeps them alive, and ends them in reverse. It serves nothing itself, and imports nothing
heavy before the workers have begun to load.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from city_hall.children import Child
from city_hall.data_dir import DataDir
from city_hall.listener import listen, local_url
from city_hall.refusals import StartRefused, refusal_of
from foundations.settings import PREFIX, Settings
from foundations.supervision import Tasks

if TYPE_CHECKING:
    from city_hall.residence import Residence

READY_SECONDS = 60.0
GUIDES_SECONDS = 2.0
"""What the demo agents get to end what they are saying."""
MARGIN_SECONDS = 5.0
"""What a worker gets beyond its drain."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

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


class Supervisor:
    """Runs the platform until a signal; a second signal hurries."""

    def __init__(self, settings: Settings, plan: Plan, announce: Callable[[Opened], None]) -> None:
        self._settings = settings
        self._plan = plan
        self._announce = announce
        self._keeping = Tasks("supervisor")
        self._listener = socket.socket()
        self._workers: list[Child] = []
        self._guides: list[Child] = []
        self._residence: Residence | None = None
        self._token = settings.operator_token.get_secret_value()
        self._valkey_url = settings.valkey_url

    async def run(self) -> None:
        """Opens the city, keeps it, and closes it again.

        Raises:
            StartRefused: it cannot be opened like this; what was started has been ended.
        """
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._signals():
            opening = asyncio.ensure_future(self._open())
            try:
                await asyncio.wait({opening, self._over}, return_when=asyncio.FIRST_COMPLETED)
                if opening.done():
                    opening.result()
                await self._over
            except Exception as error:
                raise refusal_of(error) or error from None
            finally:
                opening.cancel()
                await asyncio.wait({opening})
                await self._close()

    async def _open(self) -> None:
        began = perf_counter()
        settings, plan = self._settings, self._plan
        is_at_home = settings.valkey_url == "embedded"
        if is_at_home:
            DataDir(settings.data_dir)  # refused before anything is started
        self._listener = await listen(settings.host, settings.port)
        url, port = local_url(self._listener), self._listener.getsockname()[1]
        for name in instance_names(settings.instance_id, port, plan.workers):
            self._workers.append(self._start_worker(name))
        if is_at_home:
            await self._move_in()
        self._brief_workers()
        await self._until_ready()
        if plan.has_demo and self._token:
            self._guides.append(self._start_guides(url))
        elapsed = perf_counter() - began
        self._announce(Opened(url=url, seconds=elapsed, has_guides=bool(self._guides)))

    async def _close(self) -> None:
        """In reverse: nobody new, the agents, the workers, at last what all of them used."""
        self._listener.close()
        await asyncio.gather(*(child.end(GUIDES_SECONDS) for child in self._guides))
        patience = self._settings.drain_seconds + MARGIN_SECONDS
        await asyncio.gather(*(child.end(patience) for child in self._workers))
        await self._keeping.close()
        if self._residence is not None:
            await self._residence.move_out()

    async def _move_in(self) -> None:
        from city_hall.residence import Residence  # brings the Valkey driver, while the workers load

        self._residence = await Residence.move_in(
            self._settings.data_dir, valkey_port=self._plan.valkey_port, token=self._token
        )
        self._token = self._residence.operator_token
        self._valkey_url = self._residence.valkey_url
        self._residence.watch(self._valkey_moved)

    def _valkey_moved(self) -> None:
        """The workers know it under its old URL only, so they are replaced."""
        if self._residence is not None:
            self._valkey_url = self._residence.valkey_url
        self._brief_workers()
        for worker in self._workers:
            worker.replace()

    def _start_worker(self, name: str) -> Child:
        """It loads its modules already, and is briefed when what it needs is there."""
        listener = self._listener.fileno()
        worker = Child(name, (*self._plan.worker, str(listener)), files=(listener,))
        self._keeping.spawn(name, self._keep_worker(worker))
        return worker

    async def _keep_worker(self, worker: Child) -> None:
        """One that must not be started again ends everything."""
        try:
            await worker.keep()
        except StartRefused as refusal:
            if not self._over.done():
                self._over.set_exception(refusal)

    def _brief_workers(self) -> None:
        """Tells each what it cannot know from the environment that it inherits."""
        told: Mapping[str, object] = {
            "HOST": self._settings.host,
            "PORT": self._listener.getsockname()[1],
            "DATA_DIR": self._settings.data_dir.absolute(),
            "VALKEY_URL": self._valkey_url,
            "OPERATOR_TOKEN": self._token,
        }
        for worker in self._workers:
            named = {**told, "INSTANCE_ID": worker.name}
            worker.brief({PREFIX + name: str(value) for name, value in named.items()})

    async def _until_ready(self) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                for worker in self._workers:
                    await worker.ready.wait()
        except TimeoutError:
            slow = ", ".join(worker.name for worker in self._workers if not worker.ready.is_set())
            raise StartRefused(f"Not ready within {READY_SECONDS:.0f} s: {slow}.") from None

    def _start_guides(self, url: str) -> Child:
        guides = Child("the demo agents", self._plan.guides)
        guides.brief({PREFIX + "URL": url, PREFIX + "TOKEN": self._token})
        self._keeping.spawn(guides.name, guides.keep())
        return guides

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, ``kill`` and a closed terminal end it in good order; ``nohup`` holds against the last."""
        loop = asyncio.get_running_loop()
        heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in heard:
            loop.add_signal_handler(number, self._asked_to_stop)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)

    def _asked_to_stop(self) -> None:
        if not self._over.done():
            _log.info("The city closes; a second signal hurries")
            self._over.set_result(None)
            return
        for child in (*self._guides, *self._workers):
            child.kill()


def instance_names(name: str, port: int, workers: int) -> list[str]:
    """The instances' names: one worker's is ``name`` itself; several get a number, as do unnamed ones."""
    if name and workers == 1:
        return [name]
    prefix = name or f"{re.sub(r'[^A-Za-z0-9._-]', '-', socket.gethostname())}-{port}"
    return [f"{prefix}-{number}" for number in range(1, workers + 1)]
