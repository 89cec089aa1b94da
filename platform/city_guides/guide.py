"""The guide: whom newcomers talk to. It explains the platform, shows what goes on, and knows who knows more.

A question in a pillar's field is forwarded, and the pillar answers the asker itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from city_client import Operations, Question
from city_guides import surroundings
from city_guides.pillars import CONSUME, OBSERVE, PILLARS
from city_guides.specialist import Fact, Specialist, Topic
from city_guides.understanding import keywords

EXPLANATION = (
    "This is a gateway between people and AI agents.",
    "Every channel is a log: what is published gets a place in it, everyone listening sees it in the same"
    " order, and whoever was away reads on where they left off.",
    "A question to a channel goes into its agents' inbox; the answer comes back to you alone, in parts while"
    " it is written. Browsers and agents come over a WebSocket, services over HTTP, AI agents over MCP, too.",
)


async def explain(city: Operations, question: Question) -> AsyncIterator[Fact]:
    """What the platform is, and who knows what."""
    for sentence in EXPLANATION:
        yield Fact(sentence)
    yield Fact("I forward to those who know more:")
    for pillar in PILLARS:
        yield Fact(f"• {pillar.channel} knows {pillar.field}")


GUIDE = Specialist(
    realm="guide",
    channel="guide",
    field="this platform",
    scopes=(CONSUME, OBSERVE),
    colleagues=PILLARS,
    topics=(
        Topic(
            name="explain",
            offer="an explanation: “explain this platform”",
            keywords=keywords("explain platform city work help introduce introduction gateway"),
            tell=explain,
        ),
        Topic(
            name="channels",
            offer="the channels: “list the channels”",
            keywords=keywords("channel"),
            tell=surroundings.channels,
        ),
        Topic(
            name="people",
            offer="who is connected: “who is there?”, “who is on pillar:content?”, “how many connections?”",
            keywords=keywords("who anybody people user online connected connection"),
            tell=surroundings.people,
        ),
        Topic(
            name="health",
            offer="the health of the platform: “is everything healthy?”",
            keywords=keywords("health healthy status ok well alive valkey problem"),
            tell=surroundings.health,
        ),
    ),
)
