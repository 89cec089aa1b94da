"""The protocol's frames as values: what the server sends.

How they are read is `encodings`; it deliberately decides nothing. Unknown types and fields pass, as the
protocol asks of clients.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

Payload = dict[str, Any]
"""A JSON object, as the platform carries it: its shape belongs to those who talk."""


class Position(NamedTuple):
    """A place in a channel's log: how far, and in which life of its store. As text ``OFFSET.EPOCH``."""

    offset: int
    epoch: str = ""

    def __str__(self) -> str:
        return f"{self.offset}.{self.epoch}" if self.epoch else str(self.offset)

    @classmethod
    def parse(cls, text: str) -> Position:
        """Reads ``OFFSET.EPOCH``, or a bare offset, which is taken in the current epoch.

        Raises:
            ValueError: anything else.
        """
        offset, _, epoch = text.partition(".")
        if not (offset.isascii() and offset.isdigit()):
            raise ValueError(f"{text!r} is not a position: OFFSET.EPOCH, as in 41.k3f9, or a bare offset")
        return cls(int(offset), epoch)

    def as_json(self) -> dict[str, int | str]:
        """As a subscribe frame carries it."""
        return {"offset": self.offset, "epoch": self.epoch} if self.epoch else {"offset": self.offset}


class Sender(msgspec.Struct, frozen=True):
    """Who published: a ``user``, an ``agent`` or a ``service``."""

    kind: str = ""
    id: str = ""
    name: str = ""


class Problem(msgspec.Struct, frozen=True):
    """An error inside of a frame."""

    code: str = "internal"
    message: str = ""
    retryable: bool = False
    retry_after: float | None = None


class Standing(msgspec.Struct, frozen=True):
    """One channel in a welcome or in the answer to a subscribe: where it stands, or why it does not."""

    offset: int = 0
    epoch: str = ""
    recovered: bool | None = None
    missed: int = 0
    reason: str = ""
    error: Problem | None = None

    @property
    def position(self) -> Position:
        return Position(self.offset, self.epoch)


class Frame(msgspec.Struct, frozen=True):
    """Any frame from the server: one flat value, whose fields have the protocol's names.

    Flat, because a tagged union would refuse the types that later releases add. ``message`` is a sentence
    in errors and a JSON object in deliveries.
    """

    type: str
    id: str = ""
    event: str = ""
    channel: str = ""
    message_id: str = ""
    timestamp: str = ""
    # a publication or an answer
    sender: Sender = Sender()
    intent: str = "chat"
    payload: Payload = {}
    in_reply_to: str = ""
    offset: int | None = None
    epoch: str = ""
    log: str = ""
    agent: str = ""
    conversation_id: str = ""
    stream: str = ""
    part: int = 0
    snapshot: bool = False
    error: Problem | None = None
    retrying: bool = False
    # acknowledgements and refusals
    status: str = ""
    duplicate: bool = False
    lease_seconds: float = 30.0
    channels: dict[str, Standing] = {}
    code: str = ""
    message: Any = None
    retryable: bool = False
    retry_after: float | None = None
    reason: str = ""
    # the welcome
    connection_id: str = ""
    user_id: str = ""
    instance_id: str = ""
    resumed: bool = False
    heartbeat_seconds: float = 25.0
    max_message_bytes: int = 4 * 1024 * 1024
    expires_at: Any = None
    outcome: str = ""
    # deliveries
    delivery_id: str = ""
    attempt: int = 1

    @property
    def sentence(self) -> str:
        """What ``message`` says to people."""
        return self.message if isinstance(self.message, str) else ""


class Acknowledged(NamedTuple):
    """A message is safe. ``offset`` and ``epoch`` are its place in the log; in an inbox it has none."""

    status: str
    message_id: str
    channel: str
    offset: int | None
    epoch: str
    duplicate: bool
