"""What travels on a log's bus channel, read as the scripts write it."""

from __future__ import annotations

import msgspec
import pytest

from smart_city.post_office.log import Stretch
from smart_city.post_office.log.bus import Announcer, Delta, bus_channel, parse


def test_a_stretch_is_cut_by_its_sizes() -> None:
    payload = b'{"v":1,"e":"k3f9","s":3,"f":5,"l":7,"z":[1,0,3]}\nabcd'
    assert parse("guide", payload) == Stretch("guide", "k3f9", 3, 5, (b"a", b"", b"bcd"), 7)


def test_above_the_bound_there_are_positions_only() -> None:
    assert parse("guide", b'{"v":1,"e":"k3f9","s":1,"f":5,"l":7}\n') == Stretch("guide", "k3f9", 1, 5, None, 7)


def test_a_line_feed_in_an_entry_does_not_end_the_header() -> None:
    assert parse("guide", b'{"v":1,"e":"e","s":1,"f":1,"l":1,"z":[3]}\na\nb') == Stretch(
        "guide", "e", 1, 1, (b"a\nb",), 1
    )


def test_a_delta_names_its_answer_and_its_part() -> None:
    frame = b'{"type":"chat_response","message_id":"m1","payload":{"message":"x"},"part":4}'
    assert parse("guide", b'{"v":1,"t":"delta"}\n' + frame) == Delta("m1", 4, frame)


def test_a_kind_of_a_newer_release_is_passed_over() -> None:
    assert parse("guide", b'{"v":2,"t":"typing","who":"ann"}\n{}') is None


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]\n", b'{"v":"1"}\n', b'{"v":1,"t":"delta"}\n{}'])
def test_what_no_release_writes_is_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        parse("guide", payload)


def test_a_log_is_heard_where_its_scripts_publish() -> None:
    assert bus_channel("user:ann") == "log:{user:ann}"


def test_all_who_listen_hear_what_was_appended_here_in_order() -> None:
    announcer, heard = Announcer(), list[tuple[str, Stretch]]()
    announcer.listeners += [lambda stretch: heard.append(("a", stretch)), lambda stretch: heard.append(("b", stretch))]
    stretch = Stretch("guide", "e", 1, 1, (b"{}",), 1)
    announcer(stretch)
    assert heard == [("a", stretch), ("b", stretch)]
