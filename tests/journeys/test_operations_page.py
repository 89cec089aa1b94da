"""What docs/operations.md has one type works: looking at a platform, and a backup made while it runs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.serving import Serving
from tests.support.shells import shell_environment

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/operations.md").read_text()


def smart_city(city: Serving, line: str, folder: Path) -> str:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder, env=shell_environment(city), capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


@pytest.mark.timeout(240)
def test_a_backup_made_while_it_runs_opens_as_the_city_was(tmp_path: Path) -> None:
    block = PAGE.partition("## Backups")[2].partition("```console\n")[2].partition("```")[0]
    with Serving(tmp_path / ".smart-city", "--no-demo").opened() as city:
        smart_city(city, """smart-city publish guide '{"message": "Keep this."}'""", tmp_path)
        for line in block.splitlines():
            smart_city(city, line.removeprefix("$ "), tmp_path)
        with Serving(tmp_path / "backup", "--no-demo").opened() as copy:
            found = smart_city(
                copy, """smart-city call post_office.get_channel_history '{"channel": "guide"}'""", tmp_path
            )
            assert "Keep this." in found
            assert copy.token == city.token
        assert smart_city(city, "smart-city valkey PING", tmp_path) == "PONG\n"


@pytest.mark.timeout(240)
def test_a_whole_copy_of_a_living_data_dir_leaves_the_living_one_alone(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--no-demo").opened() as city:
        shutil.copytree(city.data_dir, tmp_path / "copy")
        with Serving(tmp_path / "copy", "--no-demo").opened():
            assert smart_city(city, "smart-city valkey PING", tmp_path) == "PONG\n"
            assert city.get("/api/health")["status"] == "healthy"
        assert smart_city(city, "smart-city status", tmp_path)


@pytest.mark.parametrize("line", re.findall(r"^\$ (smart-city .+)$", PAGE.partition("## Backups")[0], re.MULTILINE))
def test_what_looks_at_it_can_be_typed(line: str, open_city: Serving, tmp_path: Path) -> None:
    if "--watch" not in line:
        assert smart_city(open_city, line, tmp_path)
