"""The pages for readers: complete, without loose ends, and in an installed wheel, too."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio

from city_hall.surfaces.pages import documents
from foundations.errors import ERRORS
from smart_city.post_office.gateway.messages import CLIENT_FRAMES
from tests.support.browser import PHONE, browsing, looking, poor_contrast
from tests.support.machine import ROOT
from tests.support.platform import PATIENT, Instance, Platform, unique
from tests.support.valkey import ValkeyServer

PAGES = ("/docs", "/docs/problems", *documents())
in_town = pytest.mark.asyncio(loop_scope="module")
any_page = pytest.mark.parametrize("path", PAGES)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(valkey_server: ValkeyServer) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        yield Platform(valkey_server, stack, **PATIENT)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def city(platform: Platform) -> Instance:
    return await platform.start()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def opened(platform: Platform) -> Instance:
    return await platform.start(open_docs=True)


class Loose(HTMLParser):
    """Ids and targets of a page, and whatever it should not have."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.forbidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.targets += [given["href"] or ""] if "href" in given else []
        if tag in {"script", "link", "img", "iframe"} or any(name.startswith("on") for name in given):
            self.forbidden.append(tag)


async def read(city: Instance, path: str) -> tuple[str, Loose]:
    response = await city.http.get(path, headers=city.operator)
    assert response.status_code == 200
    assert response.headers["content-security-policy"].startswith("default-src 'none'")
    page = Loose()
    page.feed(response.text)
    return response.text, page


@in_town
@any_page
async def test_every_link_leads_somewhere_and_nothing_is_run_or_fetched(city: Instance, path: str) -> None:
    _, page = await read(city, path)
    assert page.forbidden == []
    assert len(set(page.ids)) == len(page.ids)
    for target in set(page.targets):
        if target.startswith("#"):
            assert target[1:] in page.ids, target
        elif not target.startswith("https://"):
            assert (await city.http.get(target, headers=city.operator)).status_code == 200, target


@in_town
@any_page
async def test_they_open_as_the_other_documents_do(city: Instance, opened: Instance, path: str) -> None:
    nothing = await city.service(unique("nothing"))
    assert (await city.http.get(path)).status_code == 401
    assert (await city.http.get(path, headers={"Authorization": f"Bearer {nothing}"})).status_code == 403
    assert (await opened.http.get(path)).status_code == 200
    head = await opened.http.head(path)
    assert (head.status_code, head.content) == (200, b"")


@in_town
async def test_the_protocol_is_shown_in_words_and_frame_by_frame(city: Instance) -> None:
    text, page = await read(city, "/docs/protocol")
    written = (ROOT / "docs/protocol.md").read_text()
    for title in re.findall(r"^## (.+)$", written, re.MULTILINE):
        assert f">{title}</h2>" in text
    assert text.count("<table>") > written.count("\n|---")
    for kind in CLIENT_FRAMES:
        assert f"<summary><code>{kind}</code>" in text
    assert "<code>system welcome</code>" in text
    assert "frames-to-the-server" in page.ids


@in_town
async def test_the_type_of_a_problem_leads_to_its_explanation(city: Instance) -> None:
    problems = [
        await city.http.get("/api/connections/info"), await city.http.get("/nowhere"), await city.http.delete("/docs"),
        await city.http.get("/ws"), await city.call("post_office.list_channels", {"more": 1}),
    ]  # fmt: skip
    _, page = await read(city, "/docs/problems")
    for response in problems:
        where, _, anchor = response.json()["type"].partition("#")
        assert where == "/docs/problems"
        assert anchor in page.ids
    assert {error.code for error in ERRORS} <= set(page.ids)


def test_a_wheel_has_the_protocols_page(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=60)
    [wheel] = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path / "installed")
    code = (
        "from city_hall.surfaces import pages, written_pages as w; from city_hall.surfaces.asyncapi import document;"
        "text = w.written_page(w.PROTOCOL, document('http://x', '1'));"
        "print(w.__file__, 'Frames to the server' in text, pages.PACKAGED.exists())"
    )
    said = subprocess.run(
        [sys.executable, "-P", "-c", code], env={"PYTHONPATH": str(tmp_path / "installed")}, cwd=tmp_path, check=True,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    where, *outcome = said.stdout.split()
    assert where.startswith(str(tmp_path))
    assert outcome == ["True", "True"]


@in_town
@pytest.mark.needs("chromium")
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_they_read_well_in_light_and_dark_and_on_a_phone(
    opened: Instance, scheme: Literal["light", "dark"]
) -> None:
    async with browsing() as browser:
        for path in PAGES:
            async with looking(browser, opened.url + path, size=PHONE, scheme=scheme) as page:
                await page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
                assert await poor_contrast(page) == []
