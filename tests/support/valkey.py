"""Real Valkey servers for tests: started in a temporary directory, hung, killed and restarted at will.

The program is found as the platform finds it. Whoever starts a server stops it; `leaks` watches that.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import pytest
import redis.asyncio

from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from foundations.valkey.launch import find_server
from tests.support.mortal import ending_with_us
from tests.support.ports import free_port

READY_SECONDS = 30.0


class ValkeyServer:
    """One server on a unix socket and, with ``tcp``, on a free loopback port; ``flags`` win over the rest.

    ``ValkeyServer(maxmemory_policy="allkeys-lru")`` passes ``--maxmemory-policy allkeys-lru``. What it stores
    stays over `kill` and `restart`, with the platform's own durability unless told otherwise.
    """

    def __init__(self, *, tcp: bool = False, **flags: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="valkey-"))
        self.socket = self.directory / "valkey.sock"
        self.port = free_port() if tcp else 0
        self.url = f"redis://127.0.0.1:{self.port}" if tcp else f"unix://{self.socket}"
        self._flags = {
            "port": str(self.port), "bind": "127.0.0.1", "unixsocket": str(self.socket),
            "dir": str(self.directory), "logfile": str(self.directory / "valkey.log"), "save": "",
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
            "set-proc-title": "no",  # a title is written over the environment, where `leaks` looks
        } | {name.replace("_", "-"): value for name, value in flags.items()}  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> ValkeyServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def is_running(self) -> bool:
        """Whether it was started and not killed; one that hangs runs."""
        return self._process is not None

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> ValkeyServer:
        """Starts it and waits until it answers."""
        words = [word for name, value in self._flags.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen([find_server(), *words], stdin=subprocess.DEVNULL, preexec_fn=ending_with_us())
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"Valkey did not answer: {self.log()}")
        return self

    def stop(self) -> None:
        """Ends it in good order and removes what it stored."""
        if self._process is not None:
            self.resume()
            self._process.terminate()
            try:
                self._process.wait(READY_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        self._process = None
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL; what it stored stays for `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(READY_SECONDS)
            self._process = None

    def shut_down(self) -> None:
        """SIGTERM; what it stored stays for `start`."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(READY_SECONDS)
            self._process = None

    def restart(self) -> None:
        """SIGKILL and start on the same data, socket and port."""
        self.kill()
        self.start()

    def hang(self) -> None:
        """SIGSTOP: it takes connections and answers nothing, until `resume`."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def log(self) -> str:
        """What it has written to its log."""
        try:
            return (self.directory / "valkey.log").read_text()
        except OSError as error:
            return str(error)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.settimeout(0.5)
            client.connect(str(self.socket))
            client.sendall(b"PING\r\n")
            return client.recv(64).startswith((b"+PONG", b"-NOAUTH"))
        return False


@asynccontextmanager
async def plainly(valkey: Valkey) -> AsyncIterator[redis.asyncio.Redis]:
    """redis-py's own client of the same server, for what needs a connection to itself."""
    async with redis.asyncio.Redis.from_url(valkey.url, protocol=3) as client:
        yield client


async def keys_in(valkey: Valkey, pattern: str = "*") -> list[bytes]:
    """All keys that look like this behind the client's prefix, wherever they lie."""
    replies = await valkey.store.ask_each(("KEYS", valkey.key(pattern)))
    return [key for found in replies for key in found]


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[ValkeyServer]:
    """One server for all tests of a session. Who hangs, fills or kills a server starts an own one."""
    with ValkeyServer(appendfsync="no") as server:
        yield server


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--cluster", action="store_true", help="the fixture `valkey` is a cluster of three nodes")


@pytest.fixture
async def valkey(request: pytest.FixtureRequest) -> AsyncIterator[Valkey]:
    """A client on that server, or with ``--cluster`` on a cluster, whose keys no other test shares.

    The two fixed keys have no prefix.
    """
    store = request.getfixturevalue("valkey_cluster" if request.config.getoption("--cluster") else "valkey_server")
    connected = await Valkey.connect(store.url, prefix=f"test-{secrets.token_hex(4)}:", timeout=15)
    yield connected
    await connected.close()


@pytest.fixture
async def tasks() -> AsyncIterator[Tasks]:
    """An owner for background tasks, closed at the end of the test."""
    owner = Tasks("test")
    yield owner
    await owner.close()
