"""What a socket needs of the two beside it: the door that lets it in, and whoever it was let in as."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from websockets.http11 import Request

from smart_city.post_office.gateway.backlog import Patience
from smart_city.post_office.gateway.handshake import Handshakes
from smart_city.post_office.gateway.readers import Readers
from smart_city.post_office.gateway.round import Round

if TYPE_CHECKING:
    from smart_city.post_office.gateway.socket import Socket


class Door(Protocol):
    """Where sockets arrive and leave: the gateway."""

    round: Round
    max_message_bytes: int
    patience: Patience
    close_seconds: float
    handshakes: Handshakes
    readers: Readers
    pack: Callable[[bytes], bytes]
    """Makes the frames of a client of MessagePack from those of all others."""

    def arrived(self, socket: Socket, request: Request) -> None:
        """A handshake is complete; admit the socket or close it."""
        ...

    def too_slow(self, socket: Socket) -> None:
        """The socket is behind, and takes nothing."""
        ...


class Listener(Protocol):
    """Whoever a socket was admitted as: a connection."""

    def received(self, data: bytes, is_text: bool) -> None:
        """One whole message; text is known to be UTF-8."""
        ...

    def heard(self) -> None:
        """Something arrived: the peer lives."""
        ...

    def ponged(self, data: bytes) -> None:
        """A pong arrived, with what it brings back."""
        ...

    def lagging(self, is_lagging: bool) -> None:
        """The peer does not take what is sent as it comes; or it has caught up."""
        ...

    def closed(self, code: int, reason: str) -> None:
        """The socket is gone; 1006 when it went without a closing handshake."""
        ...
