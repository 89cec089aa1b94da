"""Answers to questions: each one awaitable as a whole and iterable in parts, while it is being written.

Answers are found by the question they reply to, on whatever log they come. Putting one together is
`assembly`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from dataclasses import dataclass

from city_client.assembly import Assembly
from city_client.errors import ClientError, Ended, NoAnswer
from city_client.frames import Acknowledged, Frame, Payload

EARLY_FRAMES = 256
"""Answers kept that came before the acknowledgement of their question."""


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text to append; with ``restarts``, everything shown before it is to be thrown away."""

    text: str
    restarts: bool = False

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer. ``agent`` is the realm that gave it; ``text`` is the payload's ``message``."""

    text: str
    payload: Payload
    agent: str
    channel: str
    message_id: str
    in_reply_to: str
    conversation_id: str

    def __str__(self) -> str:
        return self.text


class Answer:
    """An answer on its way: ``await`` it for the `Reply`, or ``async for`` its `Part` values, or both.

    Raises, in both ways: `AnswerFailed`, `NoAnswer`, and whatever `CityClient.send` raises.
    """

    def __init__(self, seconds: float, stop: Callable[[str], Awaitable[str]]) -> None:
        self._assembly = Assembly()
        self._seconds = seconds
        self._stop = stop
        self._message_id = ""
        self._error: ClientError | None = None
        self._news: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __await__(self) -> Generator[object, None, Reply]:
        return self._whole().__await__()

    async def __aiter__(self) -> AsyncIterator[Part]:
        edition, shown = 0, 0
        while True:
            text, is_over = self._assembly.text, self._is_over
            if self._assembly.edition != edition:
                edition, shown = self._assembly.edition, len(text)
                yield Part(text, restarts=True)
            elif len(text) > shown:
                piece, shown = text[shown:], len(text)
                yield Part(piece)
            elif is_over:
                break
            else:
                await asyncio.shield(self._news)
        self._raise_failure()

    async def stop(self) -> str:
        """Tells the platform that this answer is not wanted any more; it then ends with the code ``stopped``.

        Returns ``stopped``, ``finished`` (it was over before) or ``unknown``. Leaving the loop over the parts, or
        cancelling whoever awaits the answer, stops nothing.
        """
        while not self._message_id and not self._is_over:
            await asyncio.shield(self._news)
        return await self._stop(self._message_id) if self._message_id else "unknown"

    def take(self, frame: Frame) -> None:
        """Adds one frame of the answer."""
        self._assembly.take(frame)
        self._wake()

    async def follow(self, send: Callable[[], Awaitable[Acknowledged]], answers: Answers) -> None:
        """Lives as long as the answer is awaited: asks, then watches that something is heard of it."""
        try:
            self._message_id = (await send()).message_id
            answers.expect(self._message_id, self)
            self._wake()
            while not self._is_over:
                async with asyncio.timeout(self._seconds):
                    await asyncio.shield(self._news)
        except TimeoutError:
            self._error = NoAnswer(f"nothing was heard of the answer for {self._seconds:g} s")
        except ClientError as error:
            self._error = error
        finally:
            answers.forget(self._message_id)
            self.fail(Ended(1000, "closed here"))

    def fail(self, error: ClientError) -> None:
        """No answer will come any more; what is over already stays as it is."""
        self._error = self._error or error
        self._wake()

    @property
    def _is_over(self) -> bool:
        return self._assembly.is_done or self._error is not None

    async def _whole(self) -> Reply:
        while not self._is_over:
            await asyncio.shield(self._news)
        self._raise_failure()
        return _reply(self._assembly.text, self._assembly.whole)

    def _raise_failure(self) -> None:
        if failure := self._assembly.failure or (None if self._assembly.is_done else self._error):
            raise failure

    def _wake(self) -> None:
        news, self._news = self._news, asyncio.get_running_loop().create_future()
        if not news.done():
            news.set_result(None)


def _reply(text: str, whole: Frame | None) -> Reply:
    if whole is None:
        raise NoAnswer("the answer is not over")
    return Reply(
        text=text,
        payload={"message": text, **whole.payload},
        agent=whole.agent,
        channel=whole.channel,
        message_id=whole.message_id,
        in_reply_to=whole.in_reply_to,
        conversation_id=whole.conversation_id,
    )


class Answers:
    """The answers that a client waits for, by the ids of their questions."""

    def __init__(self) -> None:
        self._expected: dict[str, Answer] = {}
        self._asking = 0
        self._early: deque[Frame] = deque(maxlen=EARLY_FRAMES)

    def asking(self) -> None:
        """A question is on its way; until its id is known, answers are kept."""
        self._asking += 1

    def expect(self, message_id: str, answer: Answer) -> None:
        """The question's id is known."""
        self._expected[message_id] = answer
        for frame in [frame for frame in self._early if frame.in_reply_to == message_id]:
            answer.take(frame)

    def forget(self, message_id: str) -> None:
        """The answer is over, or its question was never taken."""
        self._expected.pop(message_id, None)
        self._asking -= 1
        if not self._asking:
            self._early.clear()

    def take(self, frame: Frame) -> None:
        """Hands a ``chat_response`` to whom it answers; others have it in the log that it came on."""
        if answer := self._expected.get(frame.in_reply_to):
            answer.take(frame)
        elif self._asking > len(self._expected):
            self._early.append(frame)

    def end(self, error: ClientError) -> None:
        """The client is over."""
        for answer in list(self._expected.values()):
            answer.fail(error)
