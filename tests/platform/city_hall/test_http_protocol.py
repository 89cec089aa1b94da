"""Bounds on what comes before a request is known: its head's size, and an upgrade among other requests."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.platform import OPERATOR_TOKEN, Instance, unique

UPGRADE = (
    "GET /ws?session_token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_head_without_an_end_is_cut_off_at_64_kib(city: Instance) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-More: " + b"x" * 100_000)
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            assert b" 101 " not in await reader.read()
    writer.close()


async def test_an_upgrade_behind_an_unanswered_request_waits_for_its_answer(city: Instance) -> None:
    made = await city.done("post_office.subscribe_to_channel", {"channel": "guide", "mode": "inbox"})
    body = b'{"consumer": "%b", "wait_ms": 500}' % made["consumer"].encode()
    token = await city.session(unique("alice"))
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    writer.write(
        b"POST /soa/post-office/receive_messages HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (OPERATOR_TOKEN.encode(), len(body), body)
    )
    writer.write(UPGRADE.format(token=token).encode())
    async with asyncio.timeout(5):
        first = await reader.readuntil(b'"deliveries":[]}')
        second = await reader.readuntil(b"Connected to WebSocket Gateway")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 101")
    writer.close()
