"""Coming in: where the token may be, who is refused with which code, and what the welcome says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from foundations.errors import Unauthenticated, Unavailable
from tests.contract.raw import dialled, upgrade, upgraded
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.waiting import PATIENCE, until


async def close_of(url: str, **options: Any) -> tuple[int, str]:
    """The close code and reason that answer a handshake."""
    async with connect(url, **options) as socket:
        async with asyncio.timeout(PATIENCE):
            await socket.wait_closed()
        return socket.close_code or 0, socket.close_reason or ""


async def welcome_of(url: str, **options: Any) -> dict[str, Any]:
    async with connect(url, **options) as socket, asyncio.timeout(PATIENCE):
        frame: dict[str, Any] = json.loads(await socket.recv())
        return frame


async def test_the_first_frame_is_the_welcome_with_the_clients_own_channels(city: Instance) -> None:
    alice = unique("alice")
    async with city.connected(await city.session(alice)) as client:
        welcome = client.welcome
        assert welcome["type"] == "system"
        assert welcome["event"] == "welcome"
        assert welcome["message"] == "Connected to WebSocket Gateway"
        assert welcome["user_id"] == alice
        assert welcome["instance_id"] == city.settings.instance_id
        assert welcome["resumed"] is False
        assert welcome["protocol"] == 1
        assert welcome["heartbeat_seconds"] == 25
        assert welcome["max_message_bytes"] == 4 * 1024 * 1024
        assert set(welcome["channels"]) == {f"connection:{client.id}", f"user:{alice}"}
        assert welcome["channels"][f"connection:{client.id}"] == {"offset": 0, "epoch": ""}
        assert welcome["channels"][f"user:{alice}"]["offset"] == 0
        assert welcome["channels"][f"user:{alice}"]["epoch"]


async def test_a_token_may_come_in_the_query_the_header_a_subprotocol_or_a_cookie(city: Instance) -> None:
    token = await city.session(unique("alice"))
    origin = city.url
    ways: list[dict[str, Any]] = [
        {"uri": f"{city.ws_url}?session_token={token}"},
        {"uri": city.ws_url, "additional_headers": {"Authorization": f"Bearer {token}"}},
        {"uri": city.ws_url, "subprotocols": ["smart-city.v1", f"token.{token}"]},
        {"uri": city.ws_url, "origin": origin, "additional_headers": {"Cookie": f"session_token={token}"}},
    ]
    for way in ways:
        assert (await welcome_of(way.pop("uri"), **way))["event"] == "welcome"


async def test_the_token_is_never_echoed_as_a_subprotocol(city: Instance) -> None:
    token = await city.session(unique("alice"))
    async with connect(city.ws_url, subprotocols=["smart-city.v1", f"token.{token}"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "smart-city.v1"
        assert token not in str(socket.response.headers if socket.response else "")


async def test_a_cookie_counts_only_with_an_allowed_origin(city: Instance) -> None:
    token = await city.session(unique("alice"))
    cookie = {"Cookie": f"session_token={token}"}
    assert (await close_of(city.ws_url, additional_headers=cookie))[0] == 4501
    assert (await close_of(city.ws_url, additional_headers=cookie, origin="https://evil.example"))[0] == 4503


async def test_a_foreign_origin_is_refused_and_a_configured_one_is_not(platform: Platform) -> None:
    city = await platform.start(allowed_origins="https://app.example, https://other.example")
    token = await city.session(unique("alice"))
    url = f"{city.ws_url}?session_token={token}"
    assert (await close_of(url, origin="https://evil.example"))[0] == 4503
    assert (await welcome_of(url, origin="https://other.example"))["event"] == "welcome"
    assert (await welcome_of(url, origin=city.url))["event"] == "welcome"
    assert (await welcome_of(url))["event"] == "welcome"


@pytest.mark.parametrize("token", ["", "nonsense", "ses_" + "x" * 43, "svc_" + "x" * 43, "tkt_" + "x" * 43])
async def test_a_missing_or_unknown_token_closes_with_4501(city: Instance, token: str) -> None:
    code, reason = await close_of(f"{city.ws_url}?session_token={token}")
    assert code == Unauthenticated.close_code
    assert token not in reason or not token


async def test_an_expired_token_closes_with_4501(city: Instance) -> None:
    token = await city.session(unique("alice"), ttl_seconds=2)
    async with city.connected(token) as client:
        assert await client.close_code() == 4501
    assert (await close_of(f"{city.ws_url}?session_token={token}"))[0] == 4501


async def test_a_ticket_opens_one_connection(city: Instance) -> None:
    token = await city.session(unique("alice"))
    endpoint = await city.done(
        "post_office.get_websocket_endpoint", {"session_token": token, "realm": "operator", "ticket": True}
    )
    url = endpoint["websocket_url"]
    assert token not in url
    assert (await welcome_of(url))["event"] == "welcome"
    assert (await close_of(url))[0] == 4501


async def test_a_ticket_opens_its_connection_also_when_that_takes_two_attempts(
    city: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was used up by the first, and the second ended with 4501."""
    token = await city.session(unique("alice"))
    endpoint = await city.done(
        "post_office.get_websocket_endpoint", {"session_token": token, "realm": "operator", "ticket": True}
    )
    deaf_once(city, monkeypatch)
    assert (await welcome_of(endpoint["websocket_url"]))["event"] == "welcome"


