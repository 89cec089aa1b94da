"""An open city in processes of its own, and ``smart-city`` as a shell would run it there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.serving import Serving

Shell = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def open_city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """The platform with its demo agents. Who stops it, or its Valkey, starts an own one."""
    with Serving(tmp_path_factory.mktemp("open-city") / "data") as serving:
        yield serving.opened()


def shell_environment(city: Serving | None = None, **more: str) -> dict[str, str]:
    """What a shell of somebody has who uses this city: the program is found, and its variables are set."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SMART_CITY_")}
    kept |= {name: value for name, value in os.environ.items() if name.startswith("SMART_CITY_TEST_")}
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    if city is not None:
        kept |= {"SMART_CITY_URL": city.url, "SMART_CITY_DATA_DIR": str(city.data_dir)}
    return kept | more


@pytest.fixture
def typed(open_city: Serving) -> Shell:
    """Runs a line as typed into a shell; ``status`` is what it has to exit with."""

    def run(line: str, *, status: int = 0, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            capture_output=True, text=True, timeout=60, env=shell_environment(open_city, **more), check=False,
        )  # fmt: skip
        assert done.returncode == status, f"{line} exited with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    return run
