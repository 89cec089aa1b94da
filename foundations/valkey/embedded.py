"""A Valkey server of our own: found, started on the data dir, adopted when it still lives, stopped when told.

It is production's server with our flags, and it outlives whoever started it. A lock that the server process
itself holds tells whether one lives on the data dir; who may stop it, and when, is not decided here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from foundations.processes import Process
from foundations.valkey import record
from foundations.valkey.launch import LOG, NoServer, find_server, launch, socket_path
from foundations.valkey.record import NewerRecord, Record

ANSWER_SECONDS = 2.0
START_SECONDS = 10.0
LOAD_SECONDS = 600.0
"""How long a server may read its log at start, as long as it says that it does."""
STOP_SECONDS = 10.0


class UnusableDataDir(Exception):
    """The data dir cannot be used: not writable, or written by a newer version of the platform."""


class ServerFailed(Exception):
    """The server did not start; the sentence carries its own last words."""


class ServerHung(Exception):
    """A server lives on this data dir and does not answer; the sentence names its pid."""


class EmbeddedServer:
    """A running server on a data dir: where it is, which process it is, and whether it was there before."""

    def __init__(self, home: Path, found: Record, *, adopted: bool) -> None:
        self.home = home
        self.pid = found.process.pid
        self.url = f"unix://{found.socket}"
        self.adopted = adopted
        self._record = found

    @classmethod
    async def start_or_adopt(cls, data_dir: Path, *, port: int = 0) -> EmbeddedServer:
        """Starts a server on ``data_dir/valkey``, or takes over the one that lives there.

        With a ``port`` that one is open on loopback, too, also on a server that was adopted.

        Raises:
            NoServer: there is no server program.
            UnusableDataDir: not writable, or from a newer version.
            ServerFailed: it ended at once (a taken port, a log it cannot read).
            ServerHung: one lives there and does not answer.
        """
        home = _prepared(data_dir)
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            if (lock := record.lock(home)) is not None:
                try:
                    return await cls._start(home, port, lock)
                finally:
                    os.close(lock)
            if (living := _living(home)) is not None and (server := await cls._adopt(home, living, port)):
                return server
            # Somebody is about to write the record, or the last threads of a killed server are about to end.
            if time.monotonic() > deadline:
                raise ServerHung(
                    f"Something holds {home / record.LOCK}, and {record.NAME} names no living process: end "
                    "the valkey-server that runs there, then start again."
                )
            await asyncio.sleep(0.005)

    @classmethod
    async def _start(cls, home: Path, port: int, lock: int) -> EmbeddedServer:
        """The lock goes along into the new process and is free again when that has ended."""
        program, socket = find_server(), _same_socket(home) or socket_path()
        try:
            pid = launch(program, home=home, socket=socket, port=port, lock=lock)
        except NoServer:
            socket.parent.rmdir()
            raise
        server = cls(home, Record(Process.of(pid), str(socket)), adopted=False)
        record.write(home, server._record)
        try:
            await server._ready()
        except BaseException:
            await server._kill()
            raise
        return server

    @classmethod
    async def _adopt(cls, home: Path, living: Record, port: int) -> EmbeddedServer | None:
        """Takes over a living server; ``None`` when it was just about to end."""
        server = cls(home, living, adopted=True)
        try:
            await server._ready()
        except ServerFailed:
            return None
        await server._open_port(port)
        return server

    async def stop(self) -> None:
        """Shuts the server down and waits until its process is gone; one that does not obey is killed."""
        self._signal(signal.SIGTERM)
        if not await self._gone(STOP_SECONDS):
            await self._kill()
        elif _read(self.home) == self._record:
            _forget(self.home)

    @property
    def is_alive(self) -> bool:
        """Whether the process lives. A hung one does."""
        _reap(self.pid)
        return self._record.process.is_alive

    async def ended(self) -> None:
        """Waits until the process lives no more."""
        await self._record.process.ended()
        _reap(self.pid)

    async def _ready(self) -> None:
        """Waits until the server answers, and makes sure that it is the one of this data dir."""
        clock = time.monotonic
        begun = answered = clock()
        patience = ANSWER_SECONDS if self.adopted else START_SECONDS
        while clock() - answered < patience and clock() - begun < LOAD_SECONDS:
            if not self.is_alive:
                raise ServerFailed(f"The Valkey server ended at once: {_last_words(self.home)}")
            try:
                await self._ask("PING")  # refused while loading, which CONFIG is not
                kept_in = (await self._ask("CONFIG", "GET", "dir"))[b"dir"]
            except exceptions.BusyLoadingError:
                answered = clock()
            except (exceptions.ConnectionError, exceptions.TimeoutError, OSError):
                pass
            else:
                return self._check_home(Path(os.fsdecode(kept_in)))
            await asyncio.sleep(0.005)
        raise ServerHung(
            f"The Valkey server of {self.home} (process {self.pid}) lives but has not answered for "
            f"{clock() - answered:.0f} s: end that process (kill -9 {self.pid}), then start again; "
            "nothing that was acknowledged is lost."
        )

    def _check_home(self, kept_in: Path) -> None:
        if kept_in.resolve() != self.home.resolve():
            raise ServerHung(
                f"The server at {self._record.socket} (process {self.pid}) keeps its data in {kept_in} "
                f"and not in {self.home}: end that process, then start again."
            )

    async def _open_port(self, port: int) -> None:
        """Opens the loopback port on a server that was started without, or with another."""
        if port == 0 or int((await self._ask("CONFIG", "GET", "port"))[b"port"]) == port:
            return
        try:
            await self._ask("CONFIG", "SET", "port", str(port))
        except exceptions.ResponseError as error:
            raise ServerFailed(f"The Valkey server cannot listen on port {port}: {error}") from error

    async def _ask(self, *command: str) -> Any:
        client = redis.asyncio.Redis(
            unix_socket_path=self._record.socket, protocol=3, retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS, driver_info=None,
        )  # fmt: skip
        try:
            send: Callable[..., Awaitable[Any]] = client.execute_command
            return await send(*command)
        finally:
            await client.aclose()

    async def _kill(self) -> None:
        self._signal(signal.SIGKILL)
        await self._gone(STOP_SECONDS)
        _forget(self.home)

    def _signal(self, number: signal.Signals) -> None:
        if self.is_alive:
            os.kill(self.pid, number)

    async def _gone(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.is_alive:
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True


def _prepared(data_dir: Path) -> Path:
    """The server's own directory, made if need be, and tried."""
    home = data_dir.absolute() / "valkey"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        raise UnusableDataDir(
            f"The data dir {data_dir} cannot be written ({error.strerror}): make it writable, "
            "or name another with --data-dir or SMART_CITY_DATA_DIR."
        ) from error
    _read(home)
    return home


