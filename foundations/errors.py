"""The one error tree: what can go wrong, and how each surface says it.

    CityError
    ├── InvalidMessage        not a frame of the protocol            invalid_message     400
    ├── UnknownType           a frame type nobody knows              unknown_type        400
    ├── UnknownChannel        no such channel                        unknown_channel     404
    ├── InvalidArgument       an argument breaks its declaration     invalid_argument    422
    ├── Unauthenticated       no, unknown, expired, revoked token    unauthenticated     401   4501
    ├── Forbidden             known, but not allowed                 forbidden           403
    │   └── OriginNotAllowed  a browser page of a foreign origin     forbidden           403   4503
    ├── NotFound              no such thing (any more)               not_found           404
    ├── Conflict              a contradiction, as a key used twice   conflict            409
    │   └── Overtaken         another socket owns this connection    conflict            409   4010
    ├── StaleDelivery         the lease of a delivery lapsed         stale_delivery      409
    ├── TooLarge              above a size limit                     too_large           413
    ├── RateLimited           above a rate; retry_after              rate_limited        429   1013
    ├── Overloaded            a bound is reached; retry_after        overloaded          503   1013
    │   └── TooManyConnections  of one user                          overloaded          503   4029
    ├── Unavailable           a part this needs is away              unavailable         503   1013
    ├── DeadlineExceeded      took longer than its deadline          deadline_exceeded   504
    └── Internal              a defect of ours; the log has it       internal            500

Each class carries ``code`` (what clients compare), ``status`` (HTTP), ``close_code`` (WebSocket, 0: the
connection stays open) and ``retryable``. Raise with a sentence that says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class FieldError:
    """One argument that is wrong: its path (``items.0.channel``) and why."""

    field: str
    message: str


class CityError(Exception):
    """Whatever the platform refuses to do or fails at, with the words and numbers every surface needs."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    close_code: ClassVar[int] = 0
    retryable: ClassVar[bool] = False
    title: ClassVar[str] = "Internal error"

    def __init__(self, message: str, *, retry_after: float | None = None, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after
        self.errors = tuple(errors)


class InvalidMessage(CityError):
    """What arrived is not a frame of the protocol."""

    code, status, title = "invalid_message", 400, "Invalid message"


class UnknownType(CityError):
    """A frame whose type nobody knows."""

    code, status, title = "unknown_type", 400, "Unknown type"


class UnknownChannel(CityError):
    """A channel that does not exist here."""

    code, status, title = "unknown_channel", 404, "Unknown channel"


class InvalidArgument(CityError):
    """An argument that breaks the operation's declaration; ``errors`` names each."""

    code, status, title = "invalid_argument", 422, "Invalid argument"


class Unauthenticated(CityError):
    """No token, or one that is unknown, expired, revoked or of the wrong kind."""

    code, status, close_code, title = "unauthenticated", 401, 4501, "Unauthenticated"


class Forbidden(CityError):
    """The caller is known, and may not do this."""

    code, status, title = "forbidden", 403, "Forbidden"


class OriginNotAllowed(Forbidden):
    """A browser page whose origin is not allowed here."""

    close_code = 4503


class NotFound(CityError):
    """The thing named does not exist, or no longer."""

    code, status, title = "not_found", 404, "Not found"


class Conflict(CityError):
    """An idempotency key that was used before with another body, or arguments that contradict each other or what is."""

    code, status, title = "conflict", 409, "Conflict"


class Overtaken(Conflict):
    """Another socket took over this connection."""

    close_code = 4010


class StaleDelivery(CityError):
    """A delivery whose lease lapsed, or that was settled before; nothing was done."""

    code, status, title = "stale_delivery", 409, "Stale delivery"


class TooLarge(CityError):
    """Above a limit on size."""

    code, status, title = "too_large", 413, "Too large"


class RateLimited(CityError):
    """Above a rate limit; ``retry_after`` says when there is credit again, in seconds.

    ``limit`` names which, and allows ``quota`` in ``window`` seconds.
    """

    code, status, close_code, retryable, title = "rate_limited", 429, 1013, True, "Rate limited"

    def __init__(
        self, message: str, *, retry_after: float | None = None, limit: str = "", quota: int = 0, window: float = 0.0
    ) -> None:
        super().__init__(message, retry_after=retry_after)
        self.limit = limit
        self.quota = quota
        self.window = window


class Overloaded(CityError):
    """A bound is reached; ``retry_after`` says when to come back, in seconds."""

    code, status, close_code, retryable, title = "overloaded", 503, 1013, True, "Overloaded"


class TooManyConnections(Overloaded):
    """One user holds as many connections as one user may."""

    close_code = 4029


class Unavailable(CityError):
    """A part that this needs (Valkey, say) is away; nothing was promised."""

    code, status, close_code, retryable, title = "unavailable", 503, 1013, True, "Unavailable"


class DeadlineExceeded(CityError):
    """The operation took longer than its deadline."""

    code, status, retryable, title = "deadline_exceeded", 504, True, "Deadline exceeded"


class Internal(CityError):
    """A defect of ours. The sentence says nothing of the inside; the log has the rest."""


ERRORS: tuple[type[CityError], ...] = (
    InvalidMessage, UnknownType, UnknownChannel, InvalidArgument, Unauthenticated, Forbidden, NotFound,
    Conflict, StaleDelivery, TooLarge, RateLimited, Overloaded, Unavailable, DeadlineExceeded, Internal,
)  # fmt: skip
"""One class for each code, for documentation and for clients that turn codes back into exceptions."""
