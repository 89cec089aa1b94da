"""docs/troubleshooting.md can be relied on: what it quotes the product says, what it has one type runs."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.support.serving import Serving
from tests.support.shells import shell_environment
from tests.support.valkey import ValkeyServer

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/troubleshooting.md").read_text()
CASES = dict(
    zip(
        re.findall(r"^### (.+)$", PAGE, re.MULTILINE),
        re.split(r"^### .+$", PAGE, flags=re.MULTILINE)[1:],
        strict=True,
    )
)
SYMPTOM = re.compile(r"\*\*You see\*\*(.*?)\*\*Because\*\*", re.DOTALL)
OTHERS = {"command not found"}
"""What other programs say."""


PROVOKED: dict[str, dict[str, str]] = {
    "SMART_CITY_HEARTBEAT_SECONDS is 'soon': input should be a valid number": {"HEARTBEAT_SECONDS": "soon"},
    "Port … on … is taken by another program: end that one": {"PORT": "{taken}"},
    "The data dir … cannot be used (…)": {"DATA_DIR": "/proc/nowhere"},
    "The data dir … was written by another version of Smart City": {"DATA_DIR": "{newer}"},
    "The store evicts keys (its maxmemory-policy is …) and would forget what it has acknowledged": {
        "VALKEY_URL": "{evicting}"
    },
    "The store at … does not let us in (…)": {"VALKEY_URL": "{closed}"},
    "…, which cannot be read as redis://HOST:6379": {"VALKEY_URL": "redis://user:pass/word@valkey:6379"},
    "SMART_CITY_OPERATOR_TOKEN differs from the token kept in …": {
        "OPERATOR_TOKEN": "op_another",
        "DATA_DIR": "{kept}",
    },
    "… is held by process … on host …, which is alive": {"INSTANCE_ID": "{held}", "DATA_DIR": "{lived_in}"},
}
"""Sentences, and what has to be set so that a start says them."""


def quoted() -> Iterator[tuple[str, str]]:
    """Every sentence that a case quotes as what one sees."""
    for name, text in CASES.items():
        symptom = SYMPTOM.search(text)
        assert symptom is not None, name
        for words in re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", symptom[1])):
            if " " in words and words not in OTHERS:
                yield name, words


def text_of(node: ast.AST) -> str | None:
    """A string of the source, with … for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%(\.\d+)?[a-z]", "…", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


@cache
def said() -> str:
    """Everything that the product can say, a string a line."""
    texts: list[str] = []
    sources = [path for folder in ("foundations", "smart_city", "platform") for path in (ROOT / folder).rglob("*.py")]
    for path in (*sources, ROOT / "tests/support/machine.py"):
        texts += filter(None, map(text_of, ast.walk(ast.parse(path.read_text()))))
    texts.append((ROOT / "scripts/environment").read_text())
    return "\n".join(re.sub(r"\s+", " ", text) for text in texts)


@pytest.mark.parametrize(("name", "words"), list(quoted()))
def test_what_is_quoted_is_said_by_the_product(name: str, words: str) -> None:
    pattern = ".*?".join(re.escape(part) for part in words.split("…"))
    assert words in PROVOKED or re.search(pattern, said()), f"{name}: {words}"


@pytest.mark.parametrize("name", CASES)
def test_a_case_says_what_why_how_to_check_and_what_to_do(name: str) -> None:
    text = CASES[name]
    order = [text.find(mark) for mark in ("**You see**", "**Because**", "```console", "**Do**")]
    assert -1 not in order, name
    assert order == sorted(order), name


def test_every_case_is_in_the_list_at_the_top() -> None:
    top = PAGE.partition("\n## ")[0]
    for name in CASES:
        anchor = re.sub(r"[^\w\- ]", "", name.lower()).replace(" ", "-")
        assert f"(#{anchor})" in top, name


COMMANDS = sorted(
    {line for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()}
)


@pytest.fixture(scope="module")
def lived_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A city whose data dir is where the page says."""
    folder = tmp_path_factory.mktemp("lived-in")
    shutil.copy(ROOT / "Makefile", folder)
    with Serving(folder / ".smart-city").opened() as city:
        yield city


@pytest.mark.parametrize("line", COMMANDS)
def test_what_is_to_be_typed_runs(line: str, lived_in: Serving) -> None:
    assert line.startswith("$ ")
    port = lived_in.url.rpartition(":")[2]
    typed = re.sub(r"\b8000\b", port, line.removeprefix("$ "))
    if (program := typed.split()[0]) in {"fuser", "curl"} and shutil.which(program) is None:
        pytest.skip(f"no {program}: install the package of that name")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", typed],
        cwd=lived_in.data_dir.parent, env=shell_environment(lived_in, SMART_CITY_LOG_LEVEL="info"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rror" not in done.stderr


@pytest.fixture(scope="module")
def surroundings(lived_in: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a start can meet."""
    folder = tmp_path_factory.mktemp("surroundings")
    for name, file, content in (("newer", "version", "99\n"), ("kept", "operator-token", "op_kept\n")):
        (folder / name).mkdir()
        (folder / name / file).write_text(content)
    with ValkeyServer(maxmemory_policy="allkeys-lru") as evicting, ValkeyServer(requirepass="secret") as closed:
        yield {
            "taken": lived_in.url.rpartition(":")[2], "lived_in": str(lived_in.data_dir),
            "held": str(lived_in.get("/health/ready")["instance_id"]), "evicting": evicting.url, "closed": closed.url,
            **{name: str(folder / name) for name in ("newer", "kept")},
        }  # fmt: skip


@pytest.mark.parametrize("words", PROVOKED)
def test_a_start_that_cannot_be_says_what_is_quoted(words: str, surroundings: dict[str, str], tmp_path: Path) -> None:
    assert words in {quote for _, quote in quoted()}
    wanted = {"PORT": "0", "DATA_DIR": str(tmp_path)} | PROVOKED[words]
    settings = {f"SMART_CITY_{name}": value.format(**surroundings) for name, value in wanted.items()}
    done = subprocess.run(
        ["smart-city", "serve", "--no-demo"],
        env=shell_environment(None, **settings), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in {1, 2}, done.stderr
    assert re.search(".*?".join(map(re.escape, words.split("…"))), done.stderr), done.stderr
