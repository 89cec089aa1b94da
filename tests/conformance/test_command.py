"""The command: what it says and how it exits, when all is well and when nothing is there to be held."""

from __future__ import annotations

import sys

import pytest

from tests.conformance.__main__ import main

PYTHON = [sys.executable, "-m", "tests.conformance.python_driver"]


def test_a_client_that_passes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "--only", "01_connects", "--", *PYTHON]) == 0
    told = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in told[:2]] == ["ok  ", "ok  "]
    assert told[2] == "2 passed, 0 failed, 0 skipped"


def test_a_client_that_lacks_what_a_scenario_needs_is_skipped_and_named(capsys: pytest.CaptureFixture[str]) -> None:
    program = 'print(\'{"told": "ready", "can": []}\', flush=True); input()'
    assert main(["client", "--only", "14_asks", "--encoding", "msgpack", "--", sys.executable, "-c", program]) == 0
    out = capsys.readouterr().out
    assert "the client cannot ask, msgpack" in out
    assert "0 passed, 0 failed, 1 skipped" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ["client", "--only", "01_connects", "--", "/no/such/command"],
        ["server", "--only", "01_welcome", "--url", "http://127.0.0.1:9", "--token", "t"],
    ],
)
def test_nothing_to_be_held_is_said_in_a_sentence(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert "FAIL" in capsys.readouterr().out


def test_a_name_that_no_scenario_has_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["client", "--only", "no_such_scenario", "--", "true"]) == 2
    with pytest.raises(SystemExit) as ended:
        main(["server"])
    assert ended.value.code == 2
