"""Who may come in: the path, the origin, the token and where it came from, and whether there is room.

It decides from the handshake alone; finding the identity behind the token is the sessions' matter.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from websockets.datastructures import Headers
from websockets.http11 import Request

from foundations.errors import NotFound, OriginNotAllowed, Overloaded, Unauthenticated
from foundations.proxies import TrustedProxies

PATH = "/ws"
COOKIE = "session_token"
TOKEN_SUBPROTOCOL = "token."  # noqa: S105  # a prefix, not a password
FULL_RETRY_AFTER = 5.0
_CONNECTION_ID = re.compile(r"c[0-9a-f]{20}")


@dataclass(frozen=True, slots=True)
class Admission:
    """The rules of one instance."""

    allowed_origins: tuple[str, ...]
    max_connections: int
    proxies: TrustedProxies

    def address_of(self, request: Request, peer: str) -> str:
        """Where the client is, behind the proxies that are trusted."""
        return self.proxies.client(peer, request.headers.get_all("X-Forwarded-For"))

    def token_of(self, request: Request, *, connections: int) -> str:
        """The token that the handshake carries.

        Raises:
            NotFound: another path than ``/ws``.
            OriginNotAllowed: a browser page of a foreign origin.
            Overloaded: no room for one more.
            Unauthenticated: no token.
        """
        path, _, query = request.path.partition("?")
        if path != PATH:
            raise NotFound(f"WebSockets are served at {PATH}")
        origin = _only(request.headers, "Origin")
        if origin and not self._is_allowed(origin, request.headers):
            raise OriginNotAllowed(f"the origin {origin[:60]!r} is not among SMART_CITY_ALLOWED_ORIGINS")
        self.check_room(connections)
        token = _from_query(query) or _from_headers(request.headers)
        if not token and origin:
            token = _from_cookie(request.headers)
        if not token:
            raise Unauthenticated("no session_token came with the handshake")
        return token

    def resume_of(self, request: Request) -> str:
        """The id of the connection that the handshake asks to resume; empty when it names none that there could be."""
        if "resume=" not in request.path:
            return ""
        asked = parse_qs(request.path.partition("?")[2]).get("resume", [""])[0]
        return asked if _CONNECTION_ID.fullmatch(asked) else ""

    def check_room(self, connections: int) -> None:
        """Lets one more in beside so many.

        Raises:
            Overloaded: no room for one more.
        """
        if connections >= self.max_connections:
            raise Overloaded("this instance holds all the connections it may", retry_after=FULL_RETRY_AFTER)

    def _is_allowed(self, origin: str, headers: Headers) -> bool:
        return origin in self.allowed_origins or origin.partition("://")[2] == _only(headers, "Host")


def _only(headers: Headers, name: str) -> str:
    """A header that may be there once, empty when it is not.

    Raises:
        OriginNotAllowed: it is there twice, so that nobody can say which one counts.
    """
    found = headers.get_all(name)
    if len(found) > 1:
        raise OriginNotAllowed(f"the handshake has the header {name} more than once")
    return found[0] if found else ""


def _from_query(query: str) -> str:
    return parse_qs(query).get("session_token", [""])[0] if "session_token=" in query else ""


def _from_headers(headers: Headers) -> str:
    scheme, _, token = _only(headers, "Authorization").partition(" ")
    if scheme.lower() == "bearer" and token:
        return token.strip()
    for line in headers.get_all("Sec-WebSocket-Protocol"):
        for offered in line.split(","):
            if offered.strip().startswith(TOKEN_SUBPROTOCOL):
                return offered.strip().removeprefix(TOKEN_SUBPROTOCOL)
    return ""


def _from_cookie(headers: Headers) -> str:
    """The session's cookie; only asked for when an allowed origin came with it."""
    try:
        cookies = SimpleCookie("; ".join(headers.get_all("Cookie")))
    except CookieError:
        return ""
    return cookies[COOKIE].value if COOKIE in cookies else ""
