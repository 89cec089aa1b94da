"""``status --watch`` over a real platform: live on a terminal, else a line for each change; through its going away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.serving import Serving, wait_until
from tests.support.shells import shell_environment
from tests.support.terminal import terminal


@contextmanager
def watching(city: Serving, out: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with out.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "city_hall", "status", "--watch", "--every", "0.2", *options],
            stdout=file, stderr=file, env=shell_environment(city, **environment),
        )  # fmt: skip
    try:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, out.read_text()
    finally:
        process.kill()
        process.wait()


def documents(out: Path) -> list[dict[str, Any]]:
    """Every whole line."""
    return [json.loads(line) for line in out.read_text().split("\n")[:-1]]


@pytest.mark.timeout(240)
def test_it_says_changes_in_json_through_the_platforms_going_and_coming(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def has(status: str, after: int = 0) -> bool:
        return any(told["status"] == status for told in documents(out)[after:])

    with Serving(tmp_path / "data", "--no-demo").opened() as city, watching(city, out, "--json"):
        wait_until(lambda: has("healthy"), "it is seen", 30)
        port = city.url.rpartition(":")[2]
        city.signal(signal.SIGINT)
        city.ended()
        wait_until(lambda: has("away"), "its absence is seen", 30)
        gone = len(documents(out))
        with Serving(tmp_path / "data", "--no-demo", settings={"PORT": port}).opened():
            wait_until(lambda: has("healthy", after=gone - 1), "its return is seen", 30)
            told = documents(out)
    assert {"time", "url", "status", "services", "connections", "queues"} <= told[0].keys()
    assert {one["status"] for one in told} <= {"healthy", "degraded", "unhealthy", "away"}
    assert next(one for one in told if one["status"] == "away")["error"]
    assert len(told) < 12


def test_a_line_of_text_tells_of_a_connection_that_comes(open_city: Serving, tmp_path: Path) -> None:
    out, heard = tmp_path / "out", tmp_path / "heard"
    with watching(open_city, out):
        wait_until(lambda: "connections of" in out.read_text(), "it is seen", 30)
        lines = out.read_text().count("\n")
        with heard.open("wb") as file:
            listener = subprocess.Popen(
                [sys.executable, "-m", "city_hall", "listen", "guide"],
                stdout=file, stderr=file, env=shell_environment(open_city),
            )  # fmt: skip
        try:
            wait_until(lambda: out.read_text().count("\n") > lines, "the change is told", 30)
        finally:
            listener.kill()
            listener.wait()
    assert all("healthy" in line for line in out.read_text().splitlines())


def test_without_a_token_it_shows_what_everybody_may_see(open_city: Serving, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with watching(open_city, out, "--json", SMART_CITY_DATA_DIR=str(tmp_path)):
        wait_until(lambda: bool(documents(out)), "it is seen", 30)
    assert documents(out)[0].keys() == {"time", "url", "status", "services"}


def test_a_token_that_is_not_taken_is_said(open_city: Serving, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with watching(open_city, out, "--token", "svc_none"):
        wait_until(lambda: "\n" in out.read_text(), "it is seen", 30)
    assert "healthy; unauthenticated (" in out.read_text()


@pytest.mark.parametrize("columns", [50, 80])
def test_a_terminal_gets_a_table_that_is_drawn_again(columns: int, open_city: Serving) -> None:
    with terminal(columns) as screen:
        process = subprocess.Popen(
            [sys.executable, "-m", "city_hall", "status", "--watch", "--every", "0.2"],
            stdout=screen.theirs, stderr=screen.theirs, env=shell_environment(open_city, TERM="xterm"),
        )  # fmt: skip
        try:
            for word in ("valkey", "pillar:insights", "Ctrl-C"):
                wait_until(lambda word=word: screen.drawn.count(word) >= 3, f"{word} is drawn again and again", 30)  # type: ignore[misc]
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.wait()
    assert "\x1b[" in screen.drawn
    assert "Traceback" not in screen.drawn
