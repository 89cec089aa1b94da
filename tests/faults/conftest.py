"""Tests in which a part fails are long: they have a verb of their own, but for those marked ``quick``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.trial import Trials

HERE = Path(__file__).parent


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
