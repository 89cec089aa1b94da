"""An answer put together from the frames it comes in: parts, snapshots, further attempts, the end.

It holds text and counts parts; it deliberately knows neither sockets nor those who wait (see `answers`).
"""

from __future__ import annotations

from city_client.errors import AnswerFailed
from city_client.frames import Frame, Payload, Problem

MAX_ATTEMPTS_REMEMBERED = 32


class Assembly:
    """The answer to one question, as far as it is known.

    ``text`` grows within one ``edition``; a higher edition means that it began again: another attempt, or a
    whole that differs from its parts. Text with a hole is never shown: after a missing part the text stands
    still until a snapshot or the end brings it whole.
    """

    def __init__(self) -> None:
        self.text = ""
        self.edition = 0
        self.whole: Frame | None = None
        self.failure: AnswerFailed | None = None
        self._attempt = ""
        self._earlier: list[str] = []
        self._part = 0
        self._has_hole = False

    @property
    def is_done(self) -> bool:
        return self.whole is not None or self.failure is not None

    def take(self, frame: Frame) -> None:
        """Adds one ``chat_response``; frames that were seen before, or came too late, change nothing."""
        if self.is_done:
            return
        match frame.stream:
            case "start":
                self._start(frame)
            case "delta":
                self._delta(frame)
            case "error":
                self._error(frame)
            case _:
                self._end(frame)

    def _start(self, frame: Frame) -> None:
        if frame.message_id == self._attempt or frame.message_id in self._earlier:
            return
        self._begin(frame.message_id)
        self._show(message_of(frame.payload))

    def _delta(self, frame: Frame) -> None:
        if frame.message_id in self._earlier:
            return
        if frame.message_id != self._attempt:
            self._begin(frame.message_id)
        if frame.part <= self._part:
            return
        if frame.snapshot:
            self._has_hole = False
            self._show(message_of(frame.payload))
        elif self._has_hole or frame.part != self._part + 1:
            self._has_hole = True
            return
        else:
            self.text += message_of(frame.payload)
        self._part = frame.part

    def _error(self, frame: Frame) -> None:
        if frame.retrying:
            return
        problem = frame.error or Problem(message=message_of(frame.payload))
        self.failure = AnswerFailed(problem.code, problem.message)

    def _end(self, frame: Frame) -> None:
        self.whole = frame
        if "message" in frame.payload:
            self._show(message_of(frame.payload))

    def _begin(self, message_id: str) -> None:
        if self._attempt:
            self._earlier = [*self._earlier[-MAX_ATTEMPTS_REMEMBERED:], self._attempt]
        self._attempt, self._part, self._has_hole = message_id, 0, False
        self._show("")

    def _show(self, text: str) -> None:
        if not text.startswith(self.text):
            self.edition += 1
        self.text = text


def message_of(payload: Payload) -> str:
    """The text that a payload carries under ``message``; empty if it carries none."""
    message = payload.get("message", "")
    return message if isinstance(message, str) else ""
