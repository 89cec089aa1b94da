"""The operations' way past the router: their addresses are exact, and one look into a table finds them.

It serves what `http` binds and nothing else; what is not in the table, another method or a misspelt name, goes the
framework's way. That way tries route after route and costs a call as much as everything else that HTTP does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from city_hall.surfaces.problems import gone, refusal
from foundations.errors import CityError

Endpoint = Callable[[Request], Awaitable[Response]]


class Direct:
    """Answers POSTs to the addresses in ``endpoints``, which may be filled later."""

    def __init__(self, app: ASGIApp, endpoints: Mapping[str, Endpoint]) -> None:
        self._app = app
        self._endpoints = endpoints

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        endpoint = self._endpoints.get(scope["path"]) if scope.get("method") == "POST" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await endpoint(request)
        except CityError as error:
            response = refusal(error, request)
        except ClientDisconnect:
            response = gone()
        await response(scope, receive, send)
