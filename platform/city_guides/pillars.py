"""The pillars: one kind of agent, configured four times, each for a field that the platform knows.

Which topics a pillar has is said here; how they find out is `archive`, `figures` and `surroundings`.
"""

from __future__ import annotations

from city_guides import archive, figures, surroundings
from city_guides.specialist import Specialist, Topic
from city_guides.understanding import keywords

CONSUME, HISTORY, OBSERVE = "post_office.consume", "post_office.history", "post_office.observe"

_CONTENT = "pillar:content"
_SEARCH = keywords("search find look mention publish published publication article content")

CONTENT = Specialist(
    realm="content",
    channel=_CONTENT,
    field=f"what was published on {_CONTENT}",
    scopes=(CONSUME, HISTORY),
    topics=(
        Topic(
            name="search",
            offer="a search: “search” and some words",
            keywords=_SEARCH,
            tell=archive.search(_CONTENT, _SEARCH),
        ),
        Topic(
            name="latest",
            offer="the latest publications: “what is new?”",
            keywords=keywords("latest new newest news recent last"),
            tell=archive.latest(_CONTENT),
        ),
    ),
)

INSIGHTS = Specialist(
    realm="insights",
    channel="pillar:insights",
    field="how messages flow",
    scopes=(CONSUME, OBSERVE),
    topics=(
        Topic(
            name="messages",
            offer="the message figures: “how many messages, and how fast?”",
            keywords=keywords("message figure traffic frame latency fast speed insight statistic metric"),
            tell=figures.messages,
        ),
        Topic(
            name="publications",
            offer="the publications by channel: “which channels are the busiest?”",
            keywords=keywords("busiest busy channel publication activity trend popular"),
            tell=figures.publications,
        ),
    ),
)

OPERATIONS = Specialist(
    realm="operations",
    channel="pillar:operations",
    field="how the platform runs",
    scopes=(CONSUME, OBSERVE),
    topics=(
        Topic(
            name="instances",
            offer="the instances: “which instances are running?”",
            keywords=keywords("instance worker server node running operation spread"),
            tell=surroundings.instances,
        ),
        Topic(
            name="queues",
            offer="the inboxes: “how long are the queues?”",
            keywords=keywords("queue inbox inboxes waiting backlog depth pending status long length"),
            tell=surroundings.queues,
        ),
    ),
)

BUSINESS_OUTCOMES = Specialist(
    realm="business_outcomes",
    channel="pillar:business_outcomes",
    field="what came of it all",
    scopes=(CONSUME, OBSERVE),
    topics=(
        Topic(
            name="outcomes",
            offer="the answers given: “how many questions were answered?”",
            keywords=keywords("outcome business answer answered result success failed question"),
            tell=figures.outcomes,
        ),
        Topic(
            name="visitors",
            offer="the visitors since the start: “how many visitors did we have?”",
            keywords=keywords("visitor visit start growth usage"),
            tell=figures.visitors,
        ),
    ),
)

PILLARS = (CONTENT, INSIGHTS, OPERATIONS, BUSINESS_OUTCOMES)
