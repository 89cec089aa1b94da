"""The mask on what clients send, by our own hands and by the library's C extension."""

from __future__ import annotations

import random
from importlib import import_module

import pytest

from smart_city.post_office.gateway import whole_frames
from smart_city.post_office.gateway.masking import apply_mask


def test_the_example_of_the_standard_is_unmasked() -> None:
    assert apply_mask(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"  # RFC 6455, 5.7


def test_the_extension_is_where_we_look_for_it_and_is_used() -> None:
    """It is no documented interface: should a release move it, frames are still read, each at 1 µs more."""
    assert vars(whole_frames)["apply_mask"] is import_module("websockets.speedups").apply_mask


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 8, 125, 126, 4096, 65_537])
def test_both_ways_are_the_same(size: int) -> None:
    chance = random.Random(size)  # noqa: S311  # keeps no secret
    data, mask = chance.randbytes(size), chance.randbytes(4)
    assert apply_mask(data, mask) == import_module("websockets.speedups").apply_mask(data, mask)
    assert apply_mask(apply_mask(data, mask), mask) == data
