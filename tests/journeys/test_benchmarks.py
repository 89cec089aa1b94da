"""The platform and the limit of the kernel side by side, by the command that people type."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICK = (sys.executable, "-m", "benchmarks", "--quick", "--pairs", "1", "--subjects", "platform", "limit", "gathered")
OURS = ("fan_out_paced", "fan_out_burst", "many_channels", "growth_subscribers", "growth_channels")


@pytest.mark.needs("cc")
@pytest.mark.timeout(600)
def test_every_case_of_a_fan_out_is_measured_with_figures_that_can_be_true(tmp_path: Path) -> None:
    command = [*QUICK, "--cases", *OURS, "--into", str(tmp_path)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=550, check=False)
    assert ran.returncode == 0, ran.stderr
    courses = {name: json.loads((tmp_path / f"{name}.json").read_text())["subjects"] for name in OURS}
    paced = {name: courses["fan_out_paced"][name]["rounds"][0] for name in ("platform", "limit")}
    assert paced["limit"]["bytes"] == 204  # what was published, and the head of its frame
    assert paced["platform"]["bytes"] > 300  # with its envelope
    assert 0 < paced["limit"]["cpu_us"] < paced["platform"]["cpu_us"]  # sessions, a log and a bus are not for nothing
    assert paced["limit"]["store_us"] == 0 < paced["platform"]["store_us"]
    burst = courses["fan_out_burst"]["platform"]["rounds"][0]
    assert 0 < burst["cpu_us"] < paced["platform"]["cpu_us"]  # what rounds are for
    page = (tmp_path / "README.md").read_text()
    assert page.count("\n## ") == len(OURS)
