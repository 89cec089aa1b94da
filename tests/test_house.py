"""The house rules that no linter knows: what may lie where, what files may name, and that locks hold."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from city_hall.cli import app
from foundations.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [ROOT / package for package in PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]]
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LONGEST_FILE = 400
REGISTRIES = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|yarnpkg\.com|(?:^|\s)--(?:extra-)?index-url|--find-links",
    re.IGNORECASE,
)
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


def files() -> list[Path]:
    """Everything that git has or would take."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def pins(lock: str) -> dict[str, str]:
    return dict(PINNED.findall((ROOT / "requirements" / lock).read_text()))


def named(requirement: str) -> str:
    """``redis[hiredis]>=8.1; …`` is ``redis``, as locks write it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, requirement
    return re.sub(r"[._]", "-", match.group()).lower()


class TestPlaces:
    def test_platform_stays_a_plain_folder(self) -> None:
        """A module in it would stand beside the standard library's `platform`."""
        assert [path.name for path in (ROOT / "platform").glob("*.py*")] == []

    def test_every_package_is_held_to_the_layers(self) -> None:
        assert {package.name for package in PACKAGES} == set(PROJECT["tool"]["importlinter"]["root_packages"])
        top = {path.parent for path in ROOT.glob("*/__init__.py")} | {
            path.parent for path in ROOT.glob("platform/*/__init__.py")
        }
        assert top == set(PACKAGES)

    def test_test_files_have_names_of_their_own(self) -> None:
        names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
        assert [name for name, count in names.items() if count > 1] == []

    @pytest.mark.parametrize(
        "path",
        [
            ".ci/run",
            "scripts/bench-machine",
            "scripts/client",
            "scripts/environment",
            "scripts/npm",
            "scripts/test-machine",
        ],
    )
    def test_scripts_may_be_run(self, path: str) -> None:
        assert os.access(ROOT / path, os.X_OK)


class TestWords:
    def test_no_file_names_a_registry(self) -> None:
        naming = [path for path in files() if path != Path(__file__) and REGISTRIES.search(text_of(path))]
        assert naming == []

    def test_no_file_names_a_place_on_somebodys_machine(self) -> None:
        home = re.compile(rf"{re.escape(str(ROOT))}\b|/home/\w+/|/Users/\w+/|/[r]oot/")
        assert [path for path in files() if path != Path(__file__) and home.search(text_of(path))] == []

    def test_nothing_is_left_for_later(self) -> None:
        later = re.compile(r"\b(TODO|FIXME|XXX)\b")
        assert [path for path in files() if path != Path(__file__) and later.search(text_of(path))] == []

    @pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
    def test_a_module_says_what_it_is_and_is_one_idea(self, path: Path) -> None:
        source = path.read_text()
        assert not source or ast.get_docstring(ast.parse(source)), "it has no docstring"
        assert len(source.splitlines()) <= LONGEST_FILE


class TestLocks:
    @pytest.mark.parametrize("lock", ["run.txt", "dev.txt", "bench.txt"])
    def test_everything_is_pinned_with_hashes(self, lock: str) -> None:
        text = (ROOT / "requirements" / lock).read_text()
        entries = re.split(r"\n(?=[A-Za-z0-9])", text.partition("\n\n")[2])
        assert len(entries) == len(PINNED.findall(text)) > 20
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []

    def test_what_runs_is_what_is_tested(self) -> None:
        assert pins("run.txt").items() <= pins("dev.txt").items()

    def test_what_is_tested_is_what_is_measured(self) -> None:
        assert pins("dev.txt").items() <= pins("bench.txt").items()

    def test_everything_the_project_asks_for_is_locked(self) -> None:
        project = PROJECT["project"]
        asked = [*project["dependencies"], *project["optional-dependencies"]["embedded"]]
        assert {named(line) for line in asked} <= pins("run.txt").keys()

    @pytest.mark.parametrize(
        ("asked", "lock"), [("build.in", "run.txt"), ("dev.in", "dev.txt"), ("bench.in", "bench.txt")]
    )
    def test_everything_that_builds_and_tests_it_is_locked(self, asked: str, lock: str) -> None:
        lines = (ROOT / "requirements" / asked).read_text().splitlines()
        assert {named(line) for line in lines if line and not line.startswith("#")} <= pins(lock).keys()

    @pytest.mark.parametrize("folder", [".", "tests/tools", "benchmarks/peers/socketio"])
    def test_the_npm_lock_has_hashes_and_no_addresses(self, folder: str) -> None:
        lock = (ROOT / folder / "package-lock.json").read_text()
        assert '"resolved"' not in lock
        assert '"integrity": "sha512-' in lock


class TestDocuments:
    """What a reader is told to type exists."""

    def told(self, pattern: str) -> set[str]:
        code = [block for path in DOCUMENTS for block in re.findall(r"```.*?```|`[^`\n]+`", path.read_text(), re.S)]
        return {found for block in code for found in re.findall(pattern, block)}

    def test_every_make_target_that_is_named_exists(self) -> None:
        targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        assert self.told(r"\bmake ([a-z]+)") <= targets

    def test_every_command_that_is_named_exists(self) -> None:
        commands = set(get_command(app).commands)  # type: ignore[attr-defined]  # a group, since it has commands
        assert self.told(r"\bsmart-city (?!/)([a-z]+)") <= commands

    def test_every_setting_that_is_named_exists(self) -> None:
        fields = {field.upper() for field in Settings.model_fields} | {"URL", "TOKEN", "TEST_REQUIRE"}
        assert self.told(r"SMART_CITY_([A-Z_]*[A-Z])") <= fields


def test_make_lists_its_verbs() -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert [line.split()[1] for line in told.stdout.splitlines()] == [
        "help",
        "run",
        "test",
        "contract",
        "journeys",
        "faults",
        "cluster",
        "bench",
        "check",
        "client",
        "lock",
    ]
