"""The way into the logs: appends are gathered per turn of the event loop, and each is logged once.

It decides when and together with what an entry is sent, keeps the order of each channel while no answer comes, and
tells senders what became of their entries. What an append does to a log is the script's matter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from dataclasses import replace

from foundations.errors import CityError, Internal, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.keep import Keep
from smart_city.post_office.log.calls import AppendCall, Post, Then, append_call
from smart_city.post_office.log.echo import Echo, HeardHere
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.log.sending import Sending
from smart_city.post_office.log.unanswered import Result, Unanswered
from smart_city.post_office.log.values import Appended, Entry, LogLimits, Stretch
from smart_city.post_office.log.waiting import OnHeld, Waiting, tell

_log = logging.getLogger(__name__)

ENTRIES_A_CALL = 512
BYTES_A_CALL = 1024 * 1024
"""A script holds up everybody else's commands: 512 small entries take a millisecond."""
LOGS_A_CALL = 64
"""Entries of a log each take fifteen times as long; and what the first calls logged is delivered while Valkey works on
the next ones (many_channels: a tenth more deliveries a second)."""
SLOTS_A_TURN = 256
"""A call takes some 50 µs of this side: those of thousands of slots would hold up everybody here."""
CALLS_AT_ONCE = 8
"""Of one slot, so that this side prepares and settles calls while Valkey works on others."""


