"""Section 4: coming in by WebSocket, with which token from where, and what the first frame says."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from tests.contract.raw import dialled, text, upgrade
from tests.contract.shapes import TIMESTAMP, has_only
from tests.support.platform import Instance, unique
from tests.support.waiting import PATIENCE, ROOM

pytestmark = pytest.mark.asyncio(loop_scope="module")

V1 = Subprotocol("smart-city.v1")


async def first_word(town: Instance, **request: Any) -> dict[str, Any] | int:
    """The welcome, or the close code that comes instead, after whatever handshake."""
    path = request.pop("path", "/ws")
    async with dialled(town.url) as raw:
        await raw.send(upgrade(path=path, **request))
        status, headers, _ = await raw.response()
        assert status == 101, status
        assert "ses_" not in str(headers)
        opcode, data = await raw.frame()
        if opcode == 8:
            return int.from_bytes(data[:2], "big")
        return dict(json.loads(data))


def is_welcome(word: dict[str, Any] | int, user: str) -> None:
    assert isinstance(word, dict), word
    assert word["type"] == "system"
    assert word["event"] == "welcome"
    assert word["user_id"] == user


async def test_the_welcome_has_its_fields_and_stands_in_the_registry(town: Instance) -> None:
    user = unique("alice")
    async with town.connected(await town.session(user)) as alice:
        known = await town.done("post_office.get_connection", {"connection_id": alice.id})
        welcome = alice.welcome
    has_only(
        welcome,
        {"type", "event", "message", "protocol", "features", "connection_id", "user_id", "instance_id", "resumed",
         "heartbeat_seconds", "max_message_bytes", "channels", "timestamp"},
    )  # fmt: skip
    assert (welcome["type"], welcome["event"]) == ("system", "welcome")
    assert welcome["message"] == "Connected to WebSocket Gateway"
    assert welcome["protocol"] == 1
    assert isinstance(welcome["features"], list)
    assert welcome["user_id"] == user
    assert welcome["instance_id"] == town.settings.instance_id
    assert welcome["resumed"] is False
    assert welcome["heartbeat_seconds"] == 25
    assert welcome["max_message_bytes"] == 4 << 20
    assert set(welcome["channels"]) == {f"connection:{welcome['connection_id']}", f"user:{user}"}
    assert all(set(position) == {"offset", "epoch"} for position in welcome["channels"].values())
    assert TIMESTAMP.fullmatch(welcome["timestamp"])
    assert known["user_id"] == user
    assert known["instance_id"] == welcome["instance_id"]


async def test_the_welcome_comes_first_even_to_a_user_who_is_written_to_all_the_time(town: Instance) -> None:
    user = unique("alice")
    token = await town.session(user)
    done = asyncio.Event()

    async def write() -> int:
        count = 0
        while not done.is_set():
            await town.done("post_office.send_to_user", {"user_id": user, "message": {"n": count}})
            count += 1
        return count

    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        writing = group.create_task(write())
        for _ in range(20):
            async with town.connected(token) as alice:
                assert alice.welcome["event"] == "welcome"
                position = alice.welcome["channels"][f"user:{user}"]
                (first,) = await alice.messages(1, f"user:{user}")
                assert first["offset"] == position["offset"] + 1
        done.set()
    assert writing.result() > 0


@pytest.mark.parametrize("place", ["query", "bearer", "subprotocol"])
async def test_the_token_may_come_in_each_of_these_places(town: Instance, place: str) -> None:
    user = unique("alice")
    token = await town.session(user)
    options: dict[str, Any] = {
        "query": {"path": f"/ws?session_token={token}"},
        "bearer": {"Authorization": f"Bearer {token}"},
        "subprotocol": {"Sec_WebSocket_Protocol": f"smart-city.v1, token.{token}"},
    }[place]
    is_welcome(await first_word(town, **options), user)


async def test_the_subprotocol_is_selected_and_the_token_never_echoed(town: Instance) -> None:
    token = await town.session(unique("alice"))
    for offered in ([V1, Subprotocol(f"token.{token}")], [Subprotocol(f"token.{token}"), V1]):
        async with connect(town.ws_url, subprotocols=offered) as socket:
            assert socket.subprotocol == V1
            assert socket.response is not None
            assert token not in str(socket.response.headers)


async def test_a_client_without_a_subprotocol_is_given_none(town: Instance) -> None:
    token = await town.session(unique("alice"))
    async with connect(f"{town.ws_url}?session_token={token}") as socket:
        assert socket.subprotocol is None


async def test_unknown_subprotocols_are_not_selected(town: Instance) -> None:
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(upgrade(token, Sec_WebSocket_Protocol="graphql-ws, smart-city.v9"))
        status, headers, _ = await raw.response()
    assert status == 101
    assert headers.get("sec-websocket-protocol") not in {"graphql-ws", "smart-city.v9"}


async def test_the_cookie_counts_only_with_an_allowed_origin(town: Instance) -> None:
    user = unique("alice")
    cookie = f"session_token={await town.session(user)}"
    host = town.url.removeprefix("http://")
    same = {"Host": host, "Origin": town.url}
    is_welcome(await first_word(town, Cookie=cookie, **same), user)
    is_welcome(await first_word(town, Cookie=f"theme=dark; {cookie}; x=y", **same), user)
    assert await first_word(town, Cookie=cookie, Host=host) == 4501
    assert await first_word(town, Cookie=cookie, Host=host, Origin="https://evil.example") == 4503


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "http://127.0.0.1.evil.example",
     "file://", "nonsense", "http://"],
)  # fmt: skip
async def test_a_foreign_origin_closes_with_4503_whatever_token_it_has(town: Instance, origin: str) -> None:
    token = await town.session(unique("alice"))
    host = town.url.removeprefix("http://")
    assert await first_word(town, token=token, Host=host, Origin=origin) == 4503
    assert await first_word(town, path=f"/ws?session_token={token}", Host=host, Origin=origin) == 4503


async def test_the_own_origin_and_none_at_all_pass(town: Instance) -> None:
    user = unique("alice")
    token = await town.session(user)
    host = town.url.removeprefix("http://")
    is_welcome(await first_word(town, token=token, Host=host, Origin=town.url), user)
    is_welcome(await first_word(town, token=token, Host=host), user)


@pytest.mark.parametrize(
    "token",
    ["", "nonsense", "ses_" + "x" * 43, "svc_" + "x" * 43, "tkt_" + "x" * 43, "op_" + "x" * 43, "%00", "%ff", "ses_",
     "x" * 4000, "%F0%9F%98%80"],
    ids=lambda token: token[:8],
)  # fmt: skip
async def test_a_token_that_is_missing_or_unknown_closes_with_4501(town: Instance, token: str) -> None:
    assert await first_word(town, path=f"/ws?session_token={token}") == 4501
    assert await first_word(town, path="/ws") == 4501


async def test_an_expired_and_a_revoked_token_close_with_4501(town: Instance) -> None:
    began = time.monotonic()
    expired = await town.done("traffic_cop.create_session", {"user_id": unique("alice"), "ttl_seconds": 1})
    revoked = await town.done("traffic_cop.create_session", {"user_id": unique("alice")})
    await town.done("traffic_cop.revoke_session", {"session_id": revoked["session_id"]})
    assert await first_word(town, token=revoked["session_token"]) == 4501
    word: Any = {}
    while word != 4501:
        assert time.monotonic() < began + 1 + ROOM, "the session outlives its second"
        word = await first_word(town, token=expired["session_token"])
    assert time.monotonic() > began + 0.9


async def test_a_ticket_is_good_for_one_handshake(town: Instance) -> None:
    user = unique("alice")
    asked = {"session_token": await town.session(user), "realm": "operator", "ticket": True}
    endpoint = await town.done("post_office.get_websocket_endpoint", asked)
    path = "/ws?" + endpoint["websocket_url"].partition("?")[2]
    assert asked["session_token"] not in path
    is_welcome(await first_word(town, path=path), user)
    assert await first_word(town, path=path) == 4501


async def test_of_many_who_use_a_ticket_at_once_one_comes_in(town: Instance) -> None:
    user = unique("alice")
    asked = {"session_token": await town.session(user), "realm": "operator", "ticket": True}
    endpoint = await town.done("post_office.get_websocket_endpoint", asked)
    path = "/ws?" + endpoint["websocket_url"].partition("?")[2]
    words = await asyncio.gather(*(first_word(town, path=path) for _ in range(10)))
    assert sorted(4501 if word == 4501 else 0 for word in words) == [0] + [4501] * 9


@pytest.mark.parametrize("resume", ["", "nonsense", "%00", "x" * 2000, "connection:c1", "../../x"])
async def test_a_resume_that_nobody_could_mean_is_no_reason_to_refuse(town: Instance, resume: str) -> None:
    user = unique("alice")
    is_welcome(await first_word(town, token=await town.session(user), path=f"/ws?resume={resume}"), user)


async def test_frames_in_the_same_segment_as_the_handshake_are_not_lost_in_silence(town: Instance) -> None:
    """RFC 6455 forbids it to clients: they may be answered or thrown out, but not left waiting."""
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(upgrade(token) + b"".join(text({"type": "ping", "id": str(n)}) for n in range(3)))
        status, _, _ = await raw.response()
        assert status == 101
        assert (await raw.json())["event"] == "welcome"
        await raw.send(text({"type": "ping", "id": "3"}))
        try:
            assert [(await raw.json())["id"] for _ in range(4)] == ["0", "1", "2", "3"]
        except asyncio.IncompleteReadError as thrown_out:
            assert thrown_out.partial == b""


async def test_a_handshake_in_single_bytes_is_understood(town: Instance) -> None:
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        for byte in upgrade(token):
            await raw.send(bytes([byte]))
        assert (await raw.response())[0] == 101
        assert (await raw.json())["event"] == "welcome"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Key": ""}, {"Sec_WebSocket_Key": "short"}, {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Version": ""}, {"Sec_WebSocket_Version": "x"}, {"Connection": "keep-alive"},
        {"Upgrade": "h2c"}, {"Sec_WebSocket_Extensions": "permessage-deflate; server_max_window_bits=99"},
        {"Sec_WebSocket_Extensions": ";;;"}, {"Sec_WebSocket_Protocol": ",,,"},
    ],
    ids=str,
)  # fmt: skip
async def test_a_broken_handshake_is_refused_and_nothing_falls(town: Instance, headers: dict[str, str]) -> None:
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(upgrade(token, **headers))
        status, _, _ = await raw.response()
        assert status == 101 or 400 <= status < 500, status
    assert (await town.http.get("/health/live")).status_code == 200


@pytest.mark.parametrize("path", ["/", "/ws/", "/ws/x", "/mcp", "/soa/post-office/reply", "/health", "/%77s", "/WS"])
async def test_other_paths_are_no_websockets(town: Instance, path: str) -> None:
    token = await town.session(unique("alice"))
    address, headers = town.url.replace("http", "ws") + path, {"Authorization": f"Bearer {token}"}
    try:
        async with connect(address, additional_headers=headers) as socket, asyncio.timeout(PATIENCE):
            word = await socket.recv()
            assert path == "/%77s", word  # the same address, written differently
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        assert closed.rcvd.code not in {1000, 1005, 1006}
    except Exception as refused:  # the library has one exception a kind of refusal
        assert "HTTP 4" in str(refused), refused


async def test_a_websocket_client_that_says_nothing_more_is_not_missed(town: Instance) -> None:
    """Its half of the connection ends right behind the handshake."""
    token = await town.session(unique("alice"))
    async with dialled(town.url) as raw:
        await raw.send(upgrade(token))
        raw.writer.write_eof()
        await raw.ended()


async def test_two_tokens_that_differ_do_not_add_up(town: Instance) -> None:
    """Which one counts is said by the order of the places; in no case do both."""
    alice, bob = unique("alice"), unique("bob")
    word = await first_word(town, token=await town.session(bob), path=f"/ws?session_token={await town.session(alice)}")
    assert word == 4501 or isinstance(word, dict)
    if isinstance(word, dict):
        assert word["user_id"] in {alice, bob}
        assert f"user:{word['user_id']}" in word["channels"]
        assert len(word["channels"]) == 2
