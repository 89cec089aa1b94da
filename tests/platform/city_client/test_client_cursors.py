"""Positions: nothing twice, and nothing missing in silence."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from city_client.cursors import Cursor, Gap
from city_client.frames import Position, Standing


def test_a_new_reader_starts_where_the_acknowledgement_says() -> None:
    cursor = Cursor()
    cursor.acknowledged(Standing(offset=5, epoch="a"))
    assert cursor.take(Position(6, "a"))
    assert (cursor.position, cursor.take_gap()) == (Position(6, "a"), None)


def test_what_was_seen_is_not_taken_again() -> None:
    cursor = Cursor(Position(5, "a"))
    assert not cursor.take(Position(5, "a"))
    assert not cursor.take(Position(3, "a"))
    assert cursor.position == Position(5, "a")


def test_a_new_epoch_goes_on_at_the_next_offset_without_a_gap() -> None:
    cursor = Cursor(Position(5, "a"))
    assert cursor.take(Position(6, "b"))
    assert cursor.gap is None


def test_a_failed_recovery_is_a_gap_that_the_next_publication_carries_once() -> None:
    cursor = Cursor(Position(5, "a"))
    cursor.acknowledged(Standing(offset=90, epoch="a", recovered=False, reason="trimmed"))
    assert cursor.take(Position(91, "a"))
    assert cursor.take_gap() == Gap("trimmed", Position(5, "a"), Position(90, "a"))
    assert cursor.take_gap() is None


def test_gaps_that_nobody_saw_become_one() -> None:
    cursor = Cursor(Position(5, "a"))
    cursor.acknowledged(Standing(offset=90, epoch="a", recovered=False, reason="trimmed"))
    cursor.reset(Position(3, "b"), "diverged")
    assert cursor.take(Position(4, "b"))
    assert cursor.take_gap() == Gap("diverged", Position(5, "a"), Position(3, "b"))


@pytest.mark.parametrize(("position", "reason"), [(Position(8, "a"), "skipped"), (Position(4, "b"), "diverged")])
def test_a_break_that_the_server_did_not_tell_of_is_told_all_the_same(position: Position, reason: str) -> None:
    cursor = Cursor(Position(5, "a"))
    assert cursor.take(position)
    gap = cursor.take_gap()
    assert gap is not None
    assert (gap.reason, gap.after) == (reason, Position(5, "a"))


class ReaderOfALog(RuleBasedStateMachine):
    """A server's log with restarts, losses and trims, read by a client that loses its connection."""

    def __init__(self) -> None:
        super().__init__()
        self.log: list[tuple[Position, int]] = []
        self.chain = [("e0", 0)]
        self.lives = 0
        self.first_kept = 1
        self.written = 0
        self.cursor = Cursor()
        self.sent: int | None = None
        self.got: list[int] = []

    @property
    def newest(self) -> Position:
        return Position(self.log[-1][0].offset if self.log else self.first_kept - 1, self.chain[-1][0])

    @rule()
    def publish(self) -> None:
        self.written += 1
        self.log.append((Position(self.newest.offset + 1, self.chain[-1][0]), self.written))

    @rule(lost=st.integers(0, 3))
    def store_restarts(self, lost: int) -> None:
        """A new epoch, at the offset after what survived; epochs that began in what was lost are lost with it."""
        survived = len(self.log) - min(lost, len(self.log))
        self.log = self.log[:survived]
        self.chain = [(epoch, first) for epoch, first in self.chain if first <= self.newest.offset]
        self.lives += 1
        self.chain.append((f"e{self.lives}", self.newest.offset))
        self.sent = None

    @rule(count=st.integers(1, 3))
    def trim(self, count: int) -> None:
        """Old entries go; a reader on its way through them is told."""
        gone = self.log[:count]
        if gone and self.sent is not None and self.sent < gone[-1][0].offset:
            self.sent = gone[-1][0].offset
            epoch = gone[-1][0].epoch
            self.cursor.reset(Position(self.sent, epoch), "trimmed")
        if gone:
            self.log = self.log[count:]
            self.first_kept = gone[-1][0].offset + 1

    @rule()
    def disconnect(self) -> None:
        self.sent = None

    @precondition(lambda self: self.sent is None)
    @rule()
    def subscribe(self) -> None:
        since = self.cursor.position
        if since is None:
            self.sent = self.newest.offset
            self.cursor.acknowledged(Standing(offset=self.newest.offset, epoch=self.newest.epoch))
            self.got = [number for _, number in self.log]
            return
        if self._still_holds(since):
            self.sent = since.offset
            self.cursor.acknowledged(Standing(offset=since.offset, epoch=since.epoch, recovered=True))
        else:
            self.sent = self.newest.offset
            offset, epoch = self.newest
            self.cursor.acknowledged(Standing(offset=offset, epoch=epoch, recovered=False, reason="diverged"))

    @precondition(lambda self: self.sent is not None)
    @rule(count=st.integers(1, 4), again=st.booleans())
    def receive(self, count: int, again: bool) -> None:
        """Some of what follows arrives, the first perhaps twice."""
        assert self.sent is not None
        coming = [entry for entry in self.log if entry[0].offset > self.sent][:count]
        for position, number in coming[:1] * again + coming:
            if self.cursor.take(position):
                newest = self.got[-1] if self.got else 0
                assert number > newest
                unread = [known for _, known in self.log if known > newest]
                assert self.cursor.take_gap() is not None or number == unread[0]
                self.got.append(number)
            self.sent = position.offset

    @invariant()
    def what_was_read_is_in_order(self) -> None:
        assert self.got == sorted(self.got)

    def _still_holds(self, since: Position) -> bool:
        if since.offset < self.first_kept - 1 or since.offset > self.newest.offset:
            return False
        ends = [*[first for _, first in self.chain[1:]], self.newest.offset]
        spans = {epoch: (first, end) for (epoch, first), end in zip(self.chain, ends, strict=True)}
        first, end = spans.get(since.epoch, (1, 0))
        return first <= since.offset <= end


TestReaderOfALog = ReaderOfALog.TestCase
TestReaderOfALog.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(st.integers(0, 10**15), st.text("abcdefghij0123456789", max_size=12))
def test_a_position_reads_as_it_is_written(offset: int, epoch: str) -> None:
    assert Position.parse(str(Position(offset, epoch))) == Position(offset, epoch)


@pytest.mark.parametrize("text", ["", "x", "-1", ".e", "٣", "1e3.x"])
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="position"):
        Position.parse(text)
