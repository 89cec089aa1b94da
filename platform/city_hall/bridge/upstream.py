"""The way to the platform: each request as one of the sessionless era, so that any instance may answer it.

A platform that restarts, or goes away for a while, costs the requests that were under way and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, TypeVar

import httpx2 as httpx
import mcp_types
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated, SubscriptionLost
from mcp.shared.dispatcher import ProgressFnT
from mcp_types.version import LATEST_MODERN_VERSION

from city_client import Refused, Unreachable
from city_client.addresses import Address
from city_client.operations import http_client, refusal

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
"""A request that waits is heard of at least every 15 seconds; a platform that is silent for longer is gone."""
PROBLEM = "application/problem+json"

Answer = TypeVar("Answer", bound=mcp_types.Result)
Value = TypeVar("Value")
Told = Callable[[Sequence[str]], Awaitable[None]]


class Upstream:
    """A platform's ``/mcp``, as an async context manager."""

    def __init__(self, url: str, token: str) -> None:
        address = Address.parse(url, token)
        self.url = address.http
        self._http = http_client(
            address, timeout=httpx.Timeout(CONNECT_SECONDS, read=READ_SECONDS), event_hooks={"response": [_refuse]}
        )

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def introduction(self) -> tuple[mcp_types.Implementation | None, str | None]:
        """Who the platform is, and what it tells its clients at the start.

        Raises:
            Unreachable: nothing answers there, or nothing that speaks MCP.
            Refused: it said no; the token, for one.
        """

        async def introduced(client: Client) -> tuple[mcp_types.Implementation | None, str | None]:
            return client.server_info, client.instructions

        try:
            return await self._spoken(introduced, mode="auto")
        except MCPError as error:
            raise Unreachable(f"{self.url}/mcp: {error}") from None

    async def ask(
        self, request: mcp_types.ClientRequest, answer: type[Answer], progress: ProgressFnT | None = None
    ) -> Answer:
        """The platform's answer.

        Raises:
            MCPError: its refusal, or that nothing answers.
        """

        async def asked(client: Client) -> Answer:
            return await client.session.send_request(request, answer, progress_callback=progress)

        return await self._told(asked)

    async def listen(self, uris: Sequence[str], acknowledged: Told, changed: Told) -> None:
        """Tells of changes, from the platform's acknowledgement until it ends the stream in peace.

        Raises:
            MCPError: it was refused, or lost.
        """

        async def listened(client: Client) -> None:
            async with client.listen(resource_subscriptions=uris) as stream:
                await acknowledged(stream.honored.resource_subscriptions or ())
                async for event in stream:
                    if isinstance(event, ResourceUpdated):
                        await changed([event.uri])

        await self._told(listened)

    async def _told(self, act: Callable[[Client], Awaitable[Value]]) -> Value:
        """As `_spoken`, every failure in MCP's words."""
        try:
            return await self._spoken(act, mode=LATEST_MODERN_VERSION)
        except Refused as refused:
            raise _error(refused.code, refused.message, retryable=refused.retryable) from None
        except Unreachable as lost:
            raise _error("unavailable", f"nothing answers at {lost}", retryable=True) from None

    async def _spoken(self, act: Callable[[Client], Awaitable[Value]], *, mode: str) -> Value:
        """Speaks to the platform in one exchange; what the exchange's tasks raise together is told as one error."""
        failure: Exception
        try:
            async with self._client(mode) as client:
                try:
                    return await act(client)
                except SubscriptionLost as lost:
                    failure = lost.__cause__ if isinstance(lost.__cause__, MCPError) else Unreachable(self.url)
                except MCPError as error:
                    failure = error
        except* Refused as refusals:
            failure = _first(refusals)
        except* httpx.TransportError as losses:
            lost_by = _first(losses)
            failure = Unreachable(f"{self.url}: {str(lost_by) or type(lost_by).__name__}")
        except* MCPError as errors:
            failure = _first(errors)
        raise failure

    def _client(self, mode: str) -> AbstractAsyncContextManager[Client]:
        return Client(streamable_http_client(f"{self.url}/mcp", http_client=self._http), mode=mode, cache=None)


async def _refuse(response: httpx.Response) -> None:
    """Raises what the platform's door says; refusals of the requests themselves are answers like any other."""
    is_problem = response.headers.get("content-type", "").startswith(PROBLEM)
    if is_problem or response.status_code in {401, 403}:
        await response.aread()
        raise refusal(response)


def _first(group: BaseExceptionGroup[Any]) -> Exception:
    """One of the errors in a group of groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, Exception)  # noqa: S101  # only exceptions are caught in groups here
    return found


def _error(code: str, message: str, *, retryable: bool) -> MCPError:
    told = {"success": False, "code": code, "message": message, "retryable": retryable}
    return MCPError(mcp_types.INTERNAL_ERROR if retryable else mcp_types.INVALID_REQUEST, message, told)
