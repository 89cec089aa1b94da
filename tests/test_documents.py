"""The documents tell the truth: what they name exists, and what exists is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from foundations.errors import ERRORS
from foundations.settings import Settings
from smart_city.post_office.gateway.messages import CLIENT_FRAMES
from tests.support.platform import Instance

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def test_every_setting_is_documented_with_its_default_and_none_besides() -> None:
    table = PROTOCOL.partition("## Settings")[2]
    rows = [row.split("|")[1:3] for row in table.splitlines() if row.startswith("| `")]
    told: dict[str, str] = {}
    for names, defaults in rows:
        found = re.findall(r"`([A-Z_]+)`", names)
        values = [value.strip().strip("`") for value in defaults.split("," if len(found) > 1 else "\n")]
        told |= dict(zip(found, values, strict=False))
    assert told.keys() == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, int) and not isinstance(field.default, bool):
            assert told[name.upper()].split(";")[0] == str(field.default), name


def test_every_error_code_and_every_frame_is_documented() -> None:
    for error in ERRORS:
        assert f"`{error.code}`" in PROTOCOL
    for name in CLIENT_FRAMES:
        assert f'"type": "{name}"' in PROTOCOL or name == "message"


async def test_the_documents_name_only_routes_and_operations_that_exist(city: Instance) -> None:
    document = (await city.http.get("/openapi.json", headers=city.operator)).json()
    paths = set(document["paths"])
    named = set(re.findall(r"/soa/[a-z-]+/[a-z_]+", "\n".join(file.read_text() for file in DOCUMENTS)))
    assert named <= paths, named - paths


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if "://" not in target:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_find_them(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text()):
        if "://" not in target:
            assert anchor in anchors(document.parent / target if target else document), f"{target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """The headings of a document, as links name them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
