"""A client on a raw socket that does what the protocol's page tells clients to do, and writes down all it hears.

It comes back, resumes, keeps one position per channel, and repeats under a key. It is no library: it keeps
everything, and its pauses are short.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.typing import Subprotocol

from city_client import Position
from city_inspector.faulting_proxy import FaultingProxy
from tests.faults.record import Answered, Broke, Foretold, Got, Joined, Lost, Record, Sent, Told

Frame = dict[str, Any]
PACKED = Subprotocol("smart-city.v1.msgpack")
WELCOME_SECONDS = 10.0
ANSWER_SECONDS = 5.0
"""A frame without an answer for so long goes over another link."""
TRY_SECONDS = 60.0
"""A message that was not acknowledged for good within this time is given up."""
PAUSE_SECONDS = (0.05, 0.4)
SESSION_OVER = 4501


class LinkGone(Exception):
    """The link that an answer was awaited on has ended, or nothing came over it."""


class Refusal(Exception):
    """An ``error`` answered a frame."""

    def __init__(self, frame: Frame) -> None:
        super().__init__(frame["code"])
        self.code: str = frame["code"]
        self.is_retryable: bool = frame["retryable"]
        self.retry_after: float = frame.get("retry_after") or 0.2


class Talker:
    """One person or service on a socket; ``proxy`` is the line to the platform."""

    def __init__(
        self,
        name: str,
        token: str,
        proxy: FaultingProxy,
        record: Record,
        *,
        channels: Iterable[str] = (),
        packed: bool = False,
    ) -> None:
        self.name = name
        self.token = token
        self.proxy = proxy
        self.user_id = ""
        self.link = ""
        self.code = 0
        """The code that ended it for good."""
        self.positions: dict[str, Position | None] = dict.fromkeys(channels)
        self.channels = frozenset(channels)
        self.renew: Callable[[], Awaitable[str]] | None = None
        """Where a new token comes from when the session is over."""
        self._record = record
        self._packed = packed
        self._heard = record.heard.setdefault(name, [])
        self._socket: ClientConnection | None = None
        self._stands = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Frame]] = {}
        self._asked: dict[str, Position | None] = {}
        self._asked_by: dict[str, list[str]] = {}
        self._moving: set[str] = set()
        """What is asked for and not acknowledged yet: until then the welcome's subscription goes on, further ahead."""
        self._resume = ""
        self._ids = itertools.count(1)
        self._keys = itertools.count(1)
        self._again: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run(), name=f"talker {name}")

    @property
    def connection_id(self) -> str:
        """The living connection's id; empty while there is none."""
        return self._resume if self._stands.is_set() else ""

    # Links

    async def connected(self, seconds: float = 30.0) -> None:
        """Waits until there is a link."""
        async with asyncio.timeout(seconds):
            await self._stands.wait()

    async def close(self) -> None:
        """Leaves for good."""
        if self._socket is not None:
            with contextlib.suppress(ConnectionClosed, OSError):
                await self._socket.close(1000)
        for task in (self._task, *self._again):
            task.cancel()
        await asyncio.gather(self._task, *self._again, return_exceptions=True)

    async def _run(self) -> None:
        while not self.code:
            code = 1006
            try:
                async with connect(
                    self._url,
                    additional_headers={"Authorization": f"Bearer {self.token}"},
                    subprotocols=[PACKED] if self._packed else None,
                    max_size=None, proxy=None, ping_interval=None, open_timeout=WELCOME_SECONDS, close_timeout=0.5,
                ) as socket:  # fmt: skip
                    self._socket = socket
                    await self._live(socket)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
            except (OSError, InvalidHandshake, EOFError):  # a TimeoutError is an OSError
                pass
            self._over(code)
            if code == SESSION_OVER and self.renew is not None:
                self.token = await self.renew()
            elif code >= SESSION_OVER:
                self.code = code
            await asyncio.sleep(0 if code == 1012 else random.uniform(*PAUSE_SECONDS))  # noqa: S311  # no secret

    @property
    def _url(self) -> str:
        return f"ws://127.0.0.1:{self.proxy.port}/ws" + (f"?resume={self._resume}" if self._resume else "")

    def _over(self, code: int) -> None:
        if self._stands.is_set():
            self._heard.append(Lost(link=self.link, at=time.monotonic(), code=code))
        self._stands.clear()
        self._socket = None
        self._asked_by.clear()
        self._moving.clear()
        if code in {1000, 4010}:
            self._resume = ""
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(LinkGone(str(code)))

    async def _live(self, socket: ClientConnection) -> None:
        async with asyncio.timeout(WELCOME_SECONDS):
            welcome = self._read(await socket.recv())
        self._resume = welcome["connection_id"]
        self.user_id = welcome["user_id"]
        self.link = f"{self.name}/{self.proxy.accepted}"
        self._welcomed(welcome)
        silence = 2 * welcome["heartbeat_seconds"]
        self._stands.set()
        await self._subscribe(self.positions)
        while True:
            try:
                async with asyncio.timeout(silence):
                    data = await socket.recv()
            except TimeoutError:
                await socket.close(4000)
                raise
            self._take(self._read(data))

    def _welcomed(self, welcome: Frame) -> None:
        """A new connection has a log of its own; what was missed on the user's log is asked for."""
        if welcome["resumed"]:
            return
        for name in [name for name in self.positions if name.startswith("connection:")]:
            del self.positions[name]
        for name, place in welcome["channels"].items():
            position = Position(place["offset"], place["epoch"])
            if self.positions.get(name) is None:
                self.positions[name] = position
                self._heard.append(Joined(channel=name, link=self.link, at=time.monotonic(), position=position))

    # Frames

    def _read(self, data: str | bytes) -> Frame:
        frame: Frame = msgspec.msgpack.decode(data) if isinstance(data, bytes) else json.loads(data)
        return frame

    async def _send(self, frame: Frame) -> None:
        if self._socket is None:
            raise LinkGone("there is none")
        data = msgspec.msgpack.encode(frame) if self._packed else json.dumps(frame)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._socket.send(data)
        except (ConnectionClosed, TimeoutError) as lost:
            raise LinkGone(str(lost)) from None

    def _take(self, frame: Frame) -> None:
        match frame["type"]:
            case "ack" if "channels" in frame:
                self._subscribed(frame)
            case "ack" | "pong":
                self._settle(frame)
            case "message":
                self._publication(frame)
            case "chat_response":
                self._answer(frame)
            case "reset":
                self._broke(frame)
            case "unsubscribed":
                self._subscribe_again([frame["channel"]])
            case "error":
                self._refused(frame)

    def _settle(self, frame: Frame) -> None:
        if frame.get("status") == "held":
            self._record.told.append(Told(key=self._key_of(frame), status="held", at=time.monotonic()))
        elif (answer := self._waiting.pop(frame.get("id", ""), None)) is not None and not answer.done():
            answer.set_result(frame)

    def _refused(self, frame: Frame) -> None:
        name = frame.get("id", "")
        if name in self._asked_by:
            self._subscribe_again(self._asked_by.pop(name))
        elif (answer := self._waiting.pop(name, None)) is not None and not answer.done():
            answer.set_exception(Refusal(frame))

    def _key_of(self, frame: Frame) -> str:
        return str(frame.get("id", "")).partition("#")[0]

    # Subscriptions

    async def _subscribe(self, wanted: dict[str, Position | None]) -> None:
        if not wanted:
            return
        name = f"subscribe#{next(self._ids)}"
        self._asked_by[name] = list(wanted)
        self._asked.update(wanted)
        self._moving.update(wanted)
        places = {
            channel: {"offset": place.offset, "epoch": place.epoch} if place else None
            for channel, place in wanted.items()
        }
        await self._send({"type": "subscribe", "channels": places, "id": name})

    def _subscribed(self, frame: Frame) -> None:
        self._asked_by.pop(frame.get("id", ""), None)
        refused = []
        for channel, told in frame["channels"].items():
            if "error" in told:
                refused.append(channel)
                continue
            position = Position(told["offset"], told["epoch"])
            self._moving.discard(channel)
            self._heard.append(
                Joined(
                    channel=channel, link=self.link, at=time.monotonic(), position=position,
                    asked=self._asked.get(channel), recovered=told.get("recovered"), missed=told.get("missed", 0),
                    reason=told.get("reason", ""),
                )
            )  # fmt: skip
            self.positions[channel] = position
        if refused:
            self._subscribe_again(refused)

    def _subscribe_again(self, channels: list[str]) -> None:
        """After a moment, on the link of that moment: a new one asks for everything by itself."""
        link = self.link

        async def again() -> None:
            await asyncio.sleep(0.3)
            if self.link == link:
                with contextlib.suppress(LinkGone):
                    await self._subscribe({name: self.positions[name] for name in channels if name in self.positions})

        task = asyncio.create_task(again())
        self._again.add(task)
        task.add_done_callback(self._again.discard)

    def _publication(self, frame: Frame) -> None:
        channel, at = frame["channel"], time.monotonic()
        if frame.get("provisional"):
            self._heard.append(Foretold(channel=channel, link=self.link, at=at, message_id=frame["message_id"]))
            return
        if channel in self._moving:
            return  # it comes again, behind the ack
        position = self.positions[channel] = Position(frame["offset"], frame["epoch"])
        self._heard.append(
            Got(
                channel=channel, link=self.link, at=at, position=position, message_id=frame["message_id"],
                key=frame["payload"].get("key", ""),
            )
        )  # fmt: skip

    def _answer(self, frame: Frame) -> None:
        if frame.get("offset") is None or frame["log"] in self._moving:
            return
        at, log = time.monotonic(), frame["log"]
        position = self.positions[log] = Position(frame["offset"], frame["epoch"])
        name = f"{frame['message_id']}/{frame.get('stream', '')}"
        self._heard.append(Got(channel=log, link=self.link, at=at, position=position, message_id=name))
        self._record.answered.append(
            Answered(
                asker=self.name, question=frame["in_reply_to"], message_id=frame["message_id"],
                stream=frame.get("stream", ""), log=log, at=at,
                is_retrying=bool(frame.get("error", {}).get("retrying") or frame.get("retrying")),
            )
        )  # fmt: skip

    def _broke(self, frame: Frame) -> None:
        if frame["channel"] in self._moving:
            return
        position = self.positions[frame["channel"]] = Position(frame["offset"], frame["epoch"])
        self._heard.append(
            Broke(
                channel=frame["channel"], link=self.link, at=time.monotonic(), position=position,
                reason=frame.get("reason", ""),
            )
        )  # fmt: skip

    # Messages

    async def say(self, channel: str, *, is_question: bool = False, key: str = "", **payload: Any) -> Told | None:
        """Sends a message until it is acknowledged for good; what it was told, or ``None`` if it gave up."""
        key = key or f"{self.name}-{next(self._keys)}"
        frame = {"type": "message" if is_question else "publish", "channel": channel, "key": key}
        frame["payload"] = {"key": key, **payload}  # type: ignore[assignment]
        try:
            async with asyncio.timeout(TRY_SECONDS):
                await self._stands.wait()
                self._record.sent.append(
                    Sent(key=key, channel=channel, by=self.name, link=self.link, at=time.monotonic())
                )
                return await self._insist(key, frame)
        except TimeoutError:
            return None

    async def _insist(self, key: str, frame: Frame) -> Told | None:
        for attempt in itertools.count(1):
            if attempt > 1:
                await asyncio.sleep(PAUSE_SECONDS[0])  # a link that is closing still stands
                await self._stands.wait()
            try:
                told = self._told(key, await self._ask(key, frame), attempt)
            except LinkGone:
                continue
            except Refusal as refusal:
                self._record.told.append(Told(key=key, status=refusal.code, at=time.monotonic()))
                if not refusal.is_retryable:
                    return None
                await asyncio.sleep(refusal.retry_after)
                continue
            self._record.told.append(told)
            return told
        return None

    async def _ask(self, key: str, frame: Frame) -> Frame:
        """Sends over the present link and waits there for the final answer, however long it is held."""
        name = f"{key}#{next(self._ids)}"
        answer = self._waiting[name] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(lambda done: done.cancelled() or done.exception())
        await self._send({**frame, "id": name})
        acknowledged: Frame = await answer
        return acknowledged

    def _told(self, key: str, frame: Frame, attempt: int) -> Told:
        position = Position(frame["offset"], frame["epoch"]) if "offset" in frame else None
        return Told(
            key=key, status=frame["status"], at=time.monotonic(), message_id=frame["message_id"], position=position,
            is_duplicate=bool(frame.get("duplicate")), attempt=attempt,
        )  # fmt: skip
