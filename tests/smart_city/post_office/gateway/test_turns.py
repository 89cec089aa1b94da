"""Frames in their turn: who waits for whom, when reading pauses, and when everything is done."""

from __future__ import annotations

from collections.abc import Callable

from smart_city.post_office.gateway.turns import Turns


class Place:
    """Turns, and what happens in them; a frame may do something while it is handled."""

    def __init__(self) -> None:
        self.handled: list[bytes] = []
        self.does: dict[bytes, Callable[[], None]] = {}
        self.is_reading = True
        self.idle = 0
        self.turns = Turns(self, self, most_beside=2)

    def pause_reading(self) -> None:
        self.is_reading = False

    def resume_reading(self) -> None:
        self.is_reading = True

    def handle(self, data: bytes) -> None:
        self.handled.append(data)
        self.does.get(data, lambda: None)()

    def on_idle(self) -> None:
        self.idle += self.turns.is_idle

    def take(self, *frames: bytes) -> None:
        for frame in frames:
            self.turns.take(frame)


def test_what_can_be_done_at_once_is() -> None:
    place = Place()
    place.take(b"a", b"b")
    assert place.handled == [b"a", b"b"]
    assert place.turns.is_idle
    assert place.is_reading


def test_a_frame_that_waits_holds_back_the_ones_behind_it_and_pauses_reading() -> None:
    place = Place()
    place.does[b"a"] = place.turns.hold
    place.take(b"a", b"b", b"c")
    assert place.handled == [b"a"]
    assert not place.is_reading
    assert not place.turns.is_idle
    place.turns.release()
    assert place.handled == [b"a", b"b", b"c"]
    assert place.is_reading
    assert place.idle == 1


def test_one_of_those_behind_it_may_wait_in_its_turn() -> None:
    place = Place()
    place.does |= {b"a": place.turns.hold, b"b": place.turns.hold}
    place.take(b"a", b"b", b"c")
    place.turns.release()
    assert place.handled == [b"a", b"b"]
    assert not place.is_reading
    place.turns.release()
    assert place.handled == [b"a", b"b", b"c"]


def test_only_so_many_are_under_way_beside_the_next() -> None:
    place = Place()
    place.does |= dict.fromkeys((b"a", b"b", b"c", b"d"), place.turns.began)
    place.take(b"a", b"b", b"c", b"d")
    assert place.handled == [b"a", b"b"]
    place.turns.ended()
    assert place.handled == [b"a", b"b", b"c"]
    assert not place.is_reading
    place.turns.ended()
    assert place.handled == [b"a", b"b", b"c", b"d"]
    assert place.is_reading
    assert place.idle == 0
    place.turns.ended()
    place.turns.ended()
    assert place.idle == 1


def test_many_that_are_answered_while_they_are_handled_do_not_nest() -> None:
    place = Place()

    def at_once() -> None:
        place.turns.began()
        place.turns.ended()

    frames = [b"%d" % number for number in range(5000)]
    place.does |= {b"first": place.turns.hold} | dict.fromkeys(frames, at_once)
    place.take(b"first", *frames)
    place.turns.release()
    assert place.handled == [b"first", *frames]
    assert place.turns.is_idle