async def test_who_was_revoked_between_two_attempts_is_not_let_in(
    city: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = await city.session(alice := unique("alice"))
    deaf_once(city, monkeypatch, lambda: city.done("traffic_cop.revoke_session", {"user_id": alice}))
    assert (await close_of(f"{city.ws_url}?session_token={token}"))[0] == 4501


def deaf_once(
    city: Instance, monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], Awaitable[object]] | None = None
) -> None:
    """The next one who is identified finds that the bus does not answer."""
    hub = city.app.state.gateway._arriving._hub
    open_whole = hub.open_whole

    async def fail(*_: object, **__: object) -> None:
        monkeypatch.setattr(hub, "open_whole", open_whole)
        if meanwhile is not None:
            await meanwhile()
        raise Unavailable("the bus does not answer")

    monkeypatch.setattr(hub, "open_whole", fail)


async def test_blanks_behind_the_value_of_a_header_are_none_of_it(city: Instance) -> None:
    blank = {
        "Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAA== \t",
        "Sec_WebSocket_Version": "13 ",
        "Origin": city.url + " ",
    }
    host = city.url.removeprefix("http://")
    async with upgraded(city.url, await city.session(unique("alice")), Host=host, **blank):
        pass  # it got its welcome


async def test_a_services_socket_is_named_after_its_realm(city: Instance) -> None:
    token = await city.service("content", "post_office.history")
    async with city.connected(token) as client:
        assert client.welcome["user_id"] == "~content"


async def test_the_operator_may_connect(city: Instance) -> None:
    async with city.connected(OPERATOR_TOKEN) as client:
        assert client.welcome["user_id"] == "~operator"


async def test_a_user_has_so_many_connections_and_no_more(platform: Platform) -> None:
    city = await platform.start(max_connections_per_user=2)
    token = await city.session(unique("alice"))
    async with city.connected(token):
        async with city.connected(token):
            assert (await close_of(f"{city.ws_url}?session_token={token}"))[0] == 4029
        await until(lambda: len(city.app.state.gateway.connections) == 1, "the second is gone")

        async def again() -> bool:
            async with connect(f"{city.ws_url}?session_token={token}") as socket:
                try:
                    return bool(await socket.recv())
                except Exception:
                    return False

        async with asyncio.timeout(PATIENCE):
            while not await again():
                pass


async def test_an_instance_that_is_full_says_when_to_come_back(platform: Platform) -> None:
    city = await platform.start(max_connections=1)
    async with city.connected(await city.session(unique("alice"))):
        code, reason = await close_of(f"{city.ws_url}?session_token={await city.session(unique('bob'))}")
        assert code == 1013
        assert reason.startswith("retry_after=")


async def test_a_plain_request_is_told_to_upgrade(city: Instance) -> None:
    response = await city.http.get("/ws")
    assert response.status_code == 426
    assert response.json()["detail"]


@pytest.mark.parametrize("method", ["POST", "HEAD", "DELETE"])
async def test_an_upgrade_is_asked_for_with_get_alone(city: Instance, method: str) -> None:
    token = await city.session(unique("alice"))
    async with dialled(city.url) as raw:
        await raw.send(upgrade(token).replace(b"GET", method.encode(), 1))
        status, headers, _ = await raw.response()
    assert (status, headers["allow"]) == (405, "GET")


async def test_websockets_are_served_nowhere_else(city: Instance) -> None:
    token = await city.session(unique("alice"))
    try:
        code, _ = await close_of(f"{city.ws_url}/else?session_token={token}")
    except InvalidStatus as refused:
        code = refused.response.status_code
    assert code in {404, 1008}


BROKEN = [
    ["Origin: http://["],
    ["Origin: http://[::1"],
    ["Authorization: Bearer a", "Authorization: Bearer b"],
    ["Origin: null", "Origin: null"],
    ["Cookie: ;;;=;=", "Origin: http://127.0.0.1"],
]


@pytest.mark.parametrize("headers", BROKEN, ids=str)
async def test_a_handshake_that_makes_no_sense_is_closed_with_a_code_and_leaves_nothing(
    city: Instance, headers: list[str]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    writer.write(
        "\r\n".join(
            [
                "GET //[::1/ws HTTP/1.1" if headers == BROKEN[1] else "GET /ws HTTP/1.1", "Host: 127.0.0.1",
                "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", *headers, "", "",
            ]
        ).encode()
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE):
        data = await reader.readuntil(b"\r\n\r\n")
        closing = await reader.read(64) if b" 101 " in data else b""
    writer.close()
    code = int.from_bytes(closing[2:4], "big")
    assert code in {1008, 4501, 4503} or b" 101 " not in data
    async with city.connected(await city.session(unique("alice"))) as client:
        await client.nothing_but_pong()


async def test_frames_sent_before_the_welcome_are_answered_after_it(city: Instance) -> None:
    token = await city.session(unique("alice"))
    async with connect(f"{city.ws_url}?session_token={token}") as socket:
        for number in range(20):
            await socket.send(json.dumps({"type": "ping", "id": f"p{number}"}))
        frames = [json.loads(await socket.recv()) for _ in range(21)]
    assert frames[0]["event"] == "welcome"
    assert [frame["id"] for frame in frames[1:]] == [f"p{number}" for number in range(20)]


async def test_frames_in_the_piece_of_the_handshake_are_answered(city: Instance) -> None:
    token = await city.session(unique("alice"))
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    ping = b'{"type":"ping","id":"early"}'
    writer.write(
        f"GET /ws?session_token={token} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        + bytes([0x81, 0x80 | len(ping), 0, 0, 0, 0])
        + ping
    )
    async with asyncio.timeout(PATIENCE):
        await reader.readuntil(b'"id":"early"')
    writer.close()


@pytest.mark.parametrize("sent", [b"", b"GET /ws HTTP/1.1\r\n", b"GET /ws HTTP/1.1\r\nHost: here\r\nX-Slow: "])
async def test_a_request_that_never_ends_is_cut_off(platform: Platform, sent: bytes) -> None:
    city = await platform.start(handshake_seconds=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", city.settings.port)
    writer.write(sent)
    async with asyncio.timeout(PATIENCE):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
