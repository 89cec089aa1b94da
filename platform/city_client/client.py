"""The client of the city: one connection that comes back by itself, and everything that is done over it.

It is the face of `connection` (coming back), `subscriptions`, `answers` and `consumers`. It deliberately
stores nothing: positions that must outlive the process are the caller's to keep (`Subscription.positions`).
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping
from functools import partial
from types import TracebackType

from city_client.addresses import Address
from city_client.answers import Answer
from city_client.connection import Connection
from city_client.consumers import Consumer, Handle
from city_client.encodings import Name, offered
from city_client.errors import Unconfirmed
from city_client.events import Event
from city_client.frames import Acknowledged, Payload, Position
from city_client.post import Post
from city_client.subscription import Publication, Subscription

Since = Position | str | None
"""A position, or its text."""
Channels = str | Iterable[str] | Mapping[str, Since]

logger = logging.getLogger(__name__)


class CityClient:
    """A connection to the city, as an async context manager.

    Args:
        url: the platform's address, as ``http://HOST:PORT`` or ``ws://HOST:PORT/ws``.
        token: a session's or a service's token.
        encoding: ``json`` or ``msgpack``, which is smaller where payloads hold bytes; they may in both.
        on_event: told of everything that happens to the connection, besides the log; must not block.
        connect_seconds: how long entering waits for the first connection; ``None``: it does not wait.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        encoding: Name = "json",
        on_event: Callable[[Event], None] | None = None,
        connect_seconds: float | None = 20.0,
    ) -> None:
        self._address = Address.parse(url, token)
        offered(encoding)
        self._encoding: Name = encoding
        self._connect_seconds = connect_seconds
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> CityClient:
        self._post = Post(self._tell)
        self._connection = Connection(self._address, self._post, self._tell, self._encoding)
        self._connection.start()
        try:
            if self._connect_seconds is not None:
                await self._connection.reach(self._connect_seconds)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connection_id(self) -> str:
        """The id of the living connection; empty while there is none."""
        link = self._connection.current
        return link.welcome.connection_id if link else ""

    @property
    def user_id(self) -> str:
        """Who this client is; empty while not connected."""
        link = self._connection.current
        return link.welcome.user_id if link else ""

    async def send(
        self,
        channel: str,
        payload: Payload,
        *,
        intent: str = "chat",
        key: str = "",
        seconds: float = 30.0,
    ) -> Acknowledged:
        """Sends a message, and again under the same key until it is acknowledged.

        Raises:
            Refused: the platform does not take it.
            Unconfirmed: nothing was acknowledged within ``seconds``.
            Ended: the connection is over for good.
        """
        return await self._say({}, channel, payload, intent=intent, key=key, seconds=seconds)

    async def publish(
        self,
        channel: str,
        payload: Payload,
        *,
        intent: str = "chat",
        key: str = "",
        seconds: float = 30.0,
    ) -> Acknowledged:
        """Publishes to all subscribers of a channel; repeated and refused as `send`."""
        kind = {"type": "publish"}
        return await self._say(kind, channel, payload, intent=intent, key=key, seconds=seconds)

    def ask(
        self,
        channel: str,
        question: str | Payload,
        *,
        conversation_id: str = "",
        intent: str = "chat",
        seconds: float = 60.0,
    ) -> Answer:
        """Asks the agents of a channel; ``seconds`` is how long nothing may be heard of the answer."""
        payload = {"message": question} if isinstance(question, str) else dict(question)
        if conversation_id:
            payload["conversation_id"] = conversation_id
        answer = Answer(seconds, self.stop)
        self._post.answers.asking()
        send = partial(self.send, channel, payload, intent=intent, seconds=seconds)
        self._own(answer.follow(send, self._post.answers))
        return answer

    async def stop(self, message_id: str, *, seconds: float = 10.0) -> str:
        """Ends a question of this user, whichever connection asked it: its answer is not wanted any more.

        Returns ``stopped``, ``finished`` (it was over before) or ``unknown``; raises as `send`. The answer itself
        ends with `AnswerFailed`, whose code is ``stopped``.
        """
        frame = {"type": "stop", "message_id": message_id}
        return (await self._connection.deliver(frame, f"stopping {message_id}", seconds)).outcome

    async def subscribe(self, channels: Channels, *, since: Since = None, seconds: float = 30.0) -> Subscription:
        """Subscribes, from positions if given, and stays subscribed until the reader closes.

        Args:
            channels: names, or names with positions.
            since: the position in the one channel named, or its text, as in ``41.k3f9``.
            seconds: how long to wait for the platform's word.

        Raises:
            Refused: the platform refuses one of them.
            Unconfirmed: no word within ``seconds``.
            ValueError: this client has a reader on one of them, ``since`` goes with several, or is no position.
        """
        reader = self._post.subscriptions.open(_with_positions(channels, since))
        try:
            async with asyncio.timeout(seconds):
                await self._connection.link()
                await self._post.subscriptions.settled(reader)
        except BaseException as error:
            await reader.close()
            if isinstance(error, TimeoutError):
                raise Unconfirmed("subscribe", seconds) from None
            raise
        return reader

    async def listen(self, channels: Channels, *, since: Since = None) -> AsyncGenerator[Publication, None]:
        """Yields what is published on channels, recovering what was missed whenever the connection was lost.

        A `Publication` after something that could not be recovered carries a ``gap``.
        """
        async with await self.subscribe(channels, since=since) as reader:
            async for publication in reader:
                yield publication

    def consume(self, channel: str, handle: Handle, *, most: int = 64) -> Consumer:
        """Takes messages from an agent channel's inbox, at most ``most`` at once, on this and later links."""
        return self._post.consumers.open(channel, handle, most)

    async def stop_consuming(self, consumer: Consumer, *, seconds: float = 10.0) -> None:
        """Takes no more messages, and finishes what is in hand within ``seconds``."""
        await self._post.consumers.close(consumer, seconds)

    async def refresh(self, session_token: str, *, seconds: float = 10.0) -> None:
        """Continues with a new token of the same user, here and on later links."""
        frame = {"type": "refresh", "session_token": session_token}
        await self._connection.deliver(frame, "refresh", seconds)
        self._connection.address = self._connection.address.with_token(session_token)

    async def wait_closed(self) -> None:
        """Returns when this client was closed; raises `Ended` when the platform ended the connection."""
        await self._connection.wait_ended()

    async def close(self) -> None:
        """Closes the connection for good: readers stop, and whoever waits for something is told."""
        await self._connection.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _say(
        self,
        kind: Mapping[str, object],
        channel: str,
        payload: Payload,
        *,
        intent: str,
        key: str,
        seconds: float,
    ) -> Acknowledged:
        said = {"channel": channel, "intent": intent, "payload": payload, "key": key or secrets.token_hex(12)}
        answer = await self._connection.deliver({**kind, **said}, f"a message to {channel}", seconds)
        return Acknowledged(
            answer.status, answer.message_id, answer.channel, answer.offset, answer.epoch, answer.duplicate
        )

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self, event: Event) -> None:
        logger.log(event.level, "%s", event)
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:  # supervised: a listener's defect is not the connection's
            logger.exception("on_event failed")


def _with_positions(channels: Channels, since: Since) -> dict[str, Position | None]:
    names = [channels] if isinstance(channels, str) else channels
    wanted = dict(names) if isinstance(names, Mapping) else dict.fromkeys(names)
    if not wanted or (since is not None and len(wanted) != 1):
        raise ValueError("name at least one channel; with `since` exactly one, else give {name: position}")
    return {name: _position(since or position) for name, position in wanted.items()}


def _position(since: Since) -> Position | None:
    return Position.parse(since) if isinstance(since, str) else since
