"""TCP ports for servers of tests: each is one process's, over every kill and start of what listens there.

The kernel gives a port found by binding to 0 to whoever asks next, as soon as nobody listens on it: a server that is
killed and started again may then meet another test's in its place, and whoever kept its address talks to that one.
"""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from functools import cache
from pathlib import Path

FIRST, LAST = 15000, 32000
"""Below what the kernel gives to those who ask for any port, Linux's `ip_local_port_range`."""
TRIES = 1000
_given: set[int] = set()


def free_port() -> int:
    """A port on loopback that nobody has, kept for this process until it ends."""
    for port in random.choices(range(FIRST, LAST), k=TRIES):  # noqa: S311 - no secret
        if port not in _given and _is_ours(port) and _is_free(port):
            _given.add(port)
            return port
    raise AssertionError(f"of {TRIES} ports from {FIRST} to {LAST} all are taken")


def _is_ours(port: int) -> bool:
    """Whether no other process of tests has it: byte N of a file is locked by whoever has port N."""
    try:
        fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


@cache
def _locks() -> int:
    """Open as long as the process lives, since closing it would give everything back."""
    path = Path(tempfile.gettempdir()) / f"smart-city-test-ports-{os.getuid()}"
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
