"""Lua scripts, each in a file of its own beside the package that uses it: ``PACKAGE/scripts/NAME.lua``.

A script is read when its user is built, never at import; running one is the client's work.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from importlib import resources


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua script and the SHA-1 under which Valkey keeps it."""

    name: str
    source: str = field(repr=False)
    sha: str

    @classmethod
    def read(cls, package: str, name: str) -> Script:
        """Reads ``scripts/NAME.lua`` of an importable package.

        Raises:
            FileNotFoundError: the package has no such script.
        """
        file = resources.files(package).joinpath("scripts", f"{name}.lua")
        return cls.of(f"{package}/{name}", file.read_text(encoding="utf-8"))

    @classmethod
    def of(cls, name: str, source: str) -> Script:
        """A script whose source is at hand."""
        sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
        return cls(name, source, sha)
