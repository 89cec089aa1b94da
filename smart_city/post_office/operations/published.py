"""What publishing operations answer: where something stands, that it is held, or why it was refused."""

from __future__ import annotations

from typing import Annotated, Literal, Required

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict  # pydantic takes the standard library's from Python 3.12 on

from foundations.operations import Arguments, Result
from smart_city.post_office.keep import Held
from smart_city.post_office.log import Appended
from smart_city.vocabulary import ChannelName, IdempotencyKey, JsonObject

MessageArgument = Annotated[JsonObject, Field(description="any JSON object; it becomes the payload")]
KeyArgument = Annotated[
    IdempotencyKey | None,
    Field(description="repeating a call with the same key within ten minutes does nothing more"),
]
Kept = Annotated[
    Literal["published", "held"],
    Field(description="held: the store is away, it is kept here until the return and lost if this instance dies first"),
]


class Published(Result):
    """A publication that is safe in its channel's log; or held, and then without a place."""

    status: Kept
    channel: str
    message_id: str
    offset: int | None = None
    epoch: str | None = None
    subscribers: int | None = Field(default=None, description="connections that listen, a few seconds old")
    duplicate: bool | None = None


class AgentAsked(Result):
    """A question that is safe in an agent's inbox, or held."""

    status: Literal["queued", "held"]
    channel: str
    message_id: str
    duplicate: bool | None = None


class Refused(Result):
    """Why one item of a batch was not published."""

    code: str
    message: str
    retryable: bool


class BatchItem(Arguments):
    """One publication of a batch."""

    channel: ChannelName
    message: MessageArgument
    key: KeyArgument = None


class ItemOutcome(TypedDict, total=False):
    """What became of one item: its place in the log, that it is held, or its error."""

    # a dictionary, of which an answer may have a thousand: making and writing one takes 0.3 µs, a model 1.5
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]  # pydantic reads it from here

    status: Required[Literal["published", "held", "refused"]]
    channel: Required[str]
    message_id: str
    offset: int
    epoch: str
    duplicate: bool
    error: Refused


class BatchPublished(Result):
    """One outcome for each item, in the order of the items."""

    status: Literal["held"] | None = Field(default=None, description="if at least one item is held")
    results: list[ItemOutcome]


class Sent(Result):
    """A message that is safe in somebody's own log, or held."""

    status: Kept
    connected: bool | None = Field(
        default=None, description="whether anybody was there to get it at once; left out where that is not known"
    )
    message_id: str
    offset: int | None = None
    epoch: str | None = None
    duplicate: bool | None = None


class Place(TypedDict, total=False):
    """What all answers about one publication say of it."""

    status: Literal["published", "held"]
    message_id: str
    offset: int
    epoch: str
    duplicate: bool | None


def place_of(outcome: Appended | Held) -> Place:
    """A publication's place, or that it has none yet."""
    if isinstance(outcome, Held):
        return Place(status="held", message_id=outcome.message_id)
    return Place(
        status="published", message_id=outcome.message_id, offset=outcome.offset, epoch=outcome.epoch,
        duplicate=outcome.duplicate or None,
    )  # fmt: skip
