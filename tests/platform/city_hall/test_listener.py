"""The listening socket: bound to what was asked for, and refused in words."""

from __future__ import annotations

import asyncio
import socket

import pytest

from city_hall.listener import listen, local_url
from city_hall.refusals import StartRefused
from tests.support.waiting import PATIENCE

EVERY_ADDRESS = ["0.0.0.0", *(["::"] if socket.has_dualstack_ipv6() else [])]  # noqa: S104  # what is tested


async def test_port_0_takes_a_free_one() -> None:
    with await listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        assert port > 0
        assert local_url(listener) == f"http://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


async def test_a_name_with_both_kinds_of_address_means_ipv4() -> None:
    with await listen("localhost", 0) as listener:
        assert listener.family == socket.AF_INET


@pytest.mark.parametrize("host", EVERY_ADDRESS)
async def test_every_address_is_reached_on_loopback_from_here(host: str) -> None:
    with await listen(host, 0) as listener:
        port = listener.getsockname()[1]
        assert local_url(listener) == f"http://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass


async def test_a_port_that_is_just_becoming_free_is_waited_for() -> None:
    taken = socket.create_server(("127.0.0.1", 0))
    waiting = asyncio.ensure_future(listen("127.0.0.1", taken.getsockname()[1]))
    done, _ = await asyncio.wait({waiting}, timeout=0.1)
    assert not done

    taken.close()

    (await asyncio.wait_for(waiting, PATIENCE)).close()


async def test_a_taken_port_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartRefused, match=f"Port {port} on 127.0.0.1 is taken"):
            await listen("127.0.0.1", port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
async def test_a_host_that_is_not_this_machine_is_named(host: str) -> None:
    with pytest.raises(StartRefused, match=host):
        await listen(host, 0)
