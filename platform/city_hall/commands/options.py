"""The options that every command has which talks to an open city, and how a command gets what they name.

They are declared once: `talking` gives them to a command, which sees only a `Remote`.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, Concatenate, ParamSpec

import typer

from city_hall.commands.remote import Remote

LOCAL = "http://127.0.0.1:8000"
HERE = Path(".smart-city")
EXAMPLE = """'{"message": "hello"}'"""
PANEL = "Where it is, and how to print"

UrlOption = Annotated[
    str, typer.Option("--url", envvar="SMART_CITY_URL", help="Where the platform is.", rich_help_panel=PANEL)
]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token", envvar="SMART_CITY_TOKEN", show_default="the operator's, from the data dir",
        help="A service's token, or the operator's. In the variable no list of processes shows it.",
        rich_help_panel=PANEL,
    ),
]  # fmt: skip
DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="SMART_CITY_DATA_DIR", help="Where the operator's token lies.", rich_help_panel=PANEL
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="For programs: JSON on stdout, errors as JSON on stderr.", rich_help_panel=PANEL)
]

Own = ParamSpec("Own")


def talking(command: Callable[Concatenate[Remote, Own], None]) -> Callable[..., None]:
    """The command with the options of `_where` in the place of its first argument, the `Remote` that they name."""

    carry_out: Callable[..., None] = command

    @wraps(command)
    def run(*, url: str, token: str, data_dir: Path, as_json: bool, **own: Any) -> None:
        carry_out(Remote.named(url, token, data_dir, is_json=as_json), **own)

    asked = [*_parameters(command)[1:], *_parameters(_where)]
    run.__dict__.pop("__wrapped__")  # what is asked for is no longer what the command takes
    run.__dict__["__signature__"] = inspect.Signature(asked)
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in asked}
    return run


def json_object(text: str) -> dict[str, Any]:
    """An argument that is a JSON object; ``-`` reads it from standard input.

    Raises:
        BadParameter: it is none.
    """
    try:
        found = json.loads(sys.stdin.buffer.read() if text == "-" else text, parse_constant=_no_number)
    except ValueError as error:
        raise typer.BadParameter(f"this is not JSON ({error}); in quotes for the shell, as in {EXAMPLE}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter(f"this is JSON, but not an object, as in {EXAMPLE}")
    return found


def _where(
    *, url: UrlOption = LOCAL, token: TokenOption = "", data_dir: DataDirOption = HERE, as_json: JsonOption = False
) -> None:
    """The options as Typer reads them."""


def _parameters(function: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _no_number(text: str) -> float:
    """NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{text} is no number")
