"""``GET /api/channels/{channel}/events``: a channel's log as server-sent events, resumable from any position.

Opening a stream is called like every operation, with its limit, deadline and figures, but stands in no catalogue:
what it gives is no JSON. What is written, and how a reader keeps up, is the gateway's matter.
"""

from __future__ import annotations

import json
from random import randrange
from time import monotonic
from typing import Annotated, Any

from fastapi import FastAPI
from pydantic import ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from websockets.frames import CloseCode

from city_hall.surfaces.addresses import arguments_in, parameters
from city_hall.surfaces.callers import Door, Identify
from city_hall.surfaces.event_response import HEADERS, MEDIA_TYPE, EventResponse
from city_hall.surfaces.openapi import DocumentedRoute, named, secured
from foundations.errors import CityError, FieldError, InvalidArgument
from foundations.invocation import Invocation
from foundations.operations import Operation, Result, operation, operations_of
from foundations.settings import Settings
from smart_city.post_office.gateway import events
from smart_city.post_office.gateway.event_stream import SPREAD_MS, EventStream
from smart_city.post_office.gateway.event_streams import EventStreams
from smart_city.post_office.gateway.messages import encode
from smart_city.post_office.gateway.server_frames import Close
from smart_city.vocabulary import ChannelName, Identity, Position, PositionText

PATH = "/api/channels/{channel}/events"
RESUME = "last-event-id"


class Opened(Result):
    """A stream that waits to be written."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    stream: EventStream


class _Desk:
    """The operation behind the address."""

    def __init__(self, streams: EventStreams) -> None:
        self._streams = streams

    @operation(scope="post_office.history", sessions=True, read_only=True, example={"channel": "guide"})
    async def get_channel_events(
        self,
        caller: Identity,
        channel: ChannelName,
        since: Annotated[
            PositionText | None, Field(description="OFFSET.EPOCH, exclusive; without it what comes from now on")
        ] = None,
    ) -> Opened:
        """Streams a channel as server-sent events.

        The first event is an `ack` with the position where the stream starts and, when one was given, whether it was
        recovered. Publications follow as unnamed events whose id is their position; the header `Last-Event-ID` with
        such an id resumes after it, and wins over `since`. Errors: `unknown_channel`, `forbidden`, `overloaded`.
        """
        position = Position.parse(since) if since is not None else None
        return Opened(stream=await self._streams.open(caller, channel, position))


def bind_channel_events(
    app: FastAPI, streams: EventStreams, identify: Identify, invocation: Invocation, settings: Settings
) -> None:
    """Gives ``app`` the address."""
    door = Door(identify, settings)
    [opening] = operations_of(_Desk(streams), "post_office")
    schema = opening.arguments.model_json_schema()

    async def read(request: Request) -> Response:
        _check_accepted(request)
        try:
            return await stream(request)
        except CityError as error:
            if error.retryable and request.headers.get("accept") == MEDIA_TYPE:
                return _later(error)
            raise

    async def stream(request: Request) -> Response:
        began = monotonic()
        caller = await door.caller(request)
        arguments = _resumed(arguments_in(request, schema), request.headers.get(RESUME, ""))
        opened = await invocation(opening, caller, arguments, traceparent=request.headers.get("traceparent", ""))
        assert isinstance(opened, Opened)  # noqa: S101  # what the operation says
        if request.method == "HEAD":
            streams.let_go(opened.stream, "only asked about")
            return Response(headers=HEADERS, media_type=MEDIA_TYPE)
        opened.stream.address = request.client.host if request.client else ""
        streams.check(opened.stream, began)
        return EventResponse(
            opened.stream,
            streams.let_go,
            cut_after=settings.close_seconds,
            patience=2 * settings.heartbeat_seconds,
            stall_seconds=settings.stall_seconds,
        )

    app.router.routes.append(DocumentedRoute(PATH, read, method="GET", described=_described(opening, schema)))


def _check_accepted(request: Request) -> None:
    """Refuses a client that says it cannot read events; most say nothing, or take everything."""
    accepted = request.headers.get("accept", "") or "*/*"
    for offer in accepted.lower().split(","):
        kind, *options = (part.strip() for part in offer.split(";"))
        if kind in {MEDIA_TYPE, "text/*", "*/*"} and not {"q=0", "q=0.0", "q=0.00", "q=0.000"} & set(options):
            return
    raise HTTPException(406)


def _later(error: CityError) -> Response:
    """Asks an `EventSource` to come back, by an event: any status but 200 would end it for good."""
    wait = round(1000 * (error.retry_after or 0)) + randrange(SPREAD_MS)  # noqa: S311  # no secret
    told = encode(Close(code=error.close_code or CloseCode.TRY_AGAIN_LATER, reason=error.message))
    return Response(events.retry(wait) + events.event(told, "close"), headers=dict(HEADERS), media_type=MEDIA_TYPE)


def _resumed(raw: bytes, last: str) -> bytes:
    """The arguments with the id of the last event that the client has seen, which it knows better than its URL."""
    if not last:
        return raw
    try:
        Position.parse(last)
    except ValueError as error:
        raise InvalidArgument(f"Last-Event-ID: {error}", errors=[FieldError("Last-Event-ID", str(error))]) from None
    return json.dumps({**json.loads(raw), "since": last}).encode()


def _described(opening: Operation, schema: dict[str, Any]) -> dict[str, Any]:
    last = {
        "name": "Last-Event-ID", "in": "header", "required": False, "example": "41.k3f9",
        "description": "the id of the last event seen; wins over `since`", "schema": {"type": "string"},
    }  # fmt: skip
    example = (
        'retry: 2000\n\nevent: ack\nid: 41.k3f9\ndata: {"type":"ack","channel":"guide","offset":41,"epoch":"k3f9"}\n\n'
        'id: 42.k3f9\ndata: {"type":"message","channel":"guide","payload":{"message":"hello"},…}\n\n:heartbeat\n\n'
    )
    content = {MEDIA_TYPE: {"schema": {"type": "string"}, "example": example}}
    return {
        "operationId": named(PATH),
        **secured(opening, {"description": "Events, until one side ends the stream.", "content": content}),
        "parameters": [*parameters(PATH, schema, opening.declared.example), last],
    }
