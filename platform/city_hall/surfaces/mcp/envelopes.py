"""What has to be known of a message before the SDK reads it: what it asks for, and of what.

It judges nothing: what is no message of the protocol is left to the SDK, and looks empty here.
"""

from __future__ import annotations

import msgspec


class Named(msgspec.Struct):
    """What a message is about: a tool or a prompt, a resource, or a request that is to be cancelled."""

    name: str = ""
    uri: str = ""
    request_id: int | str | None = msgspec.field(default=None, name="requestId")


class Envelope(msgspec.Struct):
    """A message without its arguments."""

    method: str = ""
    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    params: Named = msgspec.field(default_factory=Named)

    @property
    def is_notification(self) -> bool:
        """Whether nobody waits for an answer."""
        return self.id is msgspec.UNSET


_decoder = msgspec.json.Decoder(Envelope)


def envelope_of(body: bytes) -> Envelope:
    """What a message asks for; nothing where it is not understood."""
    try:
        return _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Envelope()
