"""The way past the router for what is called all day: exact addresses, found with one look into a table.

It serves what `http` and `later` put there and nothing else; what is not in the table, another method or a misspelt
name, goes the framework's way. That way tries route after route: it takes 40 of the 315 µs of a publication.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from city_hall.surfaces.problems import gone, refusal
from foundations.errors import CityError

Endpoint = Callable[[Request], Awaitable[Response]]
Table = dict[str, ASGIApp]
"""Applications by the paths whose POSTs they answer. What they raise is answered here, as behind the router."""


def answering(endpoint: Endpoint) -> ASGIApp:
    """An application of a function that answers requests."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    return answer


class Direct:
    """Hands POSTs to who is in the ``table``, which may be filled later, and everything else on."""

    def __init__(self, app: ASGIApp, table: Table) -> None:
        self._app = app
        self._table = table

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = self._table.get(scope["path"]) if scope.get("method") == "POST" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        try:
            await found(scope, receive, send)
        except CityError as error:
            await refusal(error, Request(scope))(scope, receive, send)
        except ClientDisconnect:
            await gone()(scope, receive, send)
