"""Answers put together from their parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from city_client.assembly import Assembly
from city_client.frames import Frame, Problem


def frame(stream: str, text: str = "", *, message_id: str = "a1", part: int = 0, snapshot: bool = False) -> Frame:
    payload = {"message": text} if text else {}
    return Frame(
        type="chat_response",
        stream=stream,
        payload=payload,
        message_id=message_id,
        part=part,
        snapshot=snapshot,
    )


def failure(message_id: str = "a1", *, retrying: bool) -> Frame:
    return Frame(
        type="chat_response",
        stream="error",
        message_id=message_id,
        retrying=retrying,
        error=Problem("stopped", "no"),
    )


def taken(*frames: Frame) -> Assembly:
    assembly = Assembly()
    for each in frames:
        assembly.take(each)
    return assembly


def test_an_answer_without_parts_is_whole_at_once() -> None:
    assembly = taken(frame("", "all"))
    assert (assembly.text, assembly.is_done, assembly.edition) == ("all", True, 0)


def test_parts_are_appended_and_the_end_may_leave_the_text_out() -> None:
    assembly = taken(frame("start"), frame("delta", "a", part=1), frame("delta", "b", part=2), frame("end"))
    assert (assembly.text, assembly.is_done, assembly.edition) == ("ab", True, 0)


def test_a_retry_starts_the_text_over() -> None:
    assembly = taken(frame("start"), frame("delta", "wrong", part=1), failure(retrying=True))
    assert (assembly.text, assembly.is_done) == ("wrong", False)
    assembly.take(frame("start", message_id="a2"))
    assembly.take(frame("delta", "right", message_id="a2", part=1))
    assert (assembly.text, assembly.edition) == ("right", 1)
    assembly.take(frame("delta", "late", message_id="a1", part=2))
    assembly.take(failure("a1", retrying=True))
    assembly.take(frame("start", message_id="a1"))
    assert (assembly.text, assembly.edition) == ("right", 1)


def test_the_last_failure_is_the_answers() -> None:
    assembly = taken(frame("start"), failure(retrying=False))
    assert assembly.failure is not None
    assert assembly.failure.code == "stopped"
    assembly.take(frame("end", "late"))
    assert assembly.whole is None


def test_text_with_a_hole_stands_still_until_it_is_whole_again() -> None:
    assembly = taken(frame("start"), frame("delta", "a", part=1), frame("delta", "c", part=3))
    assert assembly.text == "a"
    assembly.take(frame("delta", "abcd", part=4, snapshot=True))
    assembly.take(frame("delta", "e", part=5))
    assert (assembly.text, assembly.edition) == ("abcde", 0)


def test_who_joins_in_the_middle_begins_with_the_snapshot() -> None:
    assembly = taken(frame("delta", "c", part=3))
    assert assembly.text == ""
    assembly.take(frame("delta", "abc", part=3, snapshot=True))
    assembly.take(frame("delta", "d", part=4))
    assert assembly.text == "abcd"


def test_a_whole_that_differs_from_its_parts_replaces_them() -> None:
    assembly = taken(frame("start"), frame("delta", "draft", part=1), frame("end", "final"))
    assert (assembly.text, assembly.edition) == ("final", 1)


pieces = st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=8)


@given(pieces, st.data())
def test_whatever_is_lost_repeated_or_snapshotted_the_text_is_a_beginning_of_the_answer(
    texts: list[str], data: st.DataObject
) -> None:
    whole = "".join(texts)
    assembly = taken(frame("start"))
    for part, text in enumerate(texts, 1):
        so_far = "".join(texts[:part])
        for way in data.draw(st.lists(st.sampled_from(["delta", "snapshot"]), max_size=2)):
            is_snapshot = way == "snapshot"
            assembly.take(frame("delta", so_far if is_snapshot else text, part=part, snapshot=is_snapshot))
        assert whole.startswith(assembly.text)
        assert assembly.edition == 0
    assembly.take(frame("end", whole))
    assert (assembly.text, assembly.edition) == (whole, 0)
