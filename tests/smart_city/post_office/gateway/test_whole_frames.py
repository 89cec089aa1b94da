"""Whole messages are taken out of a peer's bytes, however these are cut, and the protocol gets everything else."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from smart_city.post_office.gateway.whole_frames import Message, Pong, WholeFrames

MOST = 1000


def masked(opcode: Opcode, data: bytes, *, fin: bool = True) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True)


def split(frames: WholeFrames, *pieces: bytes) -> tuple[list[Message | Pong], bytes]:
    """The messages and pongs in what arrives piece by piece, and what is the protocol's."""
    messages: list[Message | Pong] = []
    rest = b""
    for piece in pieces:
        for part in frames.split(piece):
            if isinstance(part, bytes):
                rest += part
            else:
                messages.append(part)
    return messages, rest


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[start:end] for start, end in pairwise(at)]


sizes = st.sampled_from([0, 1, 3, 4, 125, 126, 200, MOST])
whole = st.builds(lambda is_text, size: (Opcode.TEXT if is_text else Opcode.BINARY, b"x" * size), st.booleans(), sizes)
control = st.builds(
    lambda opcode, size: (opcode, b"p" * size),
    st.sampled_from([Opcode.PING, Opcode.PONG]),
    st.sampled_from([0, 4, 125]),
)
large = st.just((Opcode.TEXT, b"l" * (MOST + 1))) | st.just((Opcode.BINARY, b"l" * 70_000))


@given(st.lists(whole | control | large, max_size=8), st.lists(st.integers(0, 80_000), max_size=12))
def test_however_the_bytes_are_cut_messages_and_the_rest_come_out_whole(
    frames: list[tuple[Opcode, bytes]], places: list[int]
) -> None:
    written = [(opcode, data, masked(opcode, data)) for opcode, data in frames]
    messages, rest = split(WholeFrames(MOST), *cut(b"".join(frame for _, _, frame in written), places))

    def is_ours(opcode: Opcode, data: bytes) -> bool:
        return opcode is not Opcode.PING and len(data) <= MOST

    assert messages == [
        Pong(data) if opcode is Opcode.PONG else (data, opcode is Opcode.TEXT)
        for opcode, data, _ in written
        if is_ours(opcode, data)
    ]
    assert rest == b"".join(frame for opcode, data, frame in written if not is_ours(opcode, data))


def test_what_stands_between_two_messages_comes_between_them() -> None:
    ping = masked(Opcode.PING, b"")
    data = masked(Opcode.TEXT, b"one") + ping + masked(Opcode.TEXT, b"two")
    assert WholeFrames(MOST).split(data) == [(b"one", True), ping, (b"two", True)]


def test_until_the_last_fragment_everything_is_the_protocols() -> None:
    frames, ping = WholeFrames(MOST), masked(Opcode.PING, b"")
    fragments = [masked(Opcode.TEXT, b"be", fin=False), ping, masked(Opcode.CONT, b"gin", fin=False)]
    assert split(frames, *fragments) == ([], b"".join(fragments))
    assert split(frames, masked(Opcode.CONT, b"!"), masked(Opcode.TEXT, b"after"))[0] == [(b"after", True)]


def test_a_message_where_a_fragment_is_due_is_the_protocols_to_refuse() -> None:
    begun, misplaced = masked(Opcode.TEXT, b"be", fin=False), masked(Opcode.TEXT, b"misplaced")
    assert split(WholeFrames(MOST), begun, misplaced) == ([], begun + misplaced)


def test_frames_that_break_the_rules_are_the_protocols_as_soon_as_their_head_is_here() -> None:
    unmasked = Frame(Opcode.TEXT, b"x" * 100).serialize(mask=False)
    reserved = b"\xc1" + masked(Opcode.TEXT, b"x" * 100)[1:]
    for broken in (unmasked, reserved):
        assert split(WholeFrames(MOST), broken[:20]) == ([], broken[:20])


def test_a_message_waits_for_its_end_and_one_that_is_too_large_for_that_does_not() -> None:
    small, too_large = masked(Opcode.TEXT, b"x" * MOST), masked(Opcode.TEXT, b"x" * (MOST + 1))
    frames = WholeFrames(MOST)
    assert frames.split(small[:500]) == []
    assert frames.split(small[500:]) == [(b"x" * MOST, True)]
    assert frames.split(too_large[:500]) == [too_large[:500]]
    assert frames.split(too_large[500:] + small) == [too_large[500:], (b"x" * MOST, True)]


def test_a_frame_that_is_too_large_is_handed_on_with_its_length() -> None:
    head = b"\x81\xff" + (MOST + 1).to_bytes(8, "big")
    assert split(WholeFrames(MOST), head[:9]) == ([], b"")
    assert split(WholeFrames(MOST), head[:9], head[9:]) == ([], head)


def test_pongs_come_whole_also_between_fragments_and_one_that_is_too_large_is_the_protocols() -> None:
    frames, pong = WholeFrames(MOST), masked(Opcode.PONG, b"12")
    begun = masked(Opcode.TEXT, b"be", fin=False)
    assert frames.split(pong + begun + pong) == [Pong(b"12"), begun, Pong(b"12")]
    assert (frames.split(pong[:5]), frames.split(pong[5:])) == ([], [Pong(b"12")])
    too_large = b"\x8a" + masked(Opcode.TEXT, b"x" * 126)[1:]
    assert frames.split(too_large) == [too_large]
