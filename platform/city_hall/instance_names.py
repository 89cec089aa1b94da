"""What the workers of one supervisor are called. That no other living process is called so is the lease's matter."""

from __future__ import annotations

import re
import socket


def instance_names(name: str, port: int, workers: int) -> list[str]:
    """The instances' names: one worker's is ``name`` itself; several get a number, as do unnamed ones."""
    if name and workers == 1:
        return [name]
    return [_numbered(name, port, number) for number in range(1, workers + 1)]


def all_names(name: str, port: int, workers: int) -> list[str]:
    """The names that workers may have in the course of time: one more than there are workers."""
    return [*instance_names(name, port, workers), _numbered(name, port, workers + 1)]


def _numbered(name: str, port: int, number: int) -> str:
    prefix = name or f"{re.sub(r'[^A-Za-z0-9._-]', '-', socket.gethostname())}-{port}"
    return f"{prefix}-{number}"
