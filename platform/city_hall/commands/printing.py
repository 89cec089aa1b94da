"""How results and failures are printed: for people on a terminal, or as JSON for programs.

A result is one JSON document, or one a line where results go on coming; a failure is ``{"error": {…}}`` on
standard error. What stands in them is decided by the commands.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import typer
from rich.console import Console, RenderableType

REFUSED, USAGE, NOBODY = 1, 2, 3
"""Exit codes: the platform said no, wrong usage, nothing answers."""
UNBROKEN = 10_000
"""Columns for what reads a pipe: a row stays a line."""


def show(document: Mapping[str, Any], *, is_json: bool, as_people_read_it: RenderableType | None = None) -> None:
    """Prints one result. Without a form for people, JSON is: coloured and indented on a terminal, else in a line."""
    if is_json or (as_people_read_it is None and not sys.stdout.isatty()):
        say(json.dumps(document, ensure_ascii=False))
    elif as_people_read_it is None:
        Console().print_json(data=document)
    else:
        Console(emoji=False, width=None if sys.stdout.isatty() else UNBROKEN).print(as_people_read_it)


def say(line: str) -> None:
    """Prints a line as it is, at once."""
    typer.echo(line)


def complain(sentence: str, status: int, *, code: str = "", is_json: bool = False, **more: object) -> typer.Exit:
    """Says on standard error what is wrong; the result is to be raised.

    As JSON: ``code`` (the platform's, or what the exit code means), ``message``, ``exit_code``, and what else is known.
    """
    if is_json:
        told = {"code": code, "message": sentence, "exit_code": status, **more}
        typer.echo(json.dumps({"error": told}, ensure_ascii=False), err=True)
    else:
        text = f"{code}: {sentence}" if code and status == REFUSED else sentence
        Console(stderr=True, emoji=False, markup=False, highlight=False, soft_wrap=True).print(text, style="red")
    return typer.Exit(status)
