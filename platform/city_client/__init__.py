"""The city's Python client: a connection that recovers by itself, operations over HTTP, and the agent SDK.

It speaks the public protocol only and imports nothing of the platform, so that it can be shipped alone.

    async with CityClient("http://127.0.0.1:8000", token=token) as client:
        async for part in client.ask("guide", "Who is there?"):
            print(part, end="")
        async for publication in client.listen("guide"):
            print(publication.offset, publication.payload)
"""

from city_client.agent import Agent, Refuse, run_agents
from city_client.answers import Answer, Part, Reply
from city_client.client import CityClient
from city_client.cursors import Gap
from city_client.errors import (
    AnswerFailed,
    ClientError,
    Dropped,
    Ended,
    NoAnswer,
    Refused,
    Unconfirmed,
    Unreachable,
)
from city_client.frames import Acknowledged, Position, Sender
from city_client.operations import Operations
from city_client.questions import Question
from city_client.reconnecting import Backoff
from city_client.subscription import Publication, Subscription

__all__ = [
    "Acknowledged",
    "Agent",
    "Answer",
    "AnswerFailed",
    "Backoff",
    "CityClient",
    "ClientError",
    "Dropped",
    "Ended",
    "Gap",
    "NoAnswer",
    "Operations",
    "Part",
    "Position",
    "Publication",
    "Question",
    "Refuse",
    "Refused",
    "Reply",
    "Sender",
    "Subscription",
    "Unconfirmed",
    "Unreachable",
    "run_agents",
]
