"""Tests in which a part fails are long: they have a verb of their own, but for those marked ``quick``.

A whole run of them, asked to with ``--faults-page``, writes down what it saw.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.report import Other, Verdict, machine, tables, with_tables
from tests.faults.trial import PROPERTY, Trials

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-page", type=Path, help="the page to write what a whole run of the faults saw into")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "quick: takes a few seconds, and belongs to `make test`, too")
    config.addinivalue_line("markers", "faults: everything else in tests/faults; `make faults` runs it")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE) and item.get_closest_marker("quick") is None:
            item.add_marker("faults")


@pytest.fixture
def trials(tmp_path: Path, record_property: Callable[[str, object], None]) -> Trials:
    """Opens a city for a fault, looks at it afterwards, and tells the report."""
    return Trials(tmp_path, record_property)


class Page:
    """Gathers what the tests of a run have told, and writes the page at its end."""

    def __init__(self, page: Path) -> None:
        self._page = page
        self._began = time.monotonic()
        self._verdicts: list[tuple[str, Verdict]] = []
        self._others: list[Other] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call":
            return
        told = dict(report.user_properties).get(PROPERTY)
        file = report.nodeid.partition("::")[0]
        if isinstance(told, dict):
            self._verdicts.append((file, Verdict(**told)))
        elif "quick" not in report.keywords:
            name = report.nodeid.removeprefix("tests/faults/")
            self._others.append(Other(name=f"`{name}`", outcome=report.outcome, seconds=report.duration))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        minutes = (time.monotonic() - self._began) / 60
        count = len(self._verdicts) + len(self._others)
        run = (
            f"On {time.strftime('%d %B %Y', time.gmtime())}, with {machine()}: {count} tests in {minutes:.1f} minutes."
        )
        verdicts = [verdict for _, verdict in sorted(self._verdicts, key=lambda each: (each[0], each[1].fault))]
        others = sorted(self._others, key=lambda each: each.name)
        self._page.write_text(with_tables(self._page.read_text(), tables(verdicts, others, run)))


@pytest.hookimpl(trylast=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Only a run of all of them may say how all of them went, and only the parent of several workers writes."""
    config = session.config
    page = config.getoption("--faults-page", None)
    is_whole = not (config.getoption("keyword") or config.getoption("markexpr") or config.getoption("lf", False))
    if page is not None and is_whole and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Page(page), "faults page")
