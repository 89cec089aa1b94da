"""Revocations as every instance hears of them: small events on one channel of the bus.

An event only tells; what is revoked has been taken out of the store before. Who was cut off and missed
one asks `Identities.still_valid` on return.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from foundations.valkey import Valkey

CHANNEL = "bus:identities"


class Revocation(msgspec.Struct, frozen=True):
    """What was revoked: a session or a service token by its id, or all that a user had."""

    revoked: Literal["session", "user", "token"]
    id: str
    v: int = 1

    @classmethod
    def read(cls, payload: bytes) -> Revocation | None:
        """The event in a message of the bus, or None for one that a later release may have made.

        Raises:
            msgspec.DecodeError: the message is no JSON at all.
        """
        try:
            return _decoder.decode(payload)
        except msgspec.ValidationError:
            return None

    async def publish(self, valkey: Valkey) -> None:
        """Tells every instance. Telling twice does no harm.

        Raises:
            Unavailable: perhaps nobody was told; revoke again.
        """
        await valkey.command("SPUBLISH", valkey.key(CHANNEL), msgspec.json.encode(self))


_decoder = msgspec.json.Decoder(Revocation)
