"""Who calls over HTTP: the identity behind a bearer token, or behind the session cookie of an allowed page.

It checks no rights on operations (invocation does) and keeps nothing: Traffic Cop remembers identities.
"""

from __future__ import annotations

from typing import Protocol

from starlette.requests import HTTPConnection

from foundations.errors import CityError, Forbidden, OriginNotAllowed, Unauthenticated
from foundations.settings import Settings
from smart_city.vocabulary import Identity

COOKIE = "session_token"
"""The cookie that carries a browser's session."""


class Identify(Protocol):
    """Traffic Cop's answer to "who is this?"."""

    async def __call__(self, token: str, /, *, address: str = "") -> Identity:
        """The identity behind the token that came from ``address``.

        Raises:
            Unauthenticated: there is none.
            RateLimited: too much that came from there was nobody's.
            Unavailable: nobody can tell.
        """
        ...


class Door:
    """Finds out who stands before it."""

    def __init__(self, identify: Identify, settings: Settings) -> None:
        self._identify = identify
        self._origins = frozenset(settings.allowed_origins) | {settings.public_origin}

    async def caller(self, request: HTTPConnection) -> Identity:
        """Who sends this request.

        Raises:
            Unauthenticated: no token, or none that is good.
            RateLimited: too many that are not good came from there.
            OriginNotAllowed: a cookie sent along by a page of a foreign origin.
        """
        address = request.client.host if request.client else ""
        return await self._identify(self._token(request), address=address)

    async def caller_with(self, request: HTTPConnection, scope: str) -> Identity:
        """The caller, who must have ``scope``; with an empty one, any scope at all."""
        caller = await self.caller(request)
        if caller.kind == "operator" or (scope in caller.scopes if scope else caller.scopes):
            return caller
        raise Forbidden(f"this needs a token with {f'the scope {scope}' if scope else 'a scope'}")

    async def is_trusted(self, request: HTTPConnection, scope: str) -> bool:
        """Whether the caller has ``scope``, where strangers are welcome too and a bad token is no error."""
        if not (request.headers.get("authorization") or COOKIE in request.cookies):
            return False
        try:
            await self.caller_with(request, scope)
        except CityError:
            return False
        return True

    def _token(self, request: HTTPConnection) -> str:
        header = request.headers.get("authorization", "")
        if header:
            scheme, _, token = header.partition(" ")
            if scheme.lower() != "bearer" or not token.strip():
                raise Unauthenticated("the Authorization header must read: Bearer TOKEN")
            return token.strip()
        cookie = request.cookies.get(COOKIE, "")
        if not cookie:
            raise Unauthenticated("this needs a token: Authorization: Bearer TOKEN")
        if not self._is_allowed(request):
            raise OriginNotAllowed("a page of this origin may not use the session of the browser")
        return cookie

    def _is_allowed(self, request: HTTPConnection) -> bool:
        """Where a page only shows or loads something a browser names no origin, but says whether it is its own."""
        origin = request.headers.get("origin")
        if origin is None:
            return request.headers.get("sec-fetch-site", "none") in {"none", "same-origin"}
        return origin in self._origins or origin.partition("://")[2] == request.headers.get("host")
