"""Dead letters: operations to look at what no agent would or could answer, to put it back, or to drop it.

What becomes of a question is decided in the inbox; here are only the words of whoever operates the city.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec
from pydantic import Field

from foundations.operations import Result, operation
from smart_city.post_office.channels import Channels
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.inbox.letters import Cursor, DeadLetter
from smart_city.vocabulary import ChannelName, Identity, JsonObject

MessageIdArgument = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="the message_id that list_dead_letters names")
]
EXAMPLE = {"channel": "guide", "message_id": "01938f3a-7c11-7000-8000-000000000000"}


class LetterListed(Result):
    """One dead letter."""

    message_id: str
    asker: str = Field(description="the user's id, or ~ and the realm of a service")
    conversation_id: str | None = None
    why: str = Field(
        description="lapsed (the agents hung), closed or lost (they went away), expired (nobody took it), too_large, "
        "hops (handed on too often), or `failed:` and an agent's own reason"
    )
    attempts: int = Field(description="in this inbox, since it was asked or put back")
    requeued: int = Field(description="how often it was put back before")
    asked_at: str
    died_at: str
    bytes: int = Field(description="the size of the message")
    message: JsonObject | None = Field(
        default=None, description="as agents got it; left out if it is larger than message_bytes"
    )


class LettersListed(Result):
    """Dead letters of one inbox, the last to die first."""

    channel: str
    dead_letters: list[LetterListed]
    next: str | None = Field(default=None, description="pass it on as after for the next page, if there may be one")


class Requeued(Result):
    """The question is in the inbox again."""

    channel: str
    message_id: str
    status: Literal["queued"] = "queued"
    duplicate: bool | None = Field(default=None, description="it was put back already, and not once more")


class Dropped(Result):
    """The letter is gone."""

    channel: str
    message_id: str
    status: Literal["dropped"] = "dropped"


class DeadLetters:
    """The operations about dead letters."""

    def __init__(self, *, inbox: Inbox, channels: Channels) -> None:
        self._letters = inbox.letters
        self._channels = channels

    @operation(scope="post_office.admin", read_only=True, example={"channel": "guide", "limit": 20})
    async def list_dead_letters(
        self,
        caller: Identity,
        channel: ChannelName,
        limit: Annotated[int, Field(ge=1, le=200)] = 50,
        after: Annotated[
            str | None, Field(pattern=r"^[0-9]{1,15}\.[A-Za-z0-9_.-]{1,64}$", description="what next said")
        ] = None,
        message_bytes: Annotated[int, Field(ge=0, le=262_144, description="messages up to this size are shown")] = 4096,
    ) -> LettersListed:
        """Lists the questions of an inbox that no agent would or could answer, the last to die first.

        A page ends early where it would grow beyond a MiB. Errors: `unknown_channel` (no agent channel of that name).
        """
        self._channels.check_inbox(channel)
        place = Cursor.parse(after) if after else None
        letters = await self._letters.page(channel, limit=limit, body_bytes=message_bytes, after=place)
        return LettersListed(
            channel=channel, dead_letters=[_listed(letter) for letter in letters],
            next=str(letters[-1].cursor) if letters else None,
        )  # fmt: skip

    @operation(scope="post_office.admin", idempotent=True, example=EXAMPLE)
    async def requeue_dead_letter(
        self, caller: Identity, channel: ChannelName, message_id: MessageIdArgument
    ) -> Requeued:
        """Puts a dead letter back into its inbox, under its id and for the same asker; its attempts begin again.

        The asker has had an `error`; the answer comes after it with the same `in_reply_to`. Called again within ten
        minutes it does nothing more. Errors: `unknown_channel`, `not_found`, `overloaded` (the inbox is full).
        """
        self._channels.check_inbox(channel)
        queued = await self._letters.requeue(channel, message_id)
        return Requeued(channel=channel, message_id=message_id, duplicate=queued.duplicate or None)

    @operation(scope="post_office.admin", destructive=True, idempotent=True, example=EXAMPLE)
    async def drop_dead_letter(self, caller: Identity, channel: ChannelName, message_id: MessageIdArgument) -> Dropped:
        """Drops a dead letter for good.

        Errors: `unknown_channel`, `not_found` (there is none of that id, or no longer).
        """
        self._channels.check_inbox(channel)
        await self._letters.drop(channel, message_id)
        return Dropped(channel=channel, message_id=message_id)


def _listed(letter: DeadLetter) -> LetterListed:
    return LetterListed(
        message_id=letter.message_id, asker=letter.user, conversation_id=letter.route.conversation_id or None,
        why=letter.why, attempts=letter.attempts, requeued=letter.route.life, asked_at=_time(letter.asked_at),
        died_at=_time(letter.died_at), bytes=letter.size,
        message=msgspec.json.decode(letter.body) if letter.body else None,
    )  # fmt: skip


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
