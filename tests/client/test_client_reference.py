"""docs/javascript.md names every option, event, code and method of the client, and none besides."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIENT = ROOT / "platform/city_hall/console/client"
DOCUMENT = (ROOT / "docs/javascript.md").read_text()


def typedef(module: str, name: str) -> set[str]:
    """The fields of a type of the client."""
    types = re.findall(r"@typedef \{\{(.*?)\}\} (\w+)", (CLIENT / module).read_text(), re.DOTALL)
    body = next(body for body, named in types if named == name)
    flat = re.sub(r"\{[^{}]*\}", "", body)
    return set(re.findall(r"(?:^|[\s*,])(\w+)\??:", flat))


def told(heading: str) -> set[str]:
    """What the first column of the table under a line names."""
    table = DOCUMENT.partition(heading)[2].lstrip("\n").split("\n\n")[0]
    cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


def test_every_event_is_told() -> None:
    assert told("| event | tells |") == typedef("tab.js", "Kinds")


def test_every_option_is_told() -> None:
    assert told("| option of `new City(url, {…})` | default | |") == typedef("city.js", "CityOptions")
    assert told("| option | default | |") == typedef("city.js", "AskOptions")
    for name in typedef("city.js", "SendOptions") - {"firstSentAt"} | typedef("operations.js", "CallOptions") - {
        "request"
    }:
        assert name in DOCUMENT


def test_every_code_of_the_clients_own_is_told() -> None:
    codes = re.findall(r'^  \w+: "(\w+)",$', (CLIENT / "errors.js").read_text(), re.MULTILINE)
    assert told("| code | means |") == set(codes)


def test_every_method_is_told() -> None:
    methods = re.findall(r"^  (?:static |async |get )*(\w+)\(.*\{$", (CLIENT / "city.js").read_text(), re.MULTILINE)
    assert [name for name in methods if name != "constructor" and f".{name}" not in DOCUMENT] == []