class LogWriter:
    """All appends of one instance. Per channel they are logged in the order in which they came.

    Posts are ``ready``, or ``behind`` while a call of their channel is in flight or held: there is one at a time,
    so that a call whose answer is lost can be sent again before anything newer. Those that are ready lie by slot: a
    call carries logs of one slot, the slots of a turn are sent together, and no slot waits for another's node.
    """

    def __init__(
        self,
        valkey: Valkey,
        tasks: Tasks,
        limits: LogLimits,
        on_appended: Callable[[Stretch], None],
        *,
        patience: Patience,
        keep: Keep,
        on_held: OnHeld,
        heard_here: HeardHere,
    ) -> None:
        self._valkey = valkey
        self._tasks = tasks
        self._limits = limits
        self._on_appended = on_appended
        self._sending = Sending(
            valkey, tasks, replace(patience, seconds=keep.after), on_answer=self._answered, on_silence=self._hold
        )
        self._echo = Echo(valkey, tasks, heard_here)
        self._incarnation = secrets.token_hex(6)
        self._sequences = itertools.count(1)
        self._ready: defaultdict[int, dict[str, list[Post]]] = defaultdict(dict)
        self._behind: dict[str, list[Post]] = {}
        self._held: set[str] = set()
        self._in_flight: set[int] = set()
        self._calls: Counter[int] = Counter()
        """How many of each slot are in flight."""
        self._waiting = Waiting(patience, keep, on_held)
        self._unanswered = Unanswered(tasks, self._sending.ask, self._answered, seconds=keep.seconds)
        self._woken: dict[int, None] = {}
        """Slots that are to be sent to in this turn, in the order in which they got something."""

    def append(self, channel: str, entry: Entry, then: Then, *, owner: str = "") -> None:
        """Sends an entry with this turn's others; ``then`` is called once, and at once if too much waits.

        Before that it may be told, once, that the entry is held.
        """
        if owner and channel != f"connection:{owner}":
            raise ValueError(f"{owner!r} cannot own the log of {channel!r}")
        size = len(entry.data)
        if not self._waiting.has_room(size):
            then(Unavailable("too many publications wait for Valkey already", retry_after=1))
            return
        self._waiting.add(size)
        post = Post(entry, then, bool(owner))
        behind = self._behind.get(channel)
        if behind is None:
            slot = self._valkey.slot_of(channel)  # its keys' as well: it is their hash tag
            self._ready[slot].setdefault(channel, []).append(post)
            self._wake(slot)
        elif channel in self._held:
            behind += self._waiting.hold(channel, [post])
        else:
            behind.append(post)

    async def flush(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every sender has the final word, at most ``timeout`` seconds; returns how many have not."""
        return await self._waiting.idle(timeout)

    # Rounds

    def _wake(self, slot: int) -> None:
        if slot in self._woken or self._calls[slot] >= CALLS_AT_ONCE:
            return
        if not self._woken:
            asyncio.get_running_loop().call_soon(self._send_ready)
        self._woken[slot] = None

    def _send_ready(self) -> None:
        for slot in list(itertools.islice(self._woken, SLOTS_A_TURN)):
            del self._woken[slot]
            ready = self._ready[slot]
            channels = deque(ready)
            while channels and self._calls[slot] < CALLS_AT_ONCE:
                self._send(slot, self._cut(ready, channels))
            if not ready:
                del self._ready[slot]
        if self._woken:
            asyncio.get_running_loop().call_soon(self._send_ready)

    def _cut(self, ready: dict[str, list[Post]], channels: deque[str]) -> dict[str, list[Post]]:
        """Takes the first posts of the first channels, as many as one call carries; one it always does."""
        taken: dict[str, list[Post]] = {}
        room, space = ENTRIES_A_CALL, BYTES_A_CALL
        while channels and room > 0 and len(taken) < LOGS_A_CALL:
            posts = ready[channels[0]]
            count, size = _fitting(posts, room, space)
            if count == 0:
                if taken:
                    break
                count, size = 1, space  # larger than a call: alone in its own
            channel = channels.popleft()
            del ready[channel]
            taken[channel], self._behind[channel] = posts[:count], posts[count:]
            room, space = room - count, space - size
        return taken

    def _send(self, slot: int, posts: dict[str, list[Post]]) -> None:
        sequence, prefix = next(self._sequences), self._valkey.prefix
        call = append_call(
            posts, slot=slot, writer=self._incarnation, sequence=sequence, prefix=prefix, limits=self._limits,
            heard=self._echo.heard(posts),
        )  # fmt: skip
        self._in_flight.add(sequence)
        self._calls[slot] += 1
        self._sending.send(call, briskly=slot in self._unanswered.of_slot)

    # Answers

    def _hold(self, call: AppendCall) -> None:
        """Valkey was away for all our patience: who waits for this call, and behind it, is told that it is held."""
        self._leave(call)
        for channel, posts in call.posts.items():
            self._held.add(channel)
            posts[:] = self._waiting.hold(channel, posts, sent=True)
            self._behind[channel] = self._waiting.hold(channel, self._behind[channel])
        self._unanswered.add(call)
        if call.slot in self._ready:
            self._wake(call.slot)

    def _answered(self, call: AppendCall, result: Result) -> None:
        """Ends a call that has an answer, maybe a late one, or will have none."""
        self._held.difference_update(call.posts)
        try:
            if isinstance(result, Unavailable):
                self._give_up(call, result)
            else:
                self._conclude(call, result)
        except Exception:  # a call is supervised here: its senders must not wait for ever
            _log.exception("an append failed")
            self._conclude(call, Internal("the publication could not be logged"))
        self._land(call)

    def _conclude(self, call: AppendCall, result: Result) -> None:
        """Tells everybody who sent something with this call."""
        if isinstance(result, CityError):
            for channel, posts in call.posts.items():
                self._refuse(channel, posts, result)
            return
        for (channel, posts), answer in zip(call.posts.items(), result, strict=True):
            if answer.error:
                _log.error("the log of %s cannot be written: %s", channel, answer.error)
                self._refuse(channel, posts, Internal("this channel's log cannot be written"))
                continue
            appended = answer.appended(posts)
            if appended:
                stretch = answer.stretch(channel, appended)
                self._announce(stretch)
                if call.was_left(channel):
                    self._echo.make_up(stretch)
            for offset, post in enumerate(appended, answer.f):
                tell(post, Appended(post.entry.message_id, offset, answer.e, False))
            for aside in answer.x:
                self._waiting.conclude(channel, posts[aside.index], aside.outcome())

    def _announce(self, stretch: Stretch) -> None:
        try:
            self._on_appended(stretch)
        except Exception:  # it is logged all the same, and its senders are to hear so
            _log.exception("publications of %s were logged, but not taken up here", stretch.channel)

    def _refuse(self, channel: str, posts: list[Post], error: CityError) -> None:
        for post in posts:
            self._waiting.conclude(channel, post, error)

    def _give_up(self, call: AppendCall, error: Unavailable) -> None:
        """Nobody will know what became of this call; who waits behind it is not kept waiting."""
        for channel, posts in call.posts.items():
            self._refuse(channel, posts, error)
            behind, self._behind[channel] = self._behind[channel], []
            self._refuse(channel, behind, error)
            self._waiting.remove(behind)

    def _land(self, call: AppendCall) -> None:
        """Ends a call of which all senders have been told, and wakes what waited behind it."""
        self._leave(call)
        for channel, posts in call.posts.items():
            self._waiting.remove(posts)
            if behind := self._behind.pop(channel):
                self._ready[call.slot][channel] = behind
        if call.slot in self._ready:
            self._wake(call.slot)

    def _leave(self, call: AppendCall) -> None:
        """A call is in flight no more: it was answered, or is held."""
        if call.sequence in self._in_flight:
            self._in_flight.discard(call.sequence)
            self._calls[call.slot] -= 1
            if not self._calls[call.slot]:
                del self._calls[call.slot]


def _fitting(posts: list[Post], room: int, space: int) -> tuple[int, int]:
    """How many of the first posts fit into so many entries and bytes, and their bytes."""
    size = 0
    for count, post in enumerate(posts):
        grown = size + len(post.entry.data)
        if count == room or grown > space:
            return count, size
        size = grown
    return len(posts), size
