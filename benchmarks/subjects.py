"""What every server under test offers to the harness, whoever made it.

A subject starts a server in its own way, says how a client becomes a subscriber there, and publishes in the way that
its users do. It measures nothing: the load generator and `measure` do, the same for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self


class Missing(Exception):
    """A subject that cannot be had on this machine; the sentence says why. The report names it as missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Audience:
    """How client number ``n`` becomes a subscriber: a WebSocket handshake, then text frames, until it is ready.

    In ``path``, ``headers`` and ``opening``, ``{n}`` stands for the client's number, ``{credential}`` for
    ``credentials[n % len(credentials)]``, and ``{captured}`` for what the last opening captured.
    """

    path: str = "/"
    headers: Sequence[str] = ()
    """Lines as they are sent: ``Authorization: Bearer {credential}``."""
    subprotocol: str = ""
    opening: Sequence[str] = ()
    """Text frames that are sent, in this order and without waiting, after the handshake."""
    ready: bytes = b""
    """The client is subscribed once what came contains these bytes; empty: after the handshake."""
    heartbeat: tuple[bytes, bytes] | None = None
    """What must be answered, and with what, as a text frame (``2`` → ``3``). One of a single byte is a whole frame;
    a longer one may stand anywhere in it. Pings of the WebSocket protocol are answered in any case."""
    credentials: Sequence[str] = ()
    capture: bytes = b""
    """The first text between these bytes and the next ``"`` is kept, for `Load.reopen`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Audience):
    """A client that asks and is answered. A request may have ``{n}``, ``{id}`` (its own number) and ``{t}`` (now)."""

    request: str
    answer: bytes
    """Every place where what came contains these bytes is one answer. They come in the order of the requests."""


class Subject(Protocol):
    """A server under test. Entered, it is up; left, nothing of it runs any more.

    Entering raises `Missing` when it cannot be had here. All that it starts ends with the harness, also when that is
    killed (`benchmarks.processes`).
    """

    @property
    def name(self) -> str:
        """What it is called in tables."""
        ...

    @property
    def version(self) -> str:
        """Which release of it runs, once it is entered."""
        ...

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int:
        """Where clients connect, once it is entered."""
        ...

    @property
    def processes(self) -> Sequence[int]:
        """The processes whose CPU and memory are the server's."""
        ...

    @property
    def store(self) -> Sequence[int]:
        """Those of the store beside it, told apart in reports; empty if it has none."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    async def audience(self, channel: str, clients: int) -> Audience:
        """How so many clients subscribe to a channel; its name may hold ``{n}``, one channel for each client then.

        Cases call channels ``c0``, ``c1`` and so on. Credentials and whatever else clients need are made here.
        """
        ...

    async def publish(self, channel: str, payload: bytes) -> None:
        """Publishes one JSON object and waits until the server has taken it, in the way its users would.

        Subscribers must get the object as it is, within whatever envelope: clients look for its ``"t":<nanoseconds>``.
        """
        ...

    async def publish_batch(self, publications: Sequence[tuple[str, bytes]]) -> None:
        """Publishes many (channel, payload), as fast as the server can take them; on each channel in their order."""
        ...


class Acknowledging(Subject, Protocol):
    """A subject that acknowledges each message of a client."""

    async def acknowledged(self, clients: int) -> Exchange:
        """How so many clients send messages that are acknowledged."""
        ...


class Conversing(Subject, Protocol):
    """A subject with an agent (another client, in a process of its own) that answers what users ask through it."""

    async def conversation(self, clients: int) -> Exchange:
        """How so many users ask the agent and get its answers."""
        ...
