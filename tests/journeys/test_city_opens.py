"""The city opens, is used from a terminal, is killed and restarted, and is closed: over real processes.

One worker and two tell the same stories.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from foundations.processes import Process
from tests.support.serving import Serving, wait_until

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "city_hall")

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def workers(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "--workers", str(request.param)


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "city"


def ask(city: Serving, *words: str, status: int = 0) -> str:
    """Runs ``smart-city WORDS`` as the operator; what it printed."""
    command = [*COMMAND, *words, "--url", city.url, "--data-dir", str(city.data_dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, f"{words} exited with {done.returncode}: {done.stderr}"
    return done.stdout


def publish(city: Serving, text: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(ask(city, "publish", "guide", json.dumps({"message": text})))
    return answer


def history(city: Serving) -> list[dict[str, Any]]:
    arguments = json.dumps({"channel": "guide", "since": "0", "limit": 100})
    found: list[dict[str, Any]] = json.loads(ask(city, "call", "post_office.get_channel_history", arguments))[
        "publications"
    ]
    return found


class Listener:
    """A ``smart-city listen`` in a process of its own."""

    def __init__(self, out: Path, process: subprocess.Popen[bytes]) -> None:
        self._out = out
        self.process = process

    @property
    def heard(self) -> list[dict[str, Any]]:
        """Every whole line that it has printed."""
        return [json.loads(line) for line in self._out.read_bytes().split(b"\n")[:-1]]

    def waits_for(self, text: str) -> None:
        wait_until(lambda: any(said["payload"]["message"] == text for said in self.heard), f"{text!r} is heard", 40)


@contextmanager
def listening(city: Serving, *options: str) -> Iterator[Listener]:
    """Listens to the guide's channel; yields once it is subscribed."""
    out, notices = (city.data_dir.with_name(f"{name}-{os.urandom(4).hex()}") for name in ("heard", "notices"))
    command = [*COMMAND, "listen", "guide", "--url", city.url, "--data-dir", str(city.data_dir), *options]
    with out.open("wb") as stdout, notices.open("wb") as stderr:
        process = subprocess.Popen(command, stdout=stdout, stderr=stderr)
    try:
        wait_until(lambda: "guide" in notices.read_text(), "it is subscribed", 40)
        yield Listener(out, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, notices.read_text()
    finally:
        process.kill()
        process.wait()


def test_what_the_banner_says_can_be_typed(data_dir: Path, workers: tuple[str, str]) -> None:
    with Serving(data_dir, *workers).opened() as city:
        lines = [line.split(None, 1) for line in city.said.splitlines() if line.startswith("  ")]
        told = {words[0]: words[1].strip() for words in lines if len(words) == 2}

        assert told["Console"] == f"{city.url}/"
        with listening(city) as listener:
            done = subprocess.run(
                shlex.split(told["Try"]), cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
            )
            listener.waits_for("The doors are open.")
        assert json.loads(done.stdout)["status"] == "published"


def test_listening_survives_a_killed_platform_without_a_gap(data_dir: Path, workers: tuple[str, str]) -> None:
    with Serving(data_dir, *workers).opened() as city, listening(city) as listener:
        port = city.url.rpartition(":")[2]
        publish(city, "before")
        listener.waits_for("before")
        valkey = city.valkey_pid

        city.signal(signal.SIGKILL)
        city.ended()
        with Serving(data_dir, *workers, settings={"PORT": port}).opened() as again:
            assert again.valkey_pid == valkey
            for number in range(3):
                publish(again, f"after {number}")
            listener.waits_for("after 2")

            assert [said["offset"] for said in listener.heard] == [1, 2, 3, 4]
            assert len({said["epoch"] for said in listener.heard}) == 1


def test_a_new_start_knows_everything_of_the_one_before(data_dir: Path, workers: tuple[str, str]) -> None:
    with Serving(data_dir, *workers).opened() as city:
        session = ask(city, "session", "create", "--user", "alice").strip()
        publish(city, "remember me")
        token = city.token
        city.signal(signal.SIGINT)
        assert city.ended() == 0
        assert city.valkey_pid == 0
    with Serving(data_dir, *workers).opened() as again:
        assert again.token == token
        assert [said["payload"]["message"] for said in history(again)] == ["remember me"]
        arguments = json.dumps({"session_token": session})
        assert json.loads(ask(again, "call", "traffic_cop.validate_session", arguments))["user_id"] == "alice"


def test_a_killed_valkey_is_back_with_everything_that_was_acknowledged(data_dir: Path) -> None:
    with Serving(data_dir).opened() as city, listening(city) as listener:
        publish(city, "before")
        killed = city.valkey_pid
        os.kill(killed, signal.SIGKILL)

        wait_until(lambda: city.valkey_pid not in {0, killed}, "there is another Valkey", 20)
        wait_until(lambda: bool(city.get("/api/health")["status"] == "healthy"), "it is healthy again", 40)
        publish(city, "after")
        listener.waits_for("after")

        assert [said["payload"]["message"] for said in history(city)] == ["before", "after"]
        assert [said["offset"] for said in listener.heard] == [1, 2]


def test_two_on_one_data_dir_are_one_city(data_dir: Path) -> None:
    with Serving(data_dir).opened() as first, Serving(data_dir).opened() as second, listening(second) as listener:
        publish(first, "from the first")
        listener.waits_for("from the first")

        first.signal(signal.SIGINT)
        assert first.ended() == 0
        publish(second, "from the second")
        listener.waits_for("from the second")

        assert [said["offset"] for said in listener.heard] == [1, 2]


def test_make_run_opens_it_and_ctrl_c_ends_all_of_it(
    data_dir: Path, workers: tuple[str, str], record_testsuite_property: Any
) -> None:
    make = ("make", "--no-print-directory", "-C", str(ROOT), "run", f"ARGS={shlex.join(workers)}")
    for start in ("first", "second"):
        with Serving(data_dir, command=make).opened() as city:
            valkey = city.valkey_pid
            record_testsuite_property(f"{start} start, {workers[1]} worker(s)", f"{city.seconds:.2f} s")
            os.killpg(city.process.pid, signal.SIGINT)
            city.ended()
            wait_until(lambda pid=valkey: not Process.of(pid).is_alive, "Valkey has ended")  # type: ignore[misc]
