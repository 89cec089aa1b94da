"""What the server says of itself: its frames as structs, encoded by `messages` and described in `/asyncapi.json`.

Publications and answers are encoded where they are made, before they have a place in a log (`envelopes`,
`answers.frames`); here is everything else. A field that is not always there is `UNSET` when it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from msgspec import UNSET, Meta, Raw, Struct, UnsetType
from msgspec.structs import asdict

from foundations.errors import CityError
from smart_city.vocabulary import Position


class ServerFrame(Struct, frozen=True, tag_field="type", kw_only=True, gc=False):
    """What every frame to a client has. It is encoded as soon as it is made."""


class Place(Struct, frozen=True):
    """A position in a log."""

    offset: int
    epoch: str

    @classmethod
    def of(cls, position: Position) -> Place:
        """The same as it goes over the wire."""
        return cls(position.offset, position.epoch)


class Welcome(ServerFrame, frozen=True, kw_only=True, tag="system"):
    """Always the first frame: who the client is here, and where its own logs stand, to which it is subscribed."""

    event: Literal["welcome"] = "welcome"
    message: str = "Connected to WebSocket Gateway"
    protocol: int
    features: Sequence[str]
    connection_id: str
    user_id: str
    instance_id: str
    resumed: bool
    heartbeat_seconds: float
    max_message_bytes: int
    channels: Mapping[str, Place]
    timestamp: str


class SessionExpiring(ServerFrame, frozen=True, kw_only=True, tag="system"):
    """The session ends soon; `refresh` with a new token keeps the connection."""

    event: Literal["session_expiring"] = "session_expiring"
    expires_at: str


class Ack(ServerFrame, frozen=True, kw_only=True, tag="ack", omit_defaults=True):
    """What answers a frame that carried an id: the message is safe, or the request is carried out."""

    id: str
    channel: str | UnsetType = UNSET
    status: Literal["published", "queued", "held"] | UnsetType = UNSET
    message_id: str | UnsetType = UNSET
    offset: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    duplicate: bool = False
    outcome: Annotated[Literal["stopped", "finished", "unknown"], Meta(description="of a `stop`")] | UnsetType = UNSET
    lease_seconds: Annotated[float, Meta(description="of a `consume`")] | UnsetType = UNSET


class Refusal(Struct, frozen=True):
    """Why something was not done."""

    code: str
    message: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What became of one channel of a `subscribe`: where it starts, or an error."""

    offset: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    recovered: Annotated[bool, Meta(description="when a position was given")] | UnsetType = UNSET
    missed: Annotated[int, Meta(description="publications that follow before live ones")] | UnsetType = UNSET
    reason: Annotated[str, Meta(description="why it was not recovered")] | UnsetType = UNSET
    error: Refusal | UnsetType = UNSET

    @classmethod
    def refused(cls, error: CityError) -> Outcome:
        """The channel is not subscribed to."""
        return cls(error=Refusal(error.code, error.message))


class Subscribed(ServerFrame, frozen=True, kw_only=True, tag="ack"):
    """What answers every `subscribe`: the position just before the next frame of each channel."""

    id: str | UnsetType = UNSET
    channels: Mapping[str, Outcome]


class Opened(Outcome, frozen=True, tag_field="type", tag="ack", kw_only=True):
    """The first event of a stream: the position just before the next one."""

    channel: str

    @classmethod
    def of(cls, channel: str, outcome: Outcome) -> Opened:
        """The outcome of one channel's subscription as an event of its own."""
        return cls(channel=channel, **asdict(outcome))


class Close(ServerFrame, frozen=True, kw_only=True, tag="close"):
    """The last event of a stream, with the codes with which a socket closes."""

    code: int
    reason: str


class Reset(ServerFrame, frozen=True, kw_only=True, tag="reset"):
    """Continuity broke: what follows on the channel starts after this position."""

    channel: str
    offset: int
    epoch: str
    reason: str


class Withdrawn(ServerFrame, frozen=True, kw_only=True, tag="withdrawn"):
    """A publication that came as provisional will not come again: it is void."""

    channel: str
    message_id: str
    duplicate_of: Annotated[str, Meta(description="the earlier publication under its key")] | UnsetType = UNSET


class Unsubscribed(ServerFrame, frozen=True, kw_only=True, tag="unsubscribed"):
    """The server ended a subscription."""

    channel: str
    code: str
    message: str


class Delivery(ServerFrame, frozen=True, kw_only=True, tag="delivery"):
    """One question, for this agent alone. The id is good for this attempt."""

    channel: str
    delivery_id: str
    attempt: int
    message: Raw


class Stopped(ServerFrame, frozen=True, kw_only=True, tag="stop"):
    """Nobody wants an answer to this delivery any more; whatever is said of it is stale."""

    delivery_id: str


class Error(ServerFrame, frozen=True, kw_only=True, tag="error"):
    """A frame was refused; the connection stays open."""

    code: str
    message: str
    retryable: bool
    retry_after: Annotated[float, Meta(description="seconds")] | UnsetType = UNSET
    id: str | UnsetType = UNSET
    delivery_id: str | UnsetType = UNSET

    @classmethod
    def of(cls, error: CityError, frame_id: str = "", delivery_id: str = "") -> Error:
        """What is said of a refusal."""
        return cls(
            code=error.code, message=error.message, retryable=error.retryable,
            retry_after=UNSET if error.retry_after is None else round(error.retry_after, 3),
            id=frame_id or UNSET, delivery_id=delivery_id or UNSET,
        )  # fmt: skip


class Pong(ServerFrame, frozen=True, kw_only=True, tag="pong"):
    """What answers a `ping`."""

    id: str | UnsetType = UNSET


class Heartbeat(ServerFrame, frozen=True, kw_only=True, tag="heartbeat"):
    """The server lives; who hears nothing for twice `heartbeat_seconds` reconnects."""
