"""Those who take part by other ways than a raw socket: over HTTP, by server-sent events, and by the Python client.

Each writes down what it saw; what they say and hear is the same as on sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2

from city_client import Agent, CityClient, Position, Publication, Question
from city_client.events import Event, Subscribed
from city_inspector.faulting_proxy import FaultingProxy
from tests.faults.record import Broke, Got, Joined, Lost, Record, Sent, Told
from tests.support.event_reader import EventReader

CALL_SECONDS = 5.0
PAUSE_SECONDS = 0.2
TRY_SECONDS = 60.0
REPLY_TRIES = 25
ANSWER_SECONDS = 15.0
"""After which an agent on the SDK gives up what it is at; its lease is renewed until then."""
AWAY = (httpx2.HTTPError, OSError)


class Publisher:
    """A service that publishes over HTTP, and again under its Idempotency-Key until the answer is final."""

    def __init__(self, name: str, token: str, proxy: FaultingProxy, record: Record) -> None:
        self.name = name
        self._record = record
        self._keys = itertools.count(1)
        self._http = httpx2.AsyncClient(
            base_url=proxy.url, headers={"Authorization": f"Bearer {token}"}, timeout=CALL_SECONDS, trust_env=False
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def say(self, channel: str, **payload: Any) -> Told | None:
        """Publishes until it is acknowledged for good; ``None`` if it gave up."""
        key = f"{self.name}-{next(self._keys)}"
        self._record.sent.append(Sent(key=key, channel=channel, by=self.name, link=key, at=time.monotonic()))
        body = {"channel": channel, "message": {"key": key, **payload}}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRY_SECONDS):
                for attempt in itertools.count(1):
                    if (told := await self._try(key, body, attempt)) is not None:
                        return told if told.is_safe else None
                    await asyncio.sleep(PAUSE_SECONDS)
        return None

    async def _try(self, key: str, body: dict[str, Any], attempt: int) -> Told | None:
        """What was told, if it is final; what is held is asked for again under its key."""
        try:
            response = await self._http.post(
                "/soa/post-office/publish_to_agent_channel", json=body, headers={"Idempotency-Key": key}
            )
            answer = response.json()
        except (*AWAY, ValueError):
            return None
        told = _told(key, response.status_code, answer, attempt)
        self._record.told.append(told)
        return told if told.is_safe or not (told.status == "held" or answer.get("retryable")) else None


def _told(key: str, status: int, answer: dict[str, Any], attempt: int) -> Told:
    at = time.monotonic()
    if status != 200:
        return Told(key=key, status="held" if status == 202 else answer.get("code", str(status)), at=at)
    return Told(
        key=key, status=answer["status"], at=at, message_id=answer["message_id"], attempt=attempt,
        position=Position(answer["offset"], answer["epoch"]), is_duplicate=bool(answer.get("duplicate")),
    )  # fmt: skip


class Events:
    """A reader of one channel by server-sent events, which comes back with ``Last-Event-ID``."""

    def __init__(self, name: str, token: str, proxy: FaultingProxy, record: Record, channel: str) -> None:
        self.name = name
        self.channels = frozenset({channel})
        self.link = ""
        self._channel = channel
        self._token = token
        self._proxy = proxy
        self._heard = record.heard.setdefault(name, [])
        self._last = ""
        self._task = asyncio.create_task(self._run(), name=f"events {name}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            # The reader asserts what it expects of a stream; one that was cut short holds none of it.
            with contextlib.suppress(OSError, EOFError, AssertionError, ValueError, IndexError):
                async with EventReader.connected(
                    self._proxy.url, self._channel, self._token, last=self._last
                ) as stream:
                    await self._read(stream)
            if self.link:
                self._heard.append(Lost(link=self.link, at=time.monotonic(), code=0))
            self.link = ""
            await asyncio.sleep(PAUSE_SECONDS)

    def _connected(self) -> AbstractAsyncContextManager[EventReader]:
        return EventReader.connected(self._proxy.url, self._channel, self._token, last=self._last)

    async def _read(self, stream: EventReader) -> None:
        if stream.status != 200:
            return
        self.link = f"{self.name}/{self._proxy.accepted}"
        self._joined(stream.ack)
        self._last = stream.last_id
        while True:
            event = await stream.next(CALL_SECONDS)
            if event.name == "close":
                return
            position = Position(event.data["offset"], event.data["epoch"]) if event.id else None
            if position is not None and event.name == "message":
                self._got(event.data, position)
            elif position is not None and event.name == "reset":
                self._heard.append(Broke(channel=self._channel, link=self.link, at=time.monotonic(), position=position))
            self._last = stream.last_id

    def _joined(self, ack: dict[str, Any]) -> None:
        self._heard.append(
            Joined(
                channel=self._channel, link=self.link, at=time.monotonic(),
                position=Position(ack["offset"], ack["epoch"]),
                asked=Position.parse(self._last) if self._last else None, recovered=ack.get("recovered"),
                missed=ack.get("missed", 0), reason=ack.get("reason", ""),
            )
        )  # fmt: skip

    def _got(self, frame: dict[str, Any], position: Position) -> None:
        self._heard.append(
            Got(
                channel=self._channel, link=self.link, at=time.monotonic(), position=position,
                message_id=frame["message_id"], key=frame["payload"].get("key", ""),
            )
        )  # fmt: skip


class Listener:
    """An application on the Python client: what it hands out, gaps included."""

    def __init__(self, name: str, token: str, proxy: FaultingProxy, record: Record, channel: str) -> None:
        self.name = name
        self.channels = frozenset({channel})
        self.user_id = ""
        self._channel = channel
        self._heard = record.heard.setdefault(name, [])
        self._client = CityClient(proxy.url, token=token, on_event=self._tell, connect_seconds=30)
        self._task = asyncio.create_task(self._run(), name=f"listener {name}")

    @property
    def link(self) -> str:
        return self._client.connection_id if self.user_id else ""

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with self._client as client:
            self.user_id = client.user_id
            async with await client.subscribe(self._channel) as reader:
                async for publication in reader:
                    self._publication(publication)

    def _tell(self, event: Event) -> None:
        """The first subscription is where it begins; later ones show in what is handed out."""
        if isinstance(event, Subscribed) and event.channel == self._channel and not self._heard:
            at, channel = time.monotonic(), self._channel
            self._heard.append(Joined(channel=channel, link=self.name, at=at, position=event.position))

    def _publication(self, publication: Publication) -> None:
        at, channel = time.monotonic(), self._channel
        if gap := publication.gap:
            self._heard.append(Broke(channel=channel, link=self.name, at=at, position=gap.until, reason=gap.reason))
        self._heard.append(
            Got(
                channel=channel, link=self.name, at=at, position=publication.position,
                message_id=publication.message_id, key=str(publication.payload.get("key", "")),
            )
        )  # fmt: skip


Work = Callable[[Question], Awaitable[None]]


class SocketAgent:
    """An agent on the SDK: every other answer comes in parts. ``work`` may fail in its place."""

    def __init__(self, name: str, token: str, proxy: FaultingProxy, record: Record, channel: str) -> None:
        self.name = name
        self.work: Work | None = None
        self.user_id = ""
        self._record = record
        self._answers = itertools.count()
        self._agent = Agent(channel, most=8, seconds=ANSWER_SECONDS)
        self._agent.on()(self._answer)
        self._client = CityClient(proxy.url, token=token, connect_seconds=30)
        self._task = asyncio.create_task(self._run(), name=f"agent {name}")

    @property
    def link(self) -> str:
        return self._client.connection_id if self.user_id else ""

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        async with self._client as client:
            self.user_id = client.user_id
            consumer = client.consume(self._agent.channel, self._agent.answer, most=self._agent.most)
            try:
                await client.wait_closed()
            finally:
                await client.stop_consuming(consumer, seconds=1)

    async def _answer(self, question: Question) -> AsyncGenerator[str, None]:
        self._record.deliveries += 1
        yield f"{question.message_id}, "
        if self.work is not None:
            await self.work(question)
        for part in range(next(self._answers) % 2 * 3):
            await asyncio.sleep(0.02)
            yield f"part {part}, "
        yield "done"


class ToolAgent:
    """An agent that lives by operations alone: it receives, and replies."""

    def __init__(self, name: str, token: str, proxy: FaultingProxy, record: Record, channel: str) -> None:
        self.name = name
        self._channel = channel
        self._record = record
        self._http = httpx2.AsyncClient(
            base_url=proxy.url, headers={"Authorization": f"Bearer {token}"}, timeout=CALL_SECONDS, trust_env=False
        )
        self._task = asyncio.create_task(self._run(), name=f"agent {name}")

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._http.aclose()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(*AWAY, ValueError, KeyError):  # KeyError: it was refused; another consumer
                made = await self._call("subscribe_to_channel", channel=self._channel, mode="inbox", realm="tools")
                while True:
                    await self._take(made["consumer"])
            await asyncio.sleep(PAUSE_SECONDS)

    async def _take(self, consumer: str) -> None:
        taken = await self._call("receive_messages", consumer=consumer, max=8, wait_ms=1000)
        for delivery in taken["deliveries"]:
            self._record.deliveries += 1
            payload = {"message": json.dumps(delivery["message"]["message_id"])}
            await self._reply(delivery_id=delivery["delivery_id"], payload=payload)

    async def _reply(self, **reply: Any) -> None:
        """Again while the platform cannot take it; what it never takes is delivered again."""
        for _ in range(REPLY_TRIES):
            if not (await self._call("reply", **reply)).get("retryable"):
                return
            await asyncio.sleep(PAUSE_SECONDS)

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        response = await self._http.post(f"/soa/post-office/{operation}", json=arguments)
        answer: dict[str, Any] = response.json()
        return answer
