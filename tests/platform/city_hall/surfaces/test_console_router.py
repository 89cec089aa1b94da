"""The console's front desk and files, over a real server."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI

from city_hall.surfaces.console import FILES, console_router
from city_hall.surfaces.problems import bind_problems
from foundations.settings import Settings
from tests.support.http_server import serving
from tests.support.scripted_gateway import Desk
from tests.support.waiting import PATIENCE


@asynccontextmanager
async def front_desk(host: str = "127.0.0.1") -> AsyncIterator[tuple[httpx2.AsyncClient, Desk]]:
    desk = Desk()
    app = FastAPI()
    bind_problems(app)
    app.include_router(console_router(Settings.read(host=host, pillars="content,night_life"), desk))
    async with serving(app) as url, httpx2.AsyncClient(base_url=url) as client:
        yield client, desk


def origin(client: httpx2.AsyncClient) -> dict[str, str]:
    return {"Origin": str(client.base_url).rstrip("/")}


def port(client: httpx2.AsyncClient) -> int | None:
    return client.base_url.port


async def test_signing_in_sets_a_cookie_that_no_script_can_read() -> None:
    async with front_desk() as (client, desk):
        response = await client.post("/console/session", headers=origin(client), json={"user_id": "alice"})
        assert response.status_code == 200
        assert response.json()["user_id"] == "alice"
        assert response.json()["expires_at"].endswith("Z")
        assert response.headers["cache-control"] == "no-store"
        assert desk.opened == {"ses_0": "alice"}
        cookie = response.headers["set-cookie"].lower()
        assert "session_token=ses_0" in cookie
        for attribute in ("httponly", "samesite=strict", "path=/", "expires="):
            assert attribute in cookie
        assert "ses_0" not in response.text


async def test_without_a_body_one_is_you() -> None:
    async with front_desk() as (client, desk):
        response = await client.post("/console/session", headers=origin(client))
        assert response.json()["user_id"] == "you"
        assert list(desk.opened.values()) == ["you"]


async def test_localhost_is_this_machine_too() -> None:
    async with front_desk() as (client, _):
        name = f"localhost:{port(client)}"
        headers = {"Host": name, "Origin": f"http://{name}"}
        assert (await client.post("/console/session", headers=headers)).status_code == 200


async def test_the_page_learns_what_is_offered_and_which_channels_there_are() -> None:
    async with front_desk() as (client, _):
        told = (await client.get("/console/session")).json()
        assert told == {
            "offered": True,
            "has_session": False,
            "channels": ["guide", "pillar:content", "pillar:night_life"],
        }
        client.cookies.set("session_token", "ses_0")
        assert (await client.get("/console/session")).json()["has_session"] is True


async def test_a_platform_open_to_the_network_hands_out_no_sessions() -> None:
    async with front_desk(host="0.0.0.0") as (client, desk):  # noqa: S104  # only said, not bound
        assert (await client.get("/console/session")).json()["offered"] is False
        response = await client.post("/console/session", headers=origin(client))
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
        assert desk.opened == {}


@pytest.mark.parametrize(
    "changed",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": ""},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Host": "127.0.0.1:1", "Origin": "http://127.0.0.1:1"},
        {"Host": "127.0.0.1", "Origin": "http://127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:PORT", "Origin": "http://127.0.0.1.evil.example:PORT"},
        {"Host": "192.0.2.7:PORT", "Origin": "http://192.0.2.7:PORT"},
        {"Host": "[::1:PORT", "Origin": "http://[::1:PORT"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"X-Forwarded-Host": "city.example"},
    ],
    ids=str,
)
async def test_whoever_is_not_seen_at_this_machine_gets_no_session(changed: dict[str, str]) -> None:
    async with front_desk() as (client, desk):
        filled = {name: value.replace("PORT", str(port(client))) for name, value in changed.items()}
        response = await client.post("/console/session", headers=origin(client) | filled)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
        assert desk.opened == {}


async def test_a_request_without_an_origin_gets_no_session() -> None:
    async with front_desk() as (client, desk):
        assert (await client.post("/console/session")).status_code == 403
        assert desk.opened == {}


@pytest.mark.parametrize(
    "body",
    ['{"user_id": "~operator"}', '{"user_id": ""}', '{"user_id": 7}', '{"user": "a"}', "[]", "nonsense",
     '{"user_id": "a b"}', '{"user_id": "' + "a" * 129 + '"}'],
)  # fmt: skip
async def test_a_wrong_body_is_refused_by_name(body: str) -> None:
    async with front_desk() as (client, desk):
        response = await client.post("/console/session", headers=origin(client), content=body)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_argument")
        assert desk.opened == {}


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    async with front_desk() as (client, _):
        response = await client.post("/console/session", headers=origin(client), content=b" " * 100_000)
        assert (response.status_code, response.json()["code"]) == (413, "too_large")


async def test_signing_out_ends_the_session_and_takes_the_cookie_back() -> None:
    async with front_desk() as (client, desk):
        await client.post("/console/session", headers=origin(client))
        response = await client.delete("/console/session", headers=origin(client))
        assert response.status_code == 200
        assert desk.closed == ["ses_0"]
        assert 'session_token=""' in response.headers["set-cookie"]
        assert (await client.get("/console/session")).json()["has_session"] is False


async def test_no_foreign_page_signs_one_out() -> None:
    async with front_desk() as (client, desk):
        await client.post("/console/session", headers=origin(client))
        response = await client.delete("/console/session", headers={"Origin": "http://evil.example"})
        assert response.status_code == 403
        assert desk.closed == []


async def test_signing_out_twice_is_no_error() -> None:
    async with front_desk() as (client, desk):
        assert (await client.delete("/console/session", headers=origin(client))).status_code == 200
        assert desk.closed == []


@pytest.mark.parametrize("path", ["/", "/console"])
async def test_the_way_to_the_console_is_shown(path: str) -> None:
    async with front_desk() as (client, _):
        response = await client.get(path)
        assert response.status_code == 307
        assert response.headers["location"] == "/console/"


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("", "text/html; charset=utf-8"),
        ("index.html", "text/html; charset=utf-8"),
        ("ui/main.js", "text/javascript; charset=utf-8"),
        ("styles/ground.css", "text/css; charset=utf-8"),
        ("mark.svg", "image/svg+xml"),
    ],
)
async def test_files_come_with_their_types_and_a_strict_policy(path: str, content_type: str) -> None:
    async with front_desk() as (client, _):
        response = await client.get(f"/console/{path}")
        assert response.status_code == 200
        assert response.headers["content-type"] == content_type
        assert response.headers["cache-control"] == "no-cache"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "no-referrer"
        policy = response.headers["content-security-policy"]
        assert "'unsafe" not in policy
        for rule in ("default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'",
                     "frame-ancestors 'none'"):  # fmt: skip
            assert rule in policy


async def test_a_file_that_has_not_changed_is_not_sent_again() -> None:
    async with front_desk() as (client, _):
        first = await client.get("/console/ui/main.js")
        again = await client.get("/console/ui/main.js", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert "content-security-policy" in again.headers
        head = await client.head("/console/ui/main.js")
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == str(len(first.content))


@pytest.mark.parametrize(
    "path",
    [
        "nowhere.js",
        "ui",
        "ui/",
        "client/",
        "../surfaces/console.py",
        "..%2fsurfaces%2fconsole.py",
        "%2e%2e/surfaces/console.py",
        "ui/..%2f..%2f..%2fsurfaces/console.py",
        "%2fetc%2fpasswd",
        "..%5c..%5cx.js",
        "ui/main.js%00.css",
        "%2e%2e/%2e%2e/city_hall/app.py",
        "x" * 5000 + ".js",
    ],
    ids=lambda path: path[:40],
)
async def test_nothing_but_the_consoles_files_can_be_had(path: str) -> None:
    async with front_desk() as (client, _):
        target = f"GET /console/{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        reader, writer = await asyncio.open_connection("127.0.0.1", port(client))
        writer.write(target.encode())
        async with asyncio.timeout(PATIENCE):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 404"), answer[:200]


def test_the_page_names_only_files_that_are_there() -> None:
    assert [name for name in _named() if not (FILES / name).is_file()] == []


def test_the_page_asks_for_every_module_at_once() -> None:
    assert {name for name in _named() if name.endswith(".js")} == _imported(Path("ui/main.js"))


def _named() -> list[str]:
    return re.findall(r'(?:href|src)="([^"]+)"', (FILES / "index.html").read_text())


def _imported(module: Path) -> set[str]:
    """The module and all that it imports, as paths below the console's folder."""
    found: set[str] = set()
    waiting = [FILES / module]
    while waiting:
        file = waiting.pop().resolve()
        name = file.relative_to(FILES).as_posix()
        if name not in found:
            found.add(name)
            waiting += [
                file.parent / path
                for path in re.findall(r'^(?:import|export|}) .*from "(.+)";$', file.read_text(), re.M)
            ]
    return found
