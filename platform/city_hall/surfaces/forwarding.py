"""The client's address and scheme in a request's scope, as the proxies that are trusted tell them.

Over HTTP what `gateway.admission` does for sockets, by the same rules: which proxies count is `foundations.proxies`'.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from foundations.proxies import TrustedProxies

_SCHEMES = frozenset(("http", "https"))


class Forwarding:
    """Rewrites the scope of every request, for what comes after it and for the access log."""

    def __init__(self, app: ASGIApp, proxies: TrustedProxies) -> None:
        self._app = app
        self._proxies = proxies

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (peer := scope.get("client")) and self._proxies.trust(peer[0]):
            headers = Headers(scope=scope)
            client = self._proxies.client(peer[0], headers.getlist("x-forwarded-for"))
            if client != peer[0]:
                scope["client"] = (client, 0)
            if (scheme := headers.get("x-forwarded-proto", "").strip()) in _SCHEMES:
                scope["scheme"] = scheme
        await self._app(scope, receive, send)
