"""The client's MessagePack against msgspec's, both ways."""

from __future__ import annotations

import base64
import json
import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec

from tests.support.node import NODE

SIZES = (0, 1, 15, 16, 31, 32, 255, 256, 65535, 65536)
NUMBERS = [
    sign * (2**power + more) for power in (0, 5, 7, 8, 15, 16, 31, 32, 52) for more in (-1, 0, 1) for sign in (1, -1)
]
EDGES: list[Any] = [
    None, True, False, "", 0.5, -1.25e300, 5e-324, {}, [], *NUMBERS, 2**53 - 1, -(2**53 - 1),
    *("é" * size for size in SIZES), *(b"\xff" * size for size in SIZES),
    *([1] * size for size in SIZES), *({str(n): n for n in range(size)} for size in SIZES[:-2]),
]  # fmt: skip


def unpacked(lines: list[bytes]) -> list[dict[str, Any]]:
    """What the client makes of each."""
    script = Path(__file__).with_name("unpacking.js")
    told = "\n".join(line.hex() for line in lines)
    ran = subprocess.run([NODE, str(script)], input=told, capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in ran.stdout.splitlines()]


def grown(chance: random.Random, depth: int = 4) -> Any:
    """Some value."""
    kind = chance.randrange(8 if depth else 6)
    if kind == 6:
        return [grown(chance, depth - 1) for _ in range(chance.randrange(5))]
    if kind == 7:
        return {f"k{chance.randrange(99)}": grown(chance, depth - 1) for _ in range(chance.randrange(5))}
    text = "".join(chance.choices('aé€😀\n"', k=chance.randrange(9)))
    values = (
        None,
        chance.random() < 0.5,
        text,
        chance.getrandbits(53) - 2**52,
        chance.gauss(0, 1e9),
        chance.randbytes(7),
    )
    return values[kind]


def in_json(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: in_json(item) for name, item in value.items()}
    return [in_json(item) for item in value] if isinstance(value, list) else value


def test_the_client_reads_what_msgspec_writes_and_the_other_way_round() -> None:
    values = EDGES + [grown(random.Random(seed)) for seed in range(500)]  # noqa: S311  # the same ones every time
    for value, told in zip(values, unpacked([msgspec.msgpack.encode(value) for value in values]), strict=True):
        assert told["value"] == in_json(value)
        assert msgspec.msgpack.decode(bytes.fromhex(told["again"])) == value


def test_what_is_cut_off_followed_or_no_part_of_the_protocol_is_refused() -> None:
    whole = msgspec.msgpack.encode({"a": [1, "two", b"three"]})
    cut = [whole[:length] for length in range(1, len(whole))]
    wrong = [b"\xc1", b"\xd4\x01\x02", b"\xa1\xff", b"\x81\x01\x02", whole + b"\x00", b"\xdf\xff\xff\xff\xff"]
    assert all("error" in told for told in unpacked([*cut, *wrong]))
