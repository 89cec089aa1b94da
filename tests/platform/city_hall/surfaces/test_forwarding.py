"""Behind proxies a request comes from their client, by the rules that hold for sockets."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from city_hall.surfaces.forwarding import Forwarding
from foundations.proxies import TrustedProxies

TRUSTED = ("10.9.1.0/16", "127.0.0.1")


async def seen(peer: str, *headers: tuple[bytes, bytes], trusted: tuple[str, ...] = TRUSTED) -> tuple[Any, str]:
    scope: Scope = {"type": "http", "scheme": "http", "client": (peer, 4711), "headers": list(headers)}

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        """What is seen stands in the scope, which the server's access log reads, too."""

    async def receive() -> Message:
        raise AssertionError("nothing is read")

    async def send(_message: Message) -> None:
        raise AssertionError("nothing is sent")

    await Forwarding(app, TrustedProxies(trusted))(scope, receive, send)
    return scope["client"][0], scope["scheme"]


@pytest.mark.parametrize("proxy", ["10.9.200.7", "::ffff:10.9.200.7", "127.0.0.1"])
async def test_a_trusted_proxy_is_believed_also_in_addresses_of_a_dual_socket(proxy: str) -> None:
    told = (b"x-forwarded-for", b"6.6.6.6, 1.1.1.1"), (b"x-forwarded-proto", b"https")
    assert await seen(proxy, *told) == ("1.1.1.1", "https")


async def test_anybody_else_is_not() -> None:
    told = (b"x-forwarded-for", b"1.1.1.1"), (b"x-forwarded-proto", b"https")
    assert await seen("9.9.9.9", *told) == ("9.9.9.9", "http")


async def test_what_cannot_be_read_changes_nothing() -> None:
    told = (b"x-forwarded-for", b"unknown"), (b"x-forwarded-proto", b"gopher")
    assert await seen("127.0.0.1", *told) == ("127.0.0.1", "http")
