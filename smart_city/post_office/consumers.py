"""Consumers of agents that live by tools alone: who reads what from where, kept in the store between their calls.

A consumer can be used on any instance and is gone ten minutes after its last call. What it reads is the
operations' matter.
"""

from __future__ import annotations

import secrets
from typing import Literal

import msgspec
from msgspec import Struct

from foundations.errors import Forbidden, NotFound
from foundations.valkey import Valkey
from smart_city.vocabulary import Identity, Position

IDLE_SECONDS = 600
Mode = Literal["log", "inbox"]


class Consumer(Struct, frozen=True, kw_only=True):
    """One consumer: in mode ``log`` it has a position, in mode ``inbox`` its deliveries have leases."""

    v: int = 1
    consumer: str
    realm: str
    channel: str
    mode: Mode
    offset: int = 0
    epoch: str = ""

    @property
    def position(self) -> Position:
        """What it has acknowledged in its log."""
        return Position(self.offset, self.epoch)


class Consumers:
    """The consumers of all instances."""

    def __init__(self, valkey: Valkey) -> None:
        self._valkey = valkey

    async def create(self, *, realm: str, channel: str, mode: Mode, position: Position) -> Consumer:
        """Begins a consumer."""
        consumer = Consumer(
            consumer=secrets.token_hex(10), realm=realm, channel=channel, mode=mode,
            offset=position.offset, epoch=position.epoch,
        )  # fmt: skip
        await self._write(consumer)
        return consumer

    async def find(self, consumer: str, caller: Identity) -> Consumer:
        """A consumer of the caller's, good for another ten minutes.

        Raises:
            NotFound: there is none, or it was not used for ten minutes.
            Forbidden: it belongs to another realm.
        """
        data = await self._valkey.command("GETEX", self._key(consumer), "EX", IDLE_SECONDS)
        if data is None:
            raise NotFound(f"there is no consumer {consumer!r} (any more); call subscribe_to_channel again")
        found = msgspec.json.decode(data, type=Consumer)
        if found.realm != caller.realm and caller.kind != "operator":
            raise Forbidden(f"the consumer {consumer!r} belongs to another realm")
        return found

    async def move(self, consumer: Consumer, position: Position) -> None:
        """Notes what a consumer of a log has acknowledged."""
        await self._write(msgspec.structs.replace(consumer, offset=position.offset, epoch=position.epoch))

    async def _write(self, consumer: Consumer) -> None:
        await self._valkey.command(
            "SET", self._key(consumer.consumer), msgspec.json.encode(consumer), "EX", IDLE_SECONDS
        )

    def _key(self, consumer: str) -> str:
        return self._valkey.key(f"consumer:{{{consumer}}}")
