"""Runs the tests of the console's DOM-free modules, `*.test.js`, under Node's own test runner."""

from __future__ import annotations

from pathlib import Path

from tests.support.node import run_tests


def test_the_modules_pass_their_tests() -> None:
    run_tests(Path(__file__).parent)
