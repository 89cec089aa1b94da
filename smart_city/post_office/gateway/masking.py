"""The mask on what clients send (RFC 6455, 5.3), for where the WebSocket library's C extension is not to be had.

It takes 1.1 µs for 200 bytes and 15 for 4 kB where that takes 0.1 and 0.7, a tenth of a question's whole way.
"""

from __future__ import annotations


def apply_mask(data: bytes | bytearray | memoryview, mask: bytes | bytearray) -> bytes:
    """The data with each byte combined with that of the mask, whose four bytes come again and again."""
    size = len(data)
    repeated = (mask * ((size + 3) // 4))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")).to_bytes(size, "little")
