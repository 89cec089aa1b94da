"""Members by a name that they share: guests by their user, say. Nearly every group has one member.

Such a one is kept as it is: a set around it would be 216 bytes (case: idle connections).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Groups(Generic[Member]):
    """Members in groups; a member must not be a set itself."""

    def __init__(self) -> None:
        self._groups: dict[str, Member | set[Member]] = {}

    def add(self, name: str, member: Member) -> None:
        """Puts a member into a group."""
        found = self._groups.setdefault(name, member)
        if isinstance(found, set):
            found.add(member)
        elif found is not member:
            self._groups[name] = {found, member}

    def discard(self, name: str, member: Member) -> None:
        """Takes a member out, if it is there."""
        found = self._groups.get(name)
        if isinstance(found, set):
            found.discard(member)
            if not found:
                del self._groups[name]
        elif found is member:
            del self._groups[name]

    def of(self, name: str) -> Collection[Member]:
        """The members of a group, as they are now."""
        found = self._groups.get(name)
        if found is None:
            return ()
        return list(found) if isinstance(found, set) else [found]

    def __iter__(self) -> Iterator[Member]:
        for found in self._groups.values():
            if isinstance(found, set):
                yield from found
            else:
                yield found
