"""The documents tell the truth: what they name exists, and what exists is named."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from foundations.errors import ERRORS
from foundations.settings import Settings
from smart_city.post_office.gateway.messages import CLIENT_FRAMES
from tests.support.metrics import families
from tests.support.platform import Instance, unique

ROOT = Path(__file__).resolve().parents[1]
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
OPERATIONS = (ROOT / "docs/operations.md").read_text()
LOGS, METRICS = (OPERATIONS.partition(f"\n## {name}\n")[2].partition("\n## ")[0] for name in ("Logs", "Metrics"))
SERVING = ("foundations", "smart_city", "platform/city_hall", "platform/city_guides")
ELSEWHERE = ("city_hall/bridge", "city_hall/commands")
"""Programs of their own: what they say does not stand in the platform's log."""
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


SAID_IN_WORDS = {"/api/health/websocket-gateway"}
"""`/health/websocket-gateway` is told to be also below `/api`."""


async def test_the_documents_name_only_routes_and_operations_that_exist(city: Instance) -> None:
    document = (await city.http.get("/openapi.json", headers=city.operator)).json()
    paths = set(document["paths"])
    words = "\n".join(file.read_text() for file in DOCUMENTS)
    named = set(re.findall(r"/soa/[a-z-]+/[a-z_]+", words))
    named |= set(re.findall(r"`(?:GET )?(/(?:health|api|metrics|docs|openapi|asyncapi)[^`\s?*…]*)[`?]", words))
    assert named - {"/api"} <= paths, named - paths
    assert {path for path in paths if path.startswith(("/api/", "/health"))} - SAID_IN_WORDS <= named


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


def rows(text: str, columns: int) -> list[list[str]]:
    """The cells of all tables of so many columns, without their heads."""
    found = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in text.splitlines() if line[:1] == "|"
    ]
    return [row for row in found if len(row) == columns and "`" in row[0]]


def calls() -> Iterator[ast.Call]:
    """Every call in what runs below ``smart-city serve``."""
    for folder in SERVING:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(name in str(path) for name in ELSEWHERE):
                yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def events() -> dict[str, set[str]]:
    """What `log_event` is called with: events, and the names of their fields."""
    found: dict[str, set[str]] = {}
    for call in calls():
        if isinstance(call.func, ast.Name) and call.func.id == "log_event":
            assert isinstance(call.args[1], ast.Constant), ast.unparse(call)
            fields = {str(keyword.arg) for keyword in call.keywords} - {"level", "exc_info"}
            found.setdefault(str(call.args[1].value), set()).update(fields)
    return found


def sentences() -> set[str]:
    """What loggers are told in words, with … for what is filled in; those that are filled in whole say nothing."""
    found = set()
    for call in calls():
        if isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value).split("(")[0] in {
            "_log", "logger", "logging.getLogger"
        } and call.func.attr in {"info", "warning", "error", "exception", "log"}:  # fmt: skip
            template = next(
                arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            )
            told = re.sub(r"%(\.\d+)?[a-z]", "…", template)
            if re.search(r"\w", told):
                found.add(told)
    return found


def test_every_event_stands_there_with_its_fields() -> None:
    told = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in rows(LOGS, 4)}
    assert told.pop("HTTP request") == {"method", "path", "status", "client"}
    assert told == events()


def test_every_sentence_of_the_log_stands_there_and_none_besides() -> None:
    told = {text for row in rows(LOGS, 2) for text in re.findall(r"`([^`]+)`", row[0])}
    assert sentences() - told == set(), "these stand in no table of docs/operations.md: add what they mean"
    assert told - sentences() == set(), "nothing logs these any more: take them out of docs/operations.md"


async def test_every_metric_stands_there_with_its_type_and_labels(city: Instance) -> None:
    async with city.connected(await city.session(unique("alice"))):
        await city.call("post_office.list_channels", {"unknown": 1})
    await city.http.get("/ws")
    page = families((await city.http.get("/metrics", headers=city.operator)).text)
    exists = {
        family.name + ("_total" if family.type == "counter" else ""): family
        for family in page.values()
        if not family.name.startswith(("process_", "python_"))
    }
    told = {row[0].strip("`"): (row[1], set(re.findall(r"`(\w+)`", row[2]))) for row in rows(METRICS, 4)}
    assert told.keys() == exists.keys()
    for name, family in exists.items():
        assert told[name][0] == family.type, name
        for sample in family.samples:
            assert set(sample.labels) - {"instance_id", "le"} == told[name][1], name


async def test_alerts_name_metrics_that_exist(city: Instance) -> None:
    page = (await city.http.get("/metrics", headers=city.operator)).text
    named = {
        name for row in rows(METRICS, 2) for name in re.findall(r"\b[a-z]+_[a-z_]+[a-z]\b(?=[\[{ )/]|$)", row[0])
    } - {"histogram_quantile", "instance_id"}  # fmt: skip
    assert len(named) > 10
    for name in named:
        assert name in page, name
