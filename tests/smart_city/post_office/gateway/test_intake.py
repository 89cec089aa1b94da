"""What a peer has sent: it is handed on in order, a slice at a time, and waits while nothing may be handed on."""

from __future__ import annotations

import asyncio

import pytest

from smart_city.post_office.gateway.intake import FRAMES_A_TURN, SLICE_BYTES, Intake


class Peer(asyncio.Transport):
    """A transport that is only told whether to read, and what was handed on of its bytes."""

    def __init__(self, frames_a_slice: int = 1) -> None:
        super().__init__()
        self.slices: list[bytes] = []
        self.reads = True
        self.pauses_at = b""
        self.intake = Intake(self, self)
        self._frames_a_slice = frames_a_slice

    @property
    def taken(self) -> bytes:
        return b"".join(self.slices)

    def feed(self, data: bytes) -> int:
        self.slices.append(data)
        if data == self.pauses_at:
            self.intake.pause()
        return self._frames_a_slice

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


async def a_turn() -> None:
    """The loop goes round once."""
    await asyncio.sleep(0)


async def test_what_comes_is_handed_on_at_once_and_in_slices() -> None:
    peer = Peer()
    peer.intake.take(b"a")
    assert peer.slices == [b"a"]
    peer.intake.take(b"b" * (2 * SLICE_BYTES + 1))
    assert [len(each) for each in peer.slices] == [1, SLICE_BYTES, SLICE_BYTES, 1]


async def test_while_paused_everything_waits_and_keeps_its_order() -> None:
    peer = Peer()
    peer.pauses_at = b"a"
    for piece in (b"a", b"b", b"c"):
        peer.intake.take(piece)
    assert (peer.taken, peer.reads) == (b"a", False)
    peer.intake.resume()
    peer.intake.take(b"d")  # the loop had it in its hands already
    assert peer.taken == b"a"
    await a_turn()
    assert (peer.taken, peer.reads) == (b"abcd", True)


async def test_who_is_to_take_something_first_is_not_heard_whoever_else_resumes() -> None:
    peer = Peer()
    peer.intake.full(True)
    peer.intake.take(b"a")
    peer.intake.pause()
    peer.intake.resume()
    await a_turn()
    assert (peer.taken, peer.reads) == (b"", False)
    peer.intake.full(False)
    await a_turn()
    assert (peer.taken, peer.reads) == (b"a", True)


async def test_a_peer_that_sends_much_leaves_turns_of_the_loop_to_others() -> None:
    peer = Peer(frames_a_slice=FRAMES_A_TURN)
    peer.intake.take(b"a" * 3 * SLICE_BYTES)
    peer.intake.take(b"b")
    assert ([len(each) for each in peer.slices], peer.reads) == ([SLICE_BYTES], False)
    for slices in (2, 3, 4):
        await a_turn()
        assert len(peer.slices) == slices
    await a_turn()
    assert (peer.taken, peer.reads) == (b"a" * 3 * SLICE_BYTES + b"b", True)


@pytest.mark.parametrize("size", [1, SLICE_BYTES + 1])
async def test_nothing_is_handed_on_once_the_transport_is_gone(size: int) -> None:
    peer = Peer()
    peer.intake.pause()
    peer.intake.take(b"a" * size)
    peer.intake.resume()
    peer.intake.stop()
    await a_turn()
    assert not peer.slices