def _read(home: Path) -> Record | None:
    try:
        return record.read(home)
    except NewerRecord as error:
        raise UnusableDataDir(str(error)) from error


def _living(home: Path) -> Record | None:
    """The record, if the process that it names lives."""
    found = _read(home)
    return found if found is not None and found.process.is_alive else None


def _forget(home: Path) -> None:
    """Removes what a server that has ended left behind: its record and its private directory."""
    if (left := _read(home)) is None:
        return
    run_dir = Path(left.socket).parent
    if run_dir.name.startswith("smart-city-"):
        shutil.rmtree(run_dir, ignore_errors=True)
    record.remove(home)


def _same_socket(home: Path) -> Path | None:
    """The path of a server that has died here, so that whoever used it finds its successor there.

    One that lives although nobody holds the lock lives elsewhere: this is a copy of its data dir.
    """
    left = _read(home)
    if left is None or left.process.is_alive:
        return None
    socket = Path(left.socket)
    try:
        run_dir = socket.parent.lstat()
    except OSError:
        return None
    if run_dir.st_uid != os.getuid() or stat.S_IMODE(run_dir.st_mode) != 0o700:
        return None
    socket.unlink(missing_ok=True)
    return socket


def _last_words(home: Path) -> str:
    """What the server's log ends with: its warnings if there are any."""
    log = home / LOG
    lines = log.read_text(errors="replace").splitlines()[-20:] if log.exists() else []
    warnings = [line.partition(" # ")[2] for line in lines if " # " in line]
    return " / ".join(warnings[-3:] or lines[-1:]) or f"it said nothing in {log}"


def _reap(pid: int) -> None:
    """Takes leave of a child that has ended; an adopted server is nobody's child here."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
