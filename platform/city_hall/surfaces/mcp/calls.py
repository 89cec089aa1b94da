"""Calls that wait for something: they tell how long they have waited, and end at once when their caller wants it.

A caller of the sessionless era leaves by closing its request, which cancels the handler; one of the handshake era
says so in a request of its own, which finds the call here by its name. What a call takes is its operation's affair.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple, TypeVar

import anyio
from mcp.server import ServerRequestContext
from mcp.server.streamable_http import REQUEST_CANCELLED
from mcp.shared.exceptions import MCPError
from starlette.requests import Request

from city_hall.surfaces.mcp.session_store import SessionName

PROGRESS_SECONDS = 1.0
"""How often a client that gave a token hears that its call still waits: far below any client's patience."""
SESSION_HEADER = "mcp-session-id"
Value = TypeVar("Value")


class CallName(NamedTuple):
    """A call of the handshake era: a request's id is its client's, and unique in that client's session."""

    session: SessionName
    request_id: str


class Calls:
    """The waiting calls of this instance."""

    def __init__(self) -> None:
        self._named: dict[CallName, asyncio.Task[Any]] = {}

    async def wait(
        self, context: ServerRequestContext[Any, Any], called: Coroutine[Any, Any, Value], name: CallName | None
    ) -> Value:
        """The call's result.

        Raises:
            MCPError: it was cancelled by its name.
        """
        work = asyncio.create_task(called)
        if name is not None:
            self._named[name] = work
        try:
            async with _telling(context):
                await asyncio.wait({work})
            if work.cancelled():
                raise MCPError(REQUEST_CANCELLED, "Request cancelled")
            return work.result()
        finally:
            if name is not None and self._named.get(name) is work:
                del self._named[name]
            await _ended(work)

    def cancel(self, name: CallName) -> None:
        """Ends a call, if it is here and still waits."""
        if (work := self._named.get(name)) is not None:
            work.cancel()


def session_of(request: Request) -> SessionName | None:
    """The session that a request names; None when it names none, or none that could be."""
    return SessionName.of(request.user.subject, request.headers.get(SESSION_HEADER, ""))


def name_of(context: ServerRequestContext[Any, Request]) -> CallName | None:
    """By what name a call may be cancelled; without a session, by closing its request."""
    assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
    session = session_of(context.request)
    return CallName(session, str(context.request_id)) if session else None


@asynccontextmanager
async def _telling(context: ServerRequestContext[Any, Any]) -> AsyncIterator[None]:
    """Tells a client that gave a progress token, each second, that its call still waits."""
    if not (context.meta and "progress_token" in context.meta):
        yield
        return
    telling = asyncio.create_task(_tell(context))
    try:
        yield
    finally:
        await _ended(telling)


async def _tell(context: ServerRequestContext[Any, Any]) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()
    while True:
        await asyncio.sleep(PROGRESS_SECONDS)
        waited = clock() - began
        await context.session.report_progress(round(waited, 3), message=f"waiting for {waited:.0f} s")


async def _ended(task: asyncio.Task[Any]) -> None:
    """Ends a task and waits until it has, also while this one is being cancelled itself."""
    task.cancel()
    with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):
        await asyncio.wait({task})
