"""What a test may need of the machine beyond Python: marked with ``needs``, skipped and named where it lacks.

With ``SMART_CITY_TEST_REQUIRE=all`` every skip, whatever its reason, fails the run. It installs nothing: that
is ``scripts/test-machine``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ASYNCAPI = ROOT / "tests/tools/node_modules/@asyncapi/specs/schemas/3.0.0-without-$id.json"
"""What an AsyncAPI document is, as its authors have written it down."""
TYPESCRIPT = ROOT / "node_modules/typescript/bin/tsc"
INSPECTOR = ROOT / "tests/tools/node_modules/@modelcontextprotocol/inspector"


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a machine has or lacks: where it is, and how to get it."""

    name: str
    how: str
    find: Callable[[], str | None]


def find_chromium() -> str | None:
    """The path of a Chromium that Playwright can drive, or None."""
    names = (os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if name and (path := shutil.which(name))), None)


def find_inspector() -> str | None:
    """The folder of the MCP inspector's package, or None."""
    return str(INSPECTOR) if (INSPECTOR / "package.json").exists() else None


def find_asyncapi() -> str | None:
    """The schema of AsyncAPI documents, or None."""
    return str(ASYNCAPI) if ASYNCAPI.exists() else None


def find_typescript() -> str | None:
    """TypeScript's compiler, or None."""
    return str(TYPESCRIPT) if TYPESCRIPT.exists() else None


PARTS = {
    part.name: part
    for part in (
        Part("chromium", "install the package chromium, or set CHROMIUM=/path/to/it", find_chromium),
        Part("inspector", "scripts/test-machine, with npm's registry in reach", find_inspector),
        Part("typescript", "scripts/npm ci --ignore-scripts, with npm's registry in reach", find_typescript),
        Part("cc", "install a C compiler, as the package gcc", lambda: shutil.which("cc") or shutil.which("gcc")),
        Part("asyncapi", "scripts/test-machine, with npm's registry in reach", find_asyncapi),
    )
}


def chromium() -> str:
    """The path of Chromium, in a test that is marked as needing it."""
    path = find_chromium()
    assert path is not None
    return path


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"needs(*names): parts of the machine: {', '.join(PARTS)}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name in _needs(item):
        part = PARTS[name]
        if part.find() is None:
            pytest.skip(f"no {part.name}: {part.how}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = sorted({reason for report in _skipped(terminalreporter) for reason in _reason(report)})
    if reasons:
        terminalreporter.write_line(f"Not tested on this machine: {'; '.join(reasons)}.", yellow=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    is_strict = os.environ.get("SMART_CITY_TEST_REQUIRE") == "all"
    if is_strict and reporter is not None and _skipped(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _needs(item: pytest.Item) -> Iterator[str]:
    for mark in item.iter_markers("needs"):
        yield from mark.args


def _skipped(reporter: pytest.TerminalReporter) -> list[pytest.TestReport]:
    return list(reporter.stats.get("skipped", []))


def _reason(report: pytest.TestReport) -> Iterator[str]:
    if isinstance(report.longrepr, tuple):
        yield report.longrepr[2].removeprefix("Skipped: ")
