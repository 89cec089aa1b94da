"""One RESP3 connection that hands on every reply in the turn of the event loop in which it arrives.

It exists because the bus carries all traffic, and redis-py's `PubSub` formats, logs and awaits each message.
It neither reconnects nor knows what replies mean; where to connect, and as whom, redis-py's pool tells it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.asyncio.connection import (
    AbstractConnection,
    Connection,
    ConnectionPool,
    SSLConnection,
    UnixDomainSocketConnection,
)

from foundations.valkey.refusals import unrepeated

Reply = Any
Argument = bytes | str | int | float
_NOT_YET = object()
# The stub says "tuple of one" where the function takes any.
packed = cast(Callable[[tuple[Argument, ...]], bytes], hiredis.pack_command)


class WireLost(Exception):
    """The connection could not be opened, or broke; the text says why."""


class Wire(asyncio.Protocol):
    """One connection; ``on_reply`` gets each reply parsed.

    `lost` is done, with the reason, once nothing will come any more; `closed` when the socket is closed, too.
    """

    def __init__(self, on_reply: Callable[[Reply], None]) -> None:
        loop = asyncio.get_running_loop()
        self.lost: asyncio.Future[str] = loop.create_future()
        self.closed: asyncio.Future[None] = loop.create_future()
        self._on_reply = on_reply
        self._reader = hiredis.Reader(notEnoughData=_NOT_YET)
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, pool: ConnectionPool, on_reply: Callable[[Reply], None], *, seconds: float, name: str) -> Wire:
        """Connects and greets within ``seconds``; the server has then answered PING, so it is not loading.

        Raises:
            WireLost: it could not be done.
        """
        # Never opened: it only knows address, credentials and TLS.
        target = cast(Callable[[], AbstractConnection], pool.make_connection)()
        greeting = _Greeting()
        wire = cls(greeting.received)
        try:
            async with asyncio.timeout(seconds):
                await _connect(wire, target)
                for command in _greetings(target, name):
                    greeting.expected += 1
                    wire.write(packed(command))
                await asyncio.wait((greeting.done, wire.lost), return_when=asyncio.FIRST_COMPLETED)
        except (OSError, ssl.SSLError) as error:  # a timeout is an OSError
            await wire.close(f"{type(error).__name__} {error}".rstrip())
            raise WireLost(wire.lost.result()) from error
        except asyncio.CancelledError:
            wire.abort("cancelled")
            raise
        if not greeting.done.done() or greeting.done.result():
            await wire.close(greeting.done.result() if greeting.done.done() else "closed")
            raise WireLost(wire.lost.result())
        wire._on_reply = on_reply
        return wire

    def write(self, commands: bytes) -> None:
        """Writes commands that are packed. After the connection's end it does nothing: `lost` has said so."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(commands)

    def abort(self, reason: str) -> None:
        """Ends the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        self._end(reason)

    async def close(self, reason: str) -> None:
        """Ends the connection and waits until its socket is closed."""
        self.abort(reason)
        if self._transport is not None:
            await asyncio.shield(self.closed)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own is no subclass

    def data_received(self, data: bytes) -> None:
        reader, on_reply = self._reader, self._on_reply
        try:
            reader.feed(data)
            while (reply := reader.gets()) is not _NOT_YET:
                on_reply(reply)
        except hiredis.ProtocolError as error:
            self.abort(f"not RESP3: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set_result(None)
        self._end(str(exc) if exc else "closed by the server")

    def _end(self, reason: str) -> None:
        if not self.lost.done():
            self.lost.set_result(reason)


class _Greeting:
    """Waits for the replies to what is said first. The result is empty, or the first refusal."""

    def __init__(self) -> None:
        self.expected = 0
        self.done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def received(self, reply: Reply) -> None:
        if self.done.done() or isinstance(reply, hiredis.PushNotification):
            return
        self.expected -= 1
        if isinstance(reply, hiredis.ReplyError):
            self.done.set_result(unrepeated(str(reply)))
        elif self.expected == 0:
            self.done.set_result("")


async def _connect(wire: Wire, target: AbstractConnection) -> None:
    loop = asyncio.get_running_loop()
    if isinstance(target, UnixDomainSocketConnection):
        await loop.create_unix_connection(lambda: wire, target.path)
    elif isinstance(target, SSLConnection):
        await loop.create_connection(
            lambda: wire, target.host, target.port, ssl=target.ssl_context.get(), server_hostname=target.host
        )
    elif isinstance(target, Connection):
        await loop.create_connection(lambda: wire, target.host, target.port)


def _greetings(target: AbstractConnection, name: str) -> list[tuple[Argument, ...]]:
    """Who we are, which database, and a PING, which a server that still loads its data refuses."""
    login: tuple[Argument, ...] = ()
    if target.password is not None:
        login = ("AUTH", target.username or "default", target.password)
    select: list[tuple[Argument, ...]] = [("SELECT", target.db)] if int(target.db) else []
    return [("HELLO", "3", *login, "SETNAME", name), *select, ("PING",)]
