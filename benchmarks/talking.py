"""How clients talk to the platform: what they ask and publish on their sockets, and the agent that answers them.

It makes the frames; who sends them, how fast, and what that costs is for cases.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from benchmarks.processes import Failed, Program
from benchmarks.subjects import Exchange

CHANNEL = "guide"
BEARER = ("Authorization: Bearer {credential}",)
WELCOME = b'"type":"system"'
TEXT = '{"message":"' + "q" * 150 + '","t":{t}}'
"""About 200 bytes on the wire, as publications are."""
READY_SECONDS = 20.0


class Operations(Protocol):
    """A platform whose operations can be called."""

    async def call(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]: ...


def questions(sessions: Sequence[str]) -> Exchange:
    """Questions into the inbox of `CHANNEL`, each acknowledged once it is there."""
    return Exchange(
        path="/ws", headers=BEARER, credentials=sessions, ready=WELCOME,
        request=f'{{"channel":"{CHANNEL}","payload":{TEXT},"id":"{{id}}"}}', answer=b'"status":"queued"',
    )  # fmt: skip


def publications(tokens: Sequence[str]) -> Exchange:
    """Publications on `CHANNEL`, each acknowledged with its position."""
    request = f'{{"type":"publish","channel":"{CHANNEL}","payload":{TEXT},"id":"{{id}}"}}'
    return Exchange(
        path="/ws", headers=BEARER, credentials=tokens, ready=WELCOME, request=request, answer=b'"status":"published"'
    )


def conversation(sessions: Sequence[str]) -> Exchange:
    """Questions on `CHANNEL`, of which the answer counts, and no acknowledgement."""
    request = f'{{"channel":"{CHANNEL}","payload":{TEXT}}}'
    return Exchange(
        path="/ws", headers=BEARER, credentials=sessions, ready=WELCOME, request=request,
        answer=b'"type":"chat_response"',
    )  # fmt: skip


async def agent_started(city: Operations, url: str, token: str) -> Program:
    """An agent on the instance at ``url``, in a process of its own, once the inbox knows it.

    Raises:
        Failed: it did not come.
    """
    program = Program([sys.executable, "-m", "benchmarks.answering", url], env={"SMART_CITY_TOKEN": token})
    deadline = time.monotonic() + READY_SECONDS
    while not (await _inbox(city))["consumers"]:
        if time.monotonic() > deadline:
            words = program.words
            await program.end()
            raise Failed(f"the agent did not come: {words[-2000:]}")
        await asyncio.sleep(0.05)
    return program


async def _inbox(city: Operations) -> Mapping[str, Any]:
    status = await city.call("post_office.get_queue_status", {"channel": CHANNEL})
    found: Mapping[str, Any] = status["channels"][CHANNEL]
    return found


def subscribing(channels: Sequence[str], **positions: Any) -> str:
    """A frame that subscribes to channels."""
    return json.dumps({"type": "subscribe", "channels": {**dict.fromkeys(channels), **positions}, "id": "in"})
