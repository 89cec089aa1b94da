"""What the data dir says of its server: a lock that the server process holds, and a small record beside it.

The kernel frees the lock at the server's end, however that comes; the record only says where to find it.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from foundations.processes import Process

NAME = "server.json"
LOCK = "server.lock"
FORMAT = 1


class NewerRecord(Exception):
    """The record was written by a newer version of the platform."""


@dataclass(frozen=True, slots=True)
class Record:
    """Which process serves, and on which socket."""

    process: Process
    socket: str


def lock(home: Path) -> int | None:
    """The open, held lock file, or ``None`` when a server (or somebody starting one) holds it."""
    file = os.open(home / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def read(home: Path) -> Record | None:
    """The record, if there is one that can be read.

    Raises:
        NewerRecord: it has a newer format.
    """
    try:
        stored = json.loads((home / NAME).read_bytes())
        newest = int(stored["format"])
        if newest > FORMAT:
            raise NewerRecord(
                f"{home / NAME} was written by a newer version of the platform (format {newest}, known here "
                f"up to {FORMAT}): run that version, or name another data dir."
            )
        process = Process(int(stored["pid"]), str(stored["started"]))
        return Record(process, str(stored["socket"]))
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def write(home: Path, record: Record) -> None:
    """Replaces the record in one step, so that nobody reads half of it."""
    new = home / f"{NAME}.new"
    stored = {"format": FORMAT, **asdict(record.process), "socket": record.socket}
    new.write_text(json.dumps(stored) + "\n")
    new.replace(home / NAME)


def remove(home: Path) -> None:
    """Forgets the server."""
    (home / NAME).unlink(missing_ok=True)
