"""The help teaches: every command says what it is for, and every example in it works as it stands."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from city_hall import cli
from tests.support.ports import free_port
from tests.support.serving import Serving, wait_until
from tests.support.shells import Shell, shell_environment
from tests.support.valkey import ValkeyServer

COLOUR = r"\x1b\[(\d+;)*3\d"
ENDLESS = ("listen", "--watch", "serve", " mcp")
"""What runs until somebody ends it."""


def commands() -> Iterator[str]:
    """Every command, as it is typed after ``smart-city``."""

    def below(command: Any, name: str) -> Iterator[str]:
        inner = getattr(command, "commands", {})
        if not inner:
            yield name
        for word, one in inner.items():
            yield from below(one, f"{name} {word}".strip())

    yield from below(get_command(cli.app), "")


COMMANDS = tuple(commands())


def help_of(command: str, width: int = 200) -> str:
    result = CliRunner().invoke(cli.app, [*command.split(), "--help"], env={"COLUMNS": str(width)})
    assert result.exit_code == 0, result.output
    return result.output


def examples(command: str) -> list[str]:
    block = help_of(command).partition("Examples")[2].split("╭─", 1)[0]
    return [line.strip() for line in block.splitlines() if "smart-city" in line]


EXAMPLES = [example for command in COMMANDS for example in examples(command)]
ENDING = [example for example in EXAMPLES if not any(word in example for word in ENDLESS)]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_sentence_and_examples_of_itself(command: str) -> None:
    told = help_of(command)
    sentence = re.search(r"\n ([A-Z][a-z]+s [^\n]+)", told)

    assert sentence is not None and len(sentence[1].split()) >= 5
    assert examples(command)
    assert all(f"smart-city {command}" in example for example in examples(command))


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("width", [50, 80])
def test_help_fits_narrow_terminals(command: str, width: int) -> None:
    assert max(map(len, help_of(command, width).splitlines())) <= width


def test_help_has_no_colours_for_who_wants_none(typed: Shell) -> None:
    coloured, plain = (typed("smart-city --help", FORCE_COLOR="1", **more).stdout for more in ({}, {"NO_COLOR": "1"}))

    assert re.search(COLOUR, coloured)
    assert not re.search(COLOUR, plain)


@pytest.mark.parametrize("example", ENDING)
def test_an_example_works_as_it_stands(example: str, typed: Shell) -> None:
    done = typed(example)

    assert done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("example", [example for example in EXAMPLES if "listen" in example or "--watch" in example])
def test_an_example_that_goes_on_ends_in_peace_with_ctrl_c(example: str, open_city: Serving, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {example}"], stdout=file, stderr=file, env=shell_environment(open_city)
        )
    try:
        wait_until(lambda: bool(out.read_text().strip()), "it says something", 40)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, out.read_text()
        assert "Traceback" not in out.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("example", examples("serve"))
def test_an_example_of_serve_opens_a_city(example: str, tmp_path: Path) -> None:
    with ValkeyServer(tcp=True) as valkey, (tmp_path / "out").open("wb") as out:
        line = re.sub(r"--port \d+", f"--port {free_port()}", example).replace("redis://valkey:6379", valkey.url)
        settings = {"DATA_DIR": str(tmp_path / "data"), "PORT": "0"}
        environment = shell_environment(None, **{f"SMART_CITY_{name}": value for name, value in settings.items()})
        process = subprocess.Popen(
            ["bash", "-c", line.replace("smart-city", "exec smart-city")],
            stdout=out, stderr=out, env=environment,
        )  # fmt: skip
        try:
            wait_until(lambda: "http://" in (tmp_path / "out").read_text(), "it is open", 60)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
        finally:
            process.kill()
            process.wait()
