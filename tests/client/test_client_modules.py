"""Runs the tests of the JavaScript client's modules, `*.test.js`, under Node's own test runner."""

from __future__ import annotations

from pathlib import Path

from tests.support.node import run_tests


def test_the_client_passes_its_tests() -> None:
    run_tests(Path(__file__).parent)
