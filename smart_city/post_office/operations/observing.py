"""Looking around: operations that tell of channels, queues and history. Who is connected is told by `connections`."""

from __future__ import annotations

import asyncio
from typing import Annotated, Literal, Protocol

from pydantic import Field

from foundations.errors import Conflict, FieldError, Unauthenticated
from foundations.operations import Result, operation
from foundations.rates import Rate
from foundations.written import Shape, Written
from smart_city.post_office.channels import Channels
from smart_city.post_office.fleet import Fleet
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.questions import Circuit
from smart_city.post_office.log import ChannelLog
from smart_city.post_office.operations.publishing import RealmArgument
from smart_city.post_office.publications import end_of, written_of
from smart_city.vocabulary import ChannelName, Identity, JsonObject, Position, PositionText


class Endpoint(Result):
    """Where and how a browser connects."""

    websocket_url: str
    channels: list[str]
    message_format: JsonObject


class History(Result):
    """Publications of a channel, oldest first, and the position after them: the next page's ``since``."""

    channel: str
    publications: Annotated[Written, Shape(list[JsonObject])]
    offset: int
    epoch: str
    oldest: int = Field(description="the offset of the oldest that is kept: going back ends there")
    recovered: bool | None = Field(default=None, description="given with since: whether nothing after it is missing")
    reason: str | None = Field(default=None, description="why not: trimmed, unknown_epoch, diverged, future")


class ChannelListed(Result):
    """One channel: its newest position, and how many listen."""

    channel: str
    kind: Literal["agent"]
    kept: Literal["history"]
    subscribers: int
    offset: int
    epoch: str
    circuit: Circuit = Field(description="which questions its inbox takes, as in get_queue_status")


class ChannelsListed(Result):
    """The public channels that exist here."""

    channels: list[ChannelListed]


class QueueStanding(Result):
    """How an agent's inbox stands."""

    depth: int
    capacity: int
    oldest_age_seconds: float | None = None
    consumers: int
    circuit: Circuit = Field(
        description="whether it takes questions: closed (all), open (none for now), half_open (a few)"
    )
    dead_letters: int


class QueueStatus(Result):
    """Inboxes by channel."""

    channels: dict[str, QueueStanding]


class Tickets(Protocol):
    """Who checks session tokens and exchanges them for single-use ones."""

    async def identify(self, token: str) -> Identity: ...

    async def ticket_for(self, token: str) -> str: ...


class Observing:
    """The operations of whoever wants to know what goes on."""

    def __init__(
        self, *, log: ChannelLog, inbox: Inbox, channels: Channels, fleet: Fleet, tickets: Tickets,
        websocket_url: str,
    ) -> None:  # fmt: skip
        self._log = log
        self._inbox = inbox
        self._channels = channels
        self._fleet = fleet
        self._tickets = tickets
        self._websocket_url = websocket_url

    @operation(
        scope="traffic_cop.sessions", read_only=False, idempotent=True,
        example={"session_token": "ses_…", "realm": "operator", "ticket": False},
    )  # fmt: skip
    async def get_websocket_endpoint(
        self,
        caller: Identity,
        session_token: Annotated[str, Field(min_length=1, max_length=256)],
        realm: RealmArgument = None,
        ticket: Annotated[bool, Field(description="hand out a single-use token of a minute instead")] = False,
    ) -> Endpoint:
        """Says where a browser with this session connects, and what it may say there.

        The URL carries the token passed in, or with `ticket` one that works once within a minute and may be seen
        in a log. Errors: `unauthenticated` (not a living session), `forbidden` (another realm).
        """
        caller.acting_as(realm)
        who = await self._tickets.identify(session_token) if not ticket else None
        if who is not None and not who.is_user:
            raise Unauthenticated("this is not the token of a session")
        token = await self._tickets.ticket_for(session_token) if ticket else session_token
        return Endpoint(
            websocket_url=f"{self._websocket_url}?session_token={token}",
            channels=list(self._channels.agents),
            message_format={
                "channel": " | ".join(self._channels.agents),
                "intent": "chat | query | command",
                "payload": {"message": "text", "conversation_id": "optional", "metadata": {}},
            },
        )

    @operation(
        scope="post_office.history", sessions=True, read_only=True, example={"channel": "guide", "limit": 20},
        rate=Rate(200, 1000),
    )  # fmt: skip
    async def get_channel_history(
        self,
        caller: Identity,
        channel: ChannelName,
        since: Annotated[
            PositionText | None, Field(description="OFFSET.EPOCH, exclusive; without it the newest ones")
        ] = None,
        limit: Annotated[int, Field(ge=1, le=500)] = 50,
        before: Annotated[
            int | None, Field(ge=1, description="an offset, exclusive: the page that ends there, to go back in time")
        ] = None,
    ) -> History:
        """Reads a page of a channel's log.

        Without `since` the newest `limit` publications, or the ones right before `before`; with it those that
        follow. Fewer come where the log ends, or where they are more than a MiB together: going on after the
        last one, or back before the first, misses nothing. A position that is not good any more gives
        `recovered: false`, a reason, and the newest position.
        Errors: `unknown_channel`, `forbidden`, `conflict` (`since` and `before` together).
        """
        self._channels.check(caller, "history", channel)
        if since is not None and before is not None:
            told = "goes either forward with since or back with before"
            raise Conflict(f"a page {told}", errors=[FieldError("before", told)])
        if since is not None:
            page = await self._log.read(channel, Position.parse(since), limit=limit)
        else:
            page = await self._log.read_back(channel, before, limit=limit)
        end = end_of(page)
        return History(
            channel=channel, publications=written_of(page), offset=end.offset, epoch=end.epoch,
            oldest=page.first_kept, recovered=page.recovered if since is not None else None,
            reason=page.reason or None if since else None,
        )  # fmt: skip

    @operation(scope="post_office.observe", read_only=True, example={})
    async def list_channels(self, caller: Identity) -> ChannelsListed:
        """Lists the agent channels: newest positions, how many connections listen, and whether questions are taken."""
        agents = self._channels.agents
        newest, inboxes = await asyncio.gather(
            self._log.newest(agents), asyncio.gather(*map(self._inbox.status, agents))
        )
        return ChannelsListed(
            channels=[
                ChannelListed(
                    channel=channel, kind="agent", kept="history", subscribers=self._fleet.subscribers(channel),
                    offset=newest[channel].offset, epoch=newest[channel].epoch, circuit=inbox.circuit,
                )
                for channel, inbox in zip(agents, inboxes, strict=True)
            ]
        )  # fmt: skip

    @operation(scope="post_office.observe", read_only=True, example={"channel": "guide"})
    async def get_queue_status(self, caller: Identity, channel: ChannelName | None = None) -> QueueStatus:
        """Says how the agents' inboxes stand: all, or the one of a channel.

        Errors: `unknown_channel` (no agent channel of that name).
        """
        if channel is not None:
            self._channels.check_inbox(channel)
        wanted = self._channels.agents if channel is None else (channel,)
        return QueueStatus(channels={name: await self._standing(name) for name in wanted})

    async def _standing(self, channel: str) -> QueueStanding:
        status = await self._inbox.status(channel)
        age = status.oldest_age_seconds
        return QueueStanding(
            depth=status.depth, capacity=status.capacity, consumers=status.consumers,
            circuit=status.circuit, dead_letters=status.dead_letters,
            oldest_age_seconds=None if age is None else round(age, 3),
        )  # fmt: skip
