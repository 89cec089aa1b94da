"""What happens to a client, in words for people."""

from __future__ import annotations

import pytest

from city_client.cursors import Gap
from city_client.events import (
    Broken,
    Complained,
    Connected,
    Disconnected,
    Event,
    Expiring,
    FellBehind,
    NotReached,
    Reconnecting,
    Subscribed,
    Unsubscribed,
)
from city_client.frames import Position

HERE = Position(41, "k3f9")


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (Connected("c1", "alice", "one", False), ("connected", "alice", "one", "c1")),
        (Connected("c1", "alice", "one", True), ("resumed",)),
        (Disconnected(4009, "too slow"), ("4009", "too slow")),
        (NotReached("refused"), ("not reached", "refused")),
        (Reconnecting(3, 0.1234), ("123 ms", "attempt 3")),
        (Subscribed("guide", HERE, None, 0, ""), ("guide", "41.k3f9")),
        (Subscribed("guide", HERE, True, 7, ""), ("recovered", "7")),
        (Subscribed("guide", HERE, False, 0, "trimmed"), ("could not recover", "trimmed", "41.k3f9")),
        (Broken("guide", Gap("trimmed", Position(3, "a"), HERE)), ("gap", "trimmed", "3.a", "41.k3f9")),
        (FellBehind("guide"), ("guide", "behind")),
        (Unsubscribed("guide", "forbidden", "gone"), ("guide", "forbidden", "gone")),
        (Expiring("12:00"), ("expires", "12:00")),
        (Complained("internal", "oops"), ("internal", "oops")),
    ],
)
def test_every_event_says_what_happened_and_to_what(event: Event, words: tuple[str, ...]) -> None:
    assert [word for word in words if word not in str(event)] == []
