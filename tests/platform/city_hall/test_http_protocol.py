"""Bounds on what comes before a request is known: its head's size, and an upgrade among other requests."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE, until

UPGRADE = (
    "GET /ws?session_token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_head_without_an_end_is_cut_off_at_64_kib(city: Instance) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"X-More: " + b"x" * 100_000)
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(PATIENCE):
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
    async with asyncio.timeout(PATIENCE):
        first = await reader.readuntil(b'"deliveries":[]}')
        second = await reader.readuntil(b"Connected to WebSocket Gateway")
    assert first.startswith(b"HTTP/1.1 200")
    assert second.startswith(b"HTTP/1.1 101")
    writer.close()


async def test_a_client_that_takes_no_answer_does_not_hold_up_the_end(
    platform: Platform, caplog: pytest.LogCaptureFixture
) -> None:
    async with platform.instance() as city:
        for _ in range(4):
            await city.done(
                "post_office.publish_to_agent_channel", {"channel": "guide", "message": {"m": "x" * 250_000}}
            )
        deaf = socket.socket()
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect(("127.0.0.1", city.settings.port))
        request = "GET /api/channels/guide/history?since=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n"
        deaf.sendall(request.format(OPERATOR_TOKEN).encode() * 20)
        asked = city.app.state.gateway._desk.counters.operation("post_office.get_channel_history")
        await until(lambda: asked.count > 0, "it is answered")
        before = -1
        while asked.count != before:  # until no more is taken of what is answered
            before = asked.count
            await asyncio.sleep(0.1)
        assert before < 20
    deaf.close()
    assert "timeout graceful shutdown exceeded" not in caplog.text
