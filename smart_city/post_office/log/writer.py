"""The way into the logs: appends are gathered per turn of the event loop, and each is logged once.

It decides when and together with what an entry is sent, sends it again while no answer comes, and tells its
sender what became of it. What an append does to a log is the script's matter.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from foundations.errors import CityError, Internal, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.log.calls import (
    Answer,
    AppendCall,
    Outcome,
    Post,
    Then,
    append_call,
    log_script,
    read_answer,
)
from smart_city.post_office.log.patience import Patience
from smart_city.post_office.log.values import Appended, Entry, LogLimits, Stretch

_log = logging.getLogger(__name__)

ENTRIES_A_CALL = 512
BYTES_A_CALL = 1024 * 1024
"""A script holds up everybody else's commands: 512 small entries take a millisecond."""
CALLS_AT_ONCE = 8
"""Of one slot, so that this side prepares and settles calls while Valkey works on others."""


@dataclass(slots=True)
class _Waiting:
    """What has been taken and not been told of: counted, bounded, awaited."""

    entries: int = 0
    bytes: int = 0
    is_idle: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.is_idle.set()

    def has_room(self, size: int, patience: Patience) -> bool:
        return self.entries < patience.entries and self.bytes + size <= patience.bytes

    def add(self, size: int) -> None:
        if not self.entries:
            self.is_idle.clear()
        self.entries += 1
        self.bytes += size

    def remove(self, posts: list[Post]) -> None:
        self.entries -= len(posts)
        self.bytes -= sum([len(post.entry.data) for post in posts])
        if not self.entries:
            self.is_idle.set()


