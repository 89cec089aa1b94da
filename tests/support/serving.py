"""A platform in processes of its own, as ``smart-city serve`` starts it, to be signalled, killed, restarted.

It waits and looks only; what is started is told by the command. Everything it started is ended on leaving.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2 as httpx

from tests.support.mortal import ending_with_us
from tests.support.waiting import PATIENCE

SERVE = (sys.executable, "-m", "city_hall", "serve")
TINY_SERVE = (sys.executable, "-P", str(Path(__file__).with_name("tiny_serve.py")))
"""The real supervisor over `tiny_city` workers."""
OPEN_SECONDS = 60.0
END_SECONDS = 30.0
_ADDRESS = re.compile(r"http://[\w.:\[\]-]+:\d+")


def wait_until(condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
    """Looks until ``condition`` holds; after ``seconds`` fails, saying what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)  # between two looks at a condition with a deadline


class Serving:
    """One ``serve`` on a free port, from its start to its end. ``settings`` are variables without prefix."""

    def __init__(
        self,
        data_dir: Path,
        *options: str,
        command: Sequence[str] = SERVE,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SMART_CITY_")}
        run = {name: value for name, value in os.environ.items() if name.startswith("SMART_CITY_TEST_")}
        wanted = {"PORT": "0", "DATA_DIR": str(data_dir), **(settings or {})}
        given = {f"SMART_CITY_{name}": value for name, value in wanted.items()}
        self._log = data_dir.with_name(f"{data_dir.name}-{time.monotonic_ns()}.log")
        self._began = time.monotonic()
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, preexec_fn=ending_with_us(),
                env=inherited | run | given,
            )  # fmt: skip
        self.data_dir = data_dir
        self.url = ""
        self.seconds = 0.0

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"it did not end: {self.said}") from None

    @property
    def ws_url(self) -> str:
        """Where sockets go, once it is open."""
        return "ws" + self.url.removeprefix("http") + "/ws"

    @property
    def said(self) -> str:
        """Everything it has written to its terminal."""
        return self._log.read_text(errors="replace")

    @property
    def token(self) -> str:
        """The operator's token."""
        return (self.data_dir / "operator-token").read_text().strip()

    @property
    def valkey_pid(self) -> int:
        """The process that has this data dir's Valkey as its working program; 0 when there is none."""
        home = str(self.data_dir / "valkey").encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"valkey-server" in words[0] and home in words:
                return int(folder.name)
        return 0

    def opened(self) -> Serving:
        """Waits until it says where it is open."""

        def is_open() -> bool:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said}"
            found = _ADDRESS.search(self.said)
            if found:
                self.url, self.seconds = found.group(), time.monotonic() - self._began
            return bool(found)

        wait_until(is_open, "open", OPEN_SECONDS)
        return self

    def get(self, path: str = "/") -> dict[str, Any]:
        """Asks over a connection of its own, so that any worker may answer."""
        answer: dict[str, Any] = httpx.get(self.url + path, timeout=END_SECONDS, trust_env=False).json()
        return answer

    def signal(self, number: signal.Signals) -> None:
        """To the supervisor alone."""
        self.process.send_signal(number)

    def ended(self, seconds: float = END_SECONDS) -> int:
        """Waits for its end; the exit status."""
        return self.process.wait(seconds)
