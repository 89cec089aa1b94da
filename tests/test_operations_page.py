"""docs/operations.md tells the truth: every log event and metric that exists stands there, and none besides."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.metrics import families
from tests.support.platform import Instance, unique
from tests.support.serving import Serving
from tests.support.shells import shell_environment

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/operations.md").read_text()
LOGS, METRICS = (PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0] for name in ("Logs", "Metrics"))
SERVING = ("foundations", "smart_city", "platform/city_hall", "platform/city_guides")
ELSEWHERE = ("city_hall/bridge", "city_hall/commands")
"""Programs of their own: what they say does not stand in the platform's log."""


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
    assert sentences() - told == set()
    assert told - sentences() == set()


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


def smart_city(city: Serving, line: str, folder: Path) -> str:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder, env=shell_environment(city), capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip


@pytest.mark.timeout(120)
def test_a_backup_made_while_it_runs_opens_as_the_city_was(tmp_path: Path) -> None:
    block = PAGE.partition("## Backups")[2].partition("```console\n")[2].partition("```")[0]
    with Serving(tmp_path / ".smart-city", "--no-demo").opened() as city:
        smart_city(city, """smart-city publish guide '{"message": "Keep this."}'""", tmp_path)
        for line in block.splitlines():
            smart_city(city, line.removeprefix("$ "), tmp_path)
        with Serving(tmp_path / "backup", "--no-demo").opened() as copy:
            found = smart_city(
                copy, """smart-city call post_office.get_channel_history '{"channel": "guide"}'""", tmp_path
            )
            assert "Keep this." in found
            assert copy.token == city.token
        assert smart_city(city, "smart-city valkey PING", tmp_path) == "PONG\n"


@pytest.mark.timeout(120)
def test_a_whole_copy_of_a_living_data_dir_leaves_the_living_one_alone(tmp_path: Path) -> None:
    with Serving(tmp_path / "data", "--no-demo").opened() as city:
        shutil.copytree(city.data_dir, tmp_path / "copy")
        with Serving(tmp_path / "copy", "--no-demo").opened():
            assert smart_city(city, "smart-city valkey PING", tmp_path) == "PONG\n"
            assert city.get("/api/health")["status"] == "healthy"
        assert smart_city(city, "smart-city status", tmp_path)


@pytest.mark.parametrize("line", re.findall(r"^\$ (smart-city .+)$", PAGE.partition("## Backups")[0], re.MULTILINE))
def test_what_looks_at_it_can_be_typed(line: str, open_city: Serving, tmp_path: Path) -> None:
    if "--watch" not in line:
        assert smart_city(open_city, line, tmp_path)
