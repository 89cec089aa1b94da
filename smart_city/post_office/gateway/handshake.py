"""The opening handshake of a WebSocket (RFC 6455, 4.2): the answer to a request that has been read already.

websockets' `ServerProtocol` judges it, one object for all, since an answer depends on the request alone. Who may come
in is not known here.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from http import HTTPStatus
from typing import NamedTuple

from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from smart_city.post_office.gateway.messages import SUBPROTOCOL, SUBPROTOCOL_MSGPACK

quiet = logging.getLogger("smart_city.post_office.gateway.frames")


class Answer(NamedTuple):
    """What to say to a request, and what was agreed on."""

    response: bytes
    is_accepted: bool
    is_packed: bool
    """Whether MessagePack in binary messages, instead of JSON in text."""


def request_of(method: str, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> Request:
    """A request as an HTTP server has read it, which may have left the blanks behind a value (RFC 9112, 5.1).

    Raises:
        ValueError: its target is not ASCII.
    """
    named = Headers([(name.decode("latin-1"), value.strip(b" \t").decode("latin-1")) for name, value in headers])
    return Request(target.decode("ascii"), named, method)


class Handshakes:
    """Answers all requests of one door."""

    def __init__(self) -> None:
        self._protocol = ServerProtocol(logger=quiet, select_subprotocol=_select_subprotocol)

    def answer(self, request: Request) -> Answer:
        """Accepts the request, or says why not."""
        response = self._rejected(request) or self._protocol.accept(request)
        is_accepted = response.status_code == HTTPStatus.SWITCHING_PROTOCOLS
        is_packed = is_accepted and self._protocol.subprotocol == SUBPROTOCOL_MSGPACK
        return Answer(response.serialize(), is_accepted, is_packed)

    def _rejected(self, request: Request) -> Response | None:
        """A body behind the head would be taken for frames."""
        headers = request.headers
        if "Transfer-Encoding" in headers or not {"0"}.issuperset(headers.get_all("Content-Length")):
            return self._protocol.reject(HTTPStatus.BAD_REQUEST, "A WebSocket's request has no body.\n")
        return None


def _select_subprotocol(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    """The client's first choice of those spoken here."""
    return next((name for name in offered if name in (SUBPROTOCOL, SUBPROTOCOL_MSGPACK)), None)
