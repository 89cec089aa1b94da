"""What the client raises, as one tree; every class says what its catcher can do next.

    ClientError
    ├── Refused           the platform said no: code, message, retryable, retry_after
    │   └── AnswerFailed  an agent's answer ended with an error, and nobody tries again
    ├── Unreachable       nothing answers at the address
    ├── Unconfirmed       no acknowledgement within the deadline; the same key repeats it safely
    ├── NoAnswer          the question is queued, but no sign of an answer came within the deadline
    ├── Ended             the connection is over for good; make a new client with a new token
    ├── LinkLost          this one socket is gone; the client comes back by itself
    └── Dropped           an agent's attempt at an answer is over: another attempt will be made

It deliberately knows no code by name: codes are the platform's words and are compared as text.
"""

from __future__ import annotations

from dataclasses import dataclass


class ClientError(Exception):
    """Whatever this package raises."""


class Refused(ClientError):
    """The platform said no. ``code`` is what to compare; ``retry_after`` is in seconds."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        errors: tuple[FieldProblem, ...] = (),
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable
        self.retry_after = retry_after
        self.errors = errors


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One argument that was wrong, and why."""

    field: str
    message: str


class AnswerFailed(Refused):
    """The answer ended with an error, and no further attempt will be made."""


class Unreachable(ClientError):
    """Nothing answers at the address."""


class Unconfirmed(ClientError):
    """No acknowledgement came in time: it may have been done or not. Repeating with ``key`` is safe."""

    def __init__(self, what: str, seconds: float, key: str = "") -> None:
        super().__init__(f"{what} was not acknowledged within {seconds:g} s")
        self.key = key


class NoAnswer(ClientError):
    """The question was taken, but nothing was heard of its answer for too long."""


class Ended(ClientError):
    """The connection is over and will not come back.

    ``code`` is the close code, 1000 if it was closed here, or the HTTP status that refused the handshake.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the connection ended with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class LinkLost(ClientError):
    """One socket is gone, with this close code (1006: without one)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"the socket closed with {code}" + (f": {reason}" if reason else ""))
        self.code = code
        self.reason = reason


class Dropped(ClientError):
    """A delivery's attempt is over before it was answered: its lease lapsed, or its socket is gone."""
