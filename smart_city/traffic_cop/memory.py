"""Who was seen here a short while ago, for the time that Valkey is away, and who was revoked since.

It asks nobody and judges no token: `Identities` says when it counts. Both memories are bounded.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import NamedTuple

from smart_city.traffic_cop.revocations import Revocation
from smart_city.vocabulary import Identity

_LONG_AGO = float("-inf")


class _Seen(NamedTuple):
    identity: Identity
    asked_at: float
    """When Valkey was asked, by the monotonic clock: a later revocation may not be in its answer."""


class Memory:
    """Remembers ``size`` identities by their tokens' digests, each for ``seconds``."""

    def __init__(self, *, seconds: float, size: int) -> None:
        self._seconds = seconds
        self._size = size
        self._seen: OrderedDict[str, _Seen] = OrderedDict()
        self._revoked: OrderedDict[tuple[str, str], float] = OrderedDict()

    def remember(self, digest: str, identity: Identity, asked_at: float) -> None:
        """Keeps what Valkey said when it was asked at ``asked_at``."""
        self._seen[digest] = _Seen(identity, asked_at)
        self._seen.move_to_end(digest)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)

    def recall(self, digest: str) -> Identity | None:
        """Who was seen behind this token, unless that is too long ago, over, or revoked since."""
        seen = self._seen.get(digest)
        if seen is None:
            return None
        identity, asked_at = seen
        too_old = time.monotonic() - asked_at > self._seconds
        expired = 0 < identity.expires_at <= time.time()
        if too_old or expired or self.revoked_since(identity, asked_at):
            del self._seen[digest]
            return None
        return identity

    def drop(self, digest: str) -> None:
        """Forgets a token that Valkey does not know any more."""
        self._seen.pop(digest, None)

    def revoke(self, event: Revocation) -> None:
        """Notes that whoever this concerns is not to be recalled."""
        key, now = (event.revoked, event.id), time.monotonic()
        self._revoked[key] = now
        self._revoked.move_to_end(key)
        oldest = next(iter(self._revoked))
        while self._revoked[oldest] < now - self._seconds:  # all that was seen before is too old by itself
            del self._revoked[oldest]
            oldest = next(iter(self._revoked))
        if len(self._revoked) > self._size:  # then nobody who was seen before the forgotten one may stay
            self._revoked.popitem(last=False)
            self._seen.clear()

    def revoked_since(self, identity: Identity, moment: float) -> bool:
        """Whether a revocation of this caller was heard at or after ``moment`` of the monotonic clock."""
        credential = ("session" if identity.is_user else "token", identity.credential)
        return (
            self._revoked.get(credential, _LONG_AGO) >= moment
            or self._revoked.get(("user", identity.subject), _LONG_AGO) >= moment
        )
