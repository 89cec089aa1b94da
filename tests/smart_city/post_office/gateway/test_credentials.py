"""Sessions that end: whoever came in with one is warned and then let go, however long it was to last at first."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from foundations.supervision import Tasks
from smart_city.post_office.gateway import credentials as module
from smart_city.post_office.gateway.close_codes import OVER
from smart_city.post_office.gateway.credentials import Credentials
from smart_city.vocabulary import Identity
from tests.support.waiting import until


class Everybody:
    """Sessions that all stand."""

    async def identify(self, token: str, *, address: str = "") -> Identity:
        raise NotImplementedError

    async def admit(self, token: str, *, address: str = "") -> Identity:
        raise NotImplementedError

    async def still_valid(self, identities: Sequence[Identity]) -> list[bool]:
        return [True] * len(identities)

    def revoked_since(self, identity: Identity, moment: float) -> bool:
        return False


class Guest:
    """Somebody whose session ends in so many seconds."""

    def __init__(self, seconds: float) -> None:
        self.identity = Identity(
            kind="session", subject="ann", credential=f"s{seconds}", expires_at=time.time() + seconds
        )
        self.warnings: list[bytes] = []
        self.closed_at = 0.0
        self.code = 0

    @property
    def user_id(self) -> str:
        return self.identity.subject

    def send(self, frame: bytes) -> None:
        self.warnings.append(frame)

    def close(self, code: int, reason: str) -> None:
        self.code, self.closed_at = code, time.time()


async def test_who_stays_long_is_warned_once_and_let_go_at_the_end(
    tasks: Tasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "EXPIRING_SECONDS", 0.2)
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.1)
    credentials = Credentials(Everybody(), tasks)
    credentials.start()
    short, long, gone = Guest(0.1), Guest(0.7), Guest(0.7)
    for guest in (short, long, gone):
        credentials.add(guest)
    assert not long.warnings
    credentials.remove(gone)
    await until(lambda: bool(long.code), "the session has ended")
    assert short.closed_at < long.closed_at
    assert [len(guest.warnings) for guest in (short, long, gone)] == [1, 1, 0]
    assert (short.code, long.code, gone.code) == (OVER, OVER, 0)
    assert long.closed_at >= long.identity.expires_at - 0.01