class LogWriter:
    """All appends of one instance. Per channel they are logged in the order in which they came.

    Posts are ``ready``, or ``behind`` while a call of their channel is in flight: there is one at a time, so
    that a call whose answer is lost can be sent again before anything newer. Those that are ready lie by slot: a
    call carries logs of one slot, the slots of a turn are sent together, and no slot waits for another's node.
    """

    def __init__(
        self,
        valkey: Valkey,
        tasks: Tasks,
        limits: LogLimits,
        on_appended: Callable[[Stretch], None],
        patience: Patience,
    ) -> None:
        self._valkey = valkey
        self._tasks = tasks
        self._limits = limits
        self._on_appended = on_appended
        self._patience = patience
        self._script = log_script("append")
        self._incarnation = secrets.token_hex(6)
        self._sequences = itertools.count(1)
        self._ready: defaultdict[int, dict[str, list[Post]]] = defaultdict(dict)
        self._behind: dict[str, list[Post]] = {}
        self._in_flight: set[int] = set()
        self._calls: Counter[int] = Counter()
        """How many of each slot are in flight."""
        self._waiting = _Waiting()
        self._woken: dict[int, None] = {}
        """Slots that are to be sent to in this turn, in the order in which they got something."""

    def append(self, channel: str, entry: Entry, then: Then, *, owner: str = "") -> None:
        """Sends an entry with this turn's others; ``then`` is called once, and at once if too much waits."""
        if owner and channel != f"connection:{owner}":
            raise ValueError(f"{owner!r} cannot own the log of {channel!r}")
        size = len(entry.data)
        if not self._waiting.has_room(size, self._patience):
            then(Unavailable("too many publications wait for Valkey already", retry_after=1))
            return
        self._waiting.add(size)
        post = Post(entry, then, bool(owner))
        behind = self._behind.get(channel)
        if behind is not None:
            behind.append(post)
            return
        slot = self._valkey.slot_of(channel)  # its keys' as well: it is their hash tag
        self._ready[slot].setdefault(channel, []).append(post)
        self._wake(slot)

    async def flush(self, timeout: float) -> int:  # noqa: ASYNC109  # nothing is raised
        """Waits until every sender is told, at most ``timeout`` seconds; returns how many are not."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._waiting.is_idle.wait()
        return self._waiting.entries

    # Rounds

    def _wake(self, slot: int) -> None:
        if slot in self._woken or self._calls[slot] >= CALLS_AT_ONCE:
            return
        if not self._woken:
            asyncio.get_running_loop().call_soon(self._send_ready)
        self._woken[slot] = None

    def _send_ready(self) -> None:
        woken, self._woken = self._woken, {}
        for slot in woken:
            ready = self._ready[slot]
            channels = deque(ready)
            while channels and self._calls[slot] < CALLS_AT_ONCE:
                self._send(slot, self._cut(ready, channels))
            if not ready:
                del self._ready[slot]

    def _cut(self, ready: dict[str, list[Post]], channels: deque[str]) -> dict[str, list[Post]]:
        """Takes the first posts of the first channels, as many as one call carries; one it always does."""
        taken: dict[str, list[Post]] = {}
        room, space = ENTRIES_A_CALL, BYTES_A_CALL
        while channels and room > 0:
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
            posts, slot=slot, writer=self._incarnation, sequence=sequence, prefix=prefix, limits=self._limits
        )
        self._in_flight.add(sequence)
        self._calls[slot] += 1
        try:
            task = self._tasks.spawn("append", self._deliver(sequence, call))
        except RuntimeError:  # the tasks' owner has closed them: nothing is sent any more
            asyncio.get_running_loop().call_soon(self._ended, sequence, call, True)
        else:
            task.add_done_callback(lambda task: self._ended(sequence, call, task.cancelled()))

    # Answers

    async def _deliver(self, sequence: int, call: AppendCall) -> None:
        try:
            texts = await self._patience.until_answered(
                lambda: self._valkey.run(self._script, call.keys, call.arguments())
            )
            answers = [read_answer(text) for text in texts]
        except Unavailable as error:
            self._give_up(call, error)
        except CityError as error:
            self._refuse(call, error)
        else:
            self._settle(call, answers)
        self._land(sequence, call)

    def _settle(self, call: AppendCall, answers: list[Answer]) -> None:
        for (channel, posts), answer in zip(call.posts.items(), answers, strict=True):
            if answer.error:
                _log.error("the log of %s cannot be written: %s", channel, answer.error)
                _tell_all(posts, Internal("this channel's log cannot be written"))
                continue
            appended = answer.appended(posts)
            if appended:
                self._announce(answer.stretch(channel, appended))
            for offset, post in enumerate(appended, answer.f):
                _tell(post, Appended(post.entry.message_id, offset, answer.e, False))
            for aside in answer.x:
                _tell(posts[aside.index], aside.outcome())

    def _announce(self, stretch: Stretch) -> None:
        try:
            self._on_appended(stretch)
        except Exception:  # it is logged all the same, and its senders are to hear so
            _log.exception("publications of %s were logged, but not taken up here", stretch.channel)

    def _refuse(self, call: AppendCall, error: CityError) -> None:
        for posts in call.posts.values():
            _tell_all(posts, error)

    def _give_up(self, call: AppendCall, error: Unavailable) -> None:
        """This slot was away for all our patience: who waits behind this call, or to be sent there, is told too."""
        ready = self._ready.pop(call.slot, {})
        waiting = [*ready.values(), *(self._behind[channel] for channel in call.posts)]
        self._behind.update((channel, []) for channel in call.posts)
        self._refuse(call, error)
        for posts in waiting:
            self._waiting.remove(posts)
            _tell_all(posts, error)

    def _land(self, sequence: int, call: AppendCall) -> None:
        """Ends a call of which all senders have been told, and wakes what waited behind it."""
        self._in_flight.discard(sequence)
        self._calls[call.slot] -= 1
        if not self._calls[call.slot]:
            del self._calls[call.slot]
        for channel, posts in call.posts.items():
            self._waiting.remove(posts)
            if behind := self._behind.pop(channel):
                self._ready[call.slot][channel] = behind
        if call.slot in self._ready:
            self._wake(call.slot)

    def _ended(self, sequence: int, call: AppendCall, is_cancelled: bool) -> None:
        """Tells those whom a cancelled call, or a defect (logged by now), has left without an answer."""
        if sequence not in self._in_flight:
            return
        if is_cancelled:
            self._give_up(call, Unavailable("this instance is shutting down", retry_after=1))
        else:
            self._refuse(call, Internal("the publication could not be logged"))
        self._land(sequence, call)


def _fitting(posts: list[Post], room: int, space: int) -> tuple[int, int]:
    """How many of the first posts fit into so many entries and bytes, and their bytes."""
    size = 0
    for count, post in enumerate(posts):
        grown = size + len(post.entry.data)
        if count == room or grown > space:
            return count, size
        size = grown
    return len(posts), size


def _tell_all(posts: list[Post], outcome: Outcome) -> None:
    for post in posts:
        _tell(post, outcome)


def _tell(post: Post, outcome: Outcome) -> None:
    try:
        post.then(outcome)
    except Exception:  # one sender's defect must not keep the others from being told
        _log.exception("a sender failed when it was told what became of its publication")
