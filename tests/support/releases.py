"""The release before this one, taken out of the project's history, to run beside the present one.

It starts nothing; what a process loads is decided by the environment that `loading` gives.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.machine import ROOT

UNTAGGED = "753adbf26795648e0141733e99b61fc8e47650b2"
"""What counts as the release before this one as long as no commit has a tag."""


def previous_release() -> str:
    """The commit of the release before this one; the test is skipped, and says so, where history is not there."""
    tagged = _git("describe", "--tags", "--abbrev=0", "HEAD^")
    commit = tagged.stdout.decode().strip() if tagged.returncode == 0 else UNTAGGED
    if _git("cat-file", "-e", f"{commit}^{{commit}}").returncode:
        pytest.skip(f"needs the history of the project, with {commit}: git fetch --unshallow --tags, in a clone")
    return commit


def unpacked(commit: str, directory: Path) -> Path:
    """The sources as they were then."""
    archive = _git("archive", commit, "foundations", "smart_city", "platform")
    assert archive.returncode == 0, archive.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(directory, filter="data")
    return directory


@contextmanager
def loading(sources: Path) -> Iterator[None]:
    """Processes that are started inside load the platform from there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join((str(sources / "platform"), str(sources))))
        patch.setenv("PYTHONSAFEPATH", "1")  # else what lies where we are would come first
        for package in ("city_hall", "smart_city", "foundations"):
            told = subprocess.run(
                (sys.executable, "-c", f"import {package}; print({package}.__path__[0])"),
                capture_output=True, check=True, text=True,
            )  # fmt: skip
            assert Path(told.stdout.strip()).is_relative_to(sources), told.stdout
        yield


def _git(*words: str) -> subprocess.CompletedProcess[bytes]:
    environment: Mapping[str, str] = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, check=False, env=environment)
