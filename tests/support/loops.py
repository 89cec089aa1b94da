"""Tests run on asyncio's own event loop, and those marked ``on_both_loops`` on production's uvloop, too.

It chooses loops and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on_both_loops: runs on asyncio's own event loop and on uvloop")


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    own: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.get_closest_marker("on_both_loops") is None:
        return own
    return own | {"uvloop": uvloop.new_event_loop}
