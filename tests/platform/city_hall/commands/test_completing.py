"""Completion as a real bash does it, with what a running platform has to offer, and in silence without one."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.serving import Serving, wait_until
from tests.support.shells import Shell, shell_environment
from tests.support.terminal import Terminal, terminal

SECONDS = 30.0


class Bash:
    """An interactive bash on a terminal of its own."""

    def __init__(self, screen: Terminal, home: Path, environment: dict[str, str]) -> None:
        told = environment | {"HOME": str(home), "PS1": "$ ", "TERM": "dumb", "INPUTRC": "/dev/null"}
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-i"],
            stdin=screen.theirs,
            stdout=screen.theirs,
            stderr=screen.theirs,
            env=told,
            start_new_session=True,
            cwd=home,
        )
        self._screen = screen
        self.type = screen.type

    def waits_for(self, text: str, *, after: int = 0) -> None:
        wait_until(lambda: text in self._screen.drawn[after:], f"{text!r} appears", SECONDS)

    @property
    def seen(self) -> str:
        return self._screen.drawn

    def completes(self, line: str, whole: str) -> None:
        """Types the line and Tab, and sees ``whole``; then starts a new line."""
        before = len(self.seen)
        self.type(line + "\t")
        self.waits_for(whole, after=before)
        self._clear()

    def offers(self, line: str, *words: str) -> None:
        """Types the line and two Tabs, and sees all words."""
        before = len(self.seen)
        self.type(line + "\t\t")
        for word in words:
            self.waits_for(word, after=before)
        self._clear()

    def _clear(self) -> None:
        """Takes the line back (Ctrl-U), and gets a new prompt."""
        before = len(self.seen)
        self.type("\x15\n")
        self.waits_for("\n$ ", after=before)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def bash(open_city: Serving, tmp_path: Path) -> Iterator[Bash]:
    """A bash in which completion was installed as the help says."""
    environment = shell_environment(open_city)
    subprocess.run(
        ["bash", "-c", "smart-city --install-completion; true"],
        env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60, capture_output=True,
    )  # fmt: skip
    with terminal() as screen:
        shell = Bash(screen, tmp_path, environment)
        shell.type("source ~/.bashrc; echo rea''dy\n")
        shell.waits_for("ready")
        yield shell
        shell.end()


def test_bash_completes_commands_options_channels_and_operations(bash: Bash) -> None:
    bash.completes("smart-city lis", "listen ")
    bash.completes("smart-city session rev", "revoke ")
    bash.completes("smart-city publish --rea", "--realm ")
    bash.completes("smart-city publish gui", "guide ")
    bash.completes("smart-city call traffic_cop.check_", "traffic_cop.check_rate_limit ")


def test_bash_completes_behind_the_colon_of_a_channel(bash: Bash) -> None:
    bash.completes("smart-city listen pillar:cont", "pillar:content ")
    bash.completes("smart-city listen pillar:content pillar:oper", "pillar:operations ")
    bash.offers("smart-city listen pillar:", "content", "insights", "business_outcomes")


def completions(words: str, **environment: str) -> tuple[str, str, float]:
    """What bash is told, what stands on its terminal besides, and how long it took."""
    began = time.monotonic()
    asked = {"_SMART_CITY_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count("\n"))}
    done = subprocess.run(
        ["smart-city"],
        env=shell_environment(None, **environment) | asked, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done.stdout.strip(), done.stderr, time.monotonic() - began


@pytest.mark.parametrize("command", ["listen", "call"])
def test_without_a_platform_a_tab_is_silent(command: str, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert completions(f"smart-city\n{command}\np", SMART_CITY_URL=url)[:2] == ("", "")


def test_a_platform_that_does_not_answer_holds_up_a_tab_for_a_fraction_of_a_second(tmp_path: Path) -> None:
    alone = min(completions("smart-city\nlis")[2] for _ in range(3))
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        found = [completions("smart-city\nlisten\np", SMART_CITY_URL=url) for _ in range(3)]

    assert {(out, err) for out, err, _ in found} == {("", "")}
    assert min(seconds for _, _, seconds in found) < alone + 1.5


@pytest.mark.parametrize("token", ["nonsense", ""])
def test_without_rights_a_tab_is_silent(open_city: Serving, tmp_path: Path, token: str) -> None:
    environment = {"SMART_CITY_URL": open_city.url, "SMART_CITY_TOKEN": token, "SMART_CITY_DATA_DIR": str(tmp_path)}
    assert completions("smart-city\nlisten\np", **environment)[:2] == ("", "")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_take_their_scripts(shell: str, typed: Shell, tmp_path: Path) -> None:
    """Where one is installed it reads the script; the words are the same program's."""
    script = typed("smart-city", **{"_SMART_CITY_COMPLETE": f"source_{shell}"}).stdout
    assert "_SMART_CITY_COMPLETE" in script
    if (program := shutil.which(shell)) is not None:
        (tmp_path / "script").write_text(script)
        subprocess.run([program, "-n", str(tmp_path / "script")], check=True, timeout=30)
