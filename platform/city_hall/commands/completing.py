"""What the shells complete beyond commands and options: channels and operations of a running platform.

It asks once, for a fraction of a second, and says nothing when nothing answers: a Tab is no place for errors.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import threading
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer

from city_hall.commands.options import HERE, LOCAL
from city_hall.commands.remote import TOKEN_FILE

ANSWER_SECONDS = 0.4
"""What a person waits for a Tab without noticing much."""
ASKED_BY_BASH = ("_SMART_CITY_COMPLETE", "complete_bash")


def channels_beginning(ctx: typer.Context, incomplete: str) -> list[str]:
    """The agent channels that begin so."""
    answer = _answer(ctx, "POST", "/soa/post-office/list_channels")
    names = [str(channel["channel"]) for channel in answer.get("channels", [])]
    return [name for name in names if name.startswith(incomplete)]


def operations_beginning(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The operations that begin so, each with its summary."""
    found = operations_in(_answer(ctx, "GET", "/openapi.json"))
    return [(one["operation"], one["summary"]) for one in found if one["operation"].startswith(incomplete)]


def operations_in(description: dict[str, Any]) -> list[dict[str, Any]]:
    """The operations of an OpenAPI document, each with its name and its summary."""
    found = []
    for path, methods in description.get("paths", {}).items():
        _, surface, *words = path.split("/")
        if surface == "soa" and len(words) == 2:
            service, name = words
            summary = str(methods.get("post", {}).get("summary", ""))
            found.append({"operation": f"{service.replace('-', '_')}.{name}", "summary": summary})
    return sorted(found, key=lambda one: one["operation"])


def answer_shell(run: Callable[[], object]) -> None:
    """Runs the program for a shell that completes; for bash, which splits words at colons, with whole words.

    Typer's script hands on what bash split (``pillar``, ``:``, ``c``), and bash puts what it gets behind the last
    colon.
    """
    name, asked = ASKED_BY_BASH
    if os.environ.get(name) != asked or "COMP_WORDS" not in os.environ:
        run()
        return
    words, place = os.environ["COMP_WORDS"].split("\n"), int(os.environ.get("COMP_CWORD", "0"))
    before, current = _joined(words[:place]), words[place] if place < len(words) else ""
    while before and (current.startswith(":") or before[-1].endswith(":")):
        current = before.pop() + current
    os.environ |= {"COMP_WORDS": "\n".join([*before, current]), "COMP_CWORD": str(len(before))}
    offered = io.StringIO()
    with contextlib.redirect_stdout(offered), contextlib.suppress(SystemExit):
        run()
    typed = current.rpartition(":")[0] + ":" if ":" in current else ""
    typer.echo("\n".join(line.removeprefix(typed) for line in offered.getvalue().splitlines()))


def _joined(words: list[str]) -> list[str]:
    """The words as they were typed: a colon belongs to what stands on both its sides."""
    joined: list[str] = []
    for word in words:
        if joined and (word.startswith(":") or joined[-1].endswith(":")):
            joined[-1] += word
        else:
            joined.append(word)
    return joined


def _answer(ctx: typer.Context, method: str, path: str) -> dict[str, Any]:
    """What the platform says that the options name so far; nothing if it does not within `ANSWER_SECONDS`.

    In a thread, because looking up a name cannot be given a deadline.
    """
    url = ctx.params.get("url") or os.environ.get("SMART_CITY_URL") or LOCAL
    heard: dict[str, Any] = {}

    def ask() -> None:
        with contextlib.suppress(OSError, HTTPException, ValueError, TypeError):  # what answers is not the platform
            heard.update(_asked(str(url), _token(ctx), method, path))

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS)
    return {} if asking.is_alive() else heard


def _asked(url: str, token: str, method: str, path: str) -> dict[str, Any]:
    parts = urlsplit(url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    with contextlib.closing(connect(parts.hostname or "", parts.port, timeout=ANSWER_SECONDS)) as connection:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        body = "{}" if method == "POST" else None
        connection.request(method, parts.path.rstrip("/") + path, body, headers)
        found: dict[str, Any] = json.loads(connection.getresponse().read())
        return found


def _token(ctx: typer.Context) -> str:
    given = ctx.params.get("token") or os.environ.get("SMART_CITY_TOKEN")
    if given:
        return str(given)
    data_dir = ctx.params.get("data_dir") or os.environ.get("SMART_CITY_DATA_DIR") or HERE
    try:
        return (Path(data_dir) / TOKEN_FILE).read_text().strip()
    except OSError:
        return ""
