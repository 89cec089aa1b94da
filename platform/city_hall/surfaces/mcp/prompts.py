"""Prompts: how an agent that has nothing but our tools lives on a channel, told so that a language model succeeds.

The texts are files beside this one. A test holds every tool and argument that they name against the catalogue, and
follows each of them to its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from string import Template

import mcp_types
from mcp.server import ServerRequestContext
from starlette.requests import Request

from city_hall.surfaces.mcp.channels import NEWEST, SINCE, ChannelResources
from city_hall.surfaces.mcp.refusals import protocol_error
from foundations.errors import CityError, FieldError, InvalidArgument, NotFound
from smart_city.post_office.channels import Channels

LONGEST_ARGUMENT = 500
COMPLETED = 100
"""So many values may a completion have."""
CHANNEL = mcp_types.PromptArgument(
    name="channel", description="an agent channel, as in guide or pillar:content", required=True
)
TOPIC = mcp_types.PromptArgument(name="topic", description="what the report is about", required=True)


@dataclass(frozen=True, slots=True)
class Told:
    """One prompt: what it is called, what it takes, and its text."""

    name: str
    title: str
    description: str
    arguments: tuple[mcp_types.PromptArgument, ...]

    @property
    def listed(self) -> mcp_types.Prompt:
        """As clients list it."""
        return mcp_types.Prompt(
            name=self.name, title=self.title, description=self.description, arguments=list(self.arguments)
        )

    def text(self, given: dict[str, str]) -> str:
        """Its text with the arguments put in."""
        return Template(text_of(f"prompts/{self.name}.md")).substitute(given)


PROMPTS = (
    Told(
        "live_on_a_channel", "Live on a channel",
        "Be the agent of a channel: take the questions that wait there, answer them, and go on.", (CHANNEL,),
    ),
    Told(
        "answer_one_question", "Answer one question", "Take one question that waits on a channel, and answer it.",
        (CHANNEL,),
    ),
    Told(
        "publish_a_report", "Publish a report",
        "Publish a report on a channel, once, after looking at what is there already.", (CHANNEL, TOPIC),
    ),
    Told(
        "follow_a_channel", "Follow a channel",
        "Read what is published on a channel as it comes, missing nothing and reading nothing twice.", (CHANNEL,),
    ),
)  # fmt: skip


def text_of(name: str) -> str:
    """A text of this package."""
    return resources.files("city_hall.surfaces.mcp").joinpath(name).read_text(encoding="utf-8")


class Prompts:
    """The prompts, and what their arguments and those of the resource templates may be."""

    def __init__(self, channels: Channels, readable: ChannelResources) -> None:
        self._channels = channels
        self._readable = readable
        self._by_name = {told.name: told for told in PROMPTS}

    async def list(
        self, _context: ServerRequestContext[object, object], _params: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListPromptsResult:
        """All prompts."""
        return mcp_types.ListPromptsResult(prompts=[told.listed for told in PROMPTS])

    async def get(
        self, _context: ServerRequestContext[object, object], params: mcp_types.GetPromptRequestParams
    ) -> mcp_types.GetPromptResult:
        """One prompt's text."""
        try:
            told = self._by_name.get(params.name)
            if told is None:
                raise NotFound(f"there is no prompt {params.name[:100]!r}; there are {', '.join(self._by_name)}")
            text = told.text(self._checked(told, params.arguments or {}))
        except CityError as error:
            raise protocol_error(error) from None
        message = mcp_types.PromptMessage(role="user", content=mcp_types.TextContent(type="text", text=text))
        return mcp_types.GetPromptResult(description=told.description, messages=[message])

    async def complete(
        self, context: ServerRequestContext[object, Request], params: mcp_types.CompleteRequestParams
    ) -> mcp_types.CompleteResult:
        """The channels that begin with what was typed; other arguments have no known values."""
        assert context.request is not None  # noqa: S101  # only HTTP is served, and it brings the request
        found: list[str] = []
        if params.argument.name == CHANNEL.name:
            if isinstance(params.ref, mcp_types.PromptReference):
                found = list(self._channels.agents) if params.ref.name in self._by_name else []
            elif params.ref.uri in {NEWEST, SINCE}:
                found = list(self._readable.readable(context.request.user))
        fitting = [channel for channel in found if channel.startswith(params.argument.value)]
        return mcp_types.CompleteResult(
            completion=mcp_types.Completion(
                values=fitting[:COMPLETED], total=len(fitting), has_more=len(fitting) > COMPLETED
            )
        )

    def _checked(self, told: Told, given: dict[str, str]) -> dict[str, str]:
        names = {argument.name for argument in told.arguments}
        wrong = [FieldError(name[:100], "is no argument of this prompt") for name in sorted(given.keys() - names)]
        wrong += [FieldError(name, "is required") for name in sorted(names) if not given.get(name, "").strip()]
        wrong += [
            FieldError(name, f"is longer than {LONGEST_ARGUMENT} characters")
            for name in sorted(names & given.keys())
            if len(given[name]) > LONGEST_ARGUMENT
        ]
        if wrong:
            raise InvalidArgument(f"{wrong[0].field}: {wrong[0].message}", errors=wrong)
        self._channels.check_inbox(given[CHANNEL.name])
        return given
