"""The commands that talk to an open city, from their arguments to what they print.

They parse and print only; who is spoken to, and how failures end, is `remote`'s.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from city_hall.remote import REFUSED, Remote

if TYPE_CHECKING:
    from city_client import Position

UrlOption = Annotated[str, typer.Option("--url", envvar="SMART_CITY_URL", help="Where the platform is.")]
TokenOption = Annotated[
    str,
    typer.Option(
        "--token", envvar="SMART_CITY_TOKEN", show_default="the operator's, from the data dir",
        help="A service's token, or the operator's.",
    ),
]  # fmt: skip
DataDirOption = Annotated[
    Path, typer.Option("--data-dir", envvar="SMART_CITY_DATA_DIR", help="Where the operator's token lies.")
]
LOCAL = "http://127.0.0.1:8000"
HERE = Path(".smart-city")
COLOURS = {"healthy": "green", "degraded": "yellow", "warning": "yellow", "unhealthy": "red"}


def add_to(app: typer.Typer, panel: str) -> None:
    """Adds the commands to the application."""
    sessions = typer.Typer(no_args_is_help=True, help="Sessions of users.", rich_markup_mode="rich")
    sessions.command("create")(create_session)
    tokens = typer.Typer(no_args_is_help=True, help="Tokens of services and agents.", rich_markup_mode="rich")
    tokens.command("create")(create_token)
    app.add_typer(sessions, name="session", rich_help_panel=panel)
    app.add_typer(tokens, name="token", rich_help_panel=panel)
    for command in (publish, listen, call, status):
        app.command(rich_help_panel=panel)(command)


def create_session(
    user: Annotated[str, typer.Option(help="The user's id.")],
    ttl: Annotated[int | None, typer.Option(min=1, help="How long the token lives, in seconds.")] = None,
    channel: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:RIGHT,…",
            help="Rights on a channel: subscribe, send, history, publish. May be repeated. Without any, the "
            "session may subscribe, send and read history on the agent channels.",
        ),
    ] = None,
    url: UrlOption = LOCAL,
    token: TokenOption = "",
    data_dir: DataDirOption = HERE,
) -> None:
    """Makes a session for a user; prints its token and nothing else.

    \b
    smart-city session create --user alice
    smart-city session create --user alice --channel 'pillar:*:subscribe,send'
    """
    wanted: dict[str, Any] = {"user_id": user}
    if ttl is not None:
        wanted["ttl_seconds"] = ttl
    if channel:
        grants: dict[str, list[str]] = {}
        for name, rights in map(_grant, channel):
            grants[name] = [*grants.get(name, []), *rights]
        wanted["channels"] = grants
    made = Remote(url, token, data_dir).call("traffic_cop.create_session", wanted)
    typer.echo(made["session_token"])


def create_token(
    realm: Annotated[str, typer.Option(help="The name of the service or agent.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="What it may do, as in post_office.publish. May be repeated.")
    ] = None,
    url: UrlOption = LOCAL,
    token: TokenOption = "",
    data_dir: DataDirOption = HERE,
) -> None:
    """Makes a token for a service or an agent; prints it and nothing else. Without a scope it may do nothing.

    \b
    smart-city token create --realm content --scope post_office.publish
    smart-city token create --realm concierge --scope post_office.consume
    """
    wanted = {"realm": realm, "scopes": scope or []}
    made = Remote(url, token, data_dir).call("traffic_cop.create_service_token", wanted)
    typer.echo(made["token"])


def publish(
    channel: Annotated[str, typer.Argument(help="An agent channel, as in guide or pillar:content.")],
    message: Annotated[str, typer.Argument(metavar="JSON", help="Any JSON object; - reads it from stdin.")],
    realm: Annotated[str | None, typer.Option(help="In whose name; the token's own if left out.")] = None,
    url: UrlOption = LOCAL,
    token: TokenOption = "",
    data_dir: DataDirOption = HERE,
) -> None:
    """Publishes a message to all subscribers of a channel.

    \b
    smart-city publish guide '{"message": "The doors are open."}'
    """
    wanted: dict[str, Any] = {"channel": channel, "message": _object(message)}
    if realm is not None:
        wanted["realm"] = realm
    _show(Remote(url, token, data_dir).call("post_office.publish_to_agent_channel", wanted))


def listen(
    channels: Annotated[list[str], typer.Argument(metavar="CHANNEL…", help="One or more channels.")],
    since: Annotated[
        str, typer.Option(metavar="OFFSET.EPOCH", help="Begin after this position; with one channel only.")
    ] = "",
    url: UrlOption = LOCAL,
    token: TokenOption = "",
    data_dir: DataDirOption = HERE,
) -> None:
    """Prints what arrives, one JSON object a line, until Ctrl-C; reconnects by itself and misses nothing.

    \b
    smart-city listen guide
    smart-city listen pillar:content --since 41.k3f9 | jq .payload
    """
    Remote(url, token, data_dir).listen(channels, _position(since, channels))


def call(
    operation: Annotated[str, typer.Argument(metavar="SERVICE.OPERATION", help="As in post_office.list_channels.")],
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="Its arguments, an object; - reads them from stdin.")
    ] = "{}",
    url: UrlOption = LOCAL,
    token: TokenOption = "",
    data_dir: DataDirOption = HERE,
) -> None:
    """Calls any operation, and prints its result.

    \b
    smart-city call post_office.list_channels
    smart-city call post_office.get_queue_status '{"channel": "guide"}'
    """
    service, _, name = operation.partition(".")
    if not (service and name):
        raise typer.BadParameter(f"{operation!r} is not SERVICE.OPERATION, as in post_office.list_channels")
    _show(Remote(url, token, data_dir).call(operation, _object(arguments)))


def status(url: UrlOption = LOCAL, token: TokenOption = "", data_dir: DataDirOption = HERE) -> None:
    """Shows how the platform is, part by part; exits with 1 when it can serve nothing.

    \b
    smart-city status
    """
    health = Remote(url, token, data_dir).health()
    table = Table("part", "status", "answers in", "", title=f"{url} is {health.get('status', 'unknown')}")
    for name, part in health.get("services", {}).items():
        state, milliseconds = part.get("status", "unknown"), part.get("response_time_ms")
        took = "" if milliseconds is None else f"{milliseconds:.1f} ms"
        table.add_row(name, state, took, part.get("error", ""), style=COLOURS.get(state, ""))
    Console().print(table)
    if health.get("status") == "unhealthy":
        raise typer.Exit(REFUSED)


def _grant(text: str) -> tuple[str, list[str]]:
    """``pillar:*:subscribe,history``: the last colon separates the rights."""
    name, colon, rights = text.rpartition(":")
    if not (colon and name and rights):
        raise typer.BadParameter(f"{text!r} is not NAME:RIGHT,RIGHT as in guide:subscribe,send")
    return name, [right.strip() for right in rights.split(",")]


def _no_number(text: str) -> float:
    """NaN and Infinity, which Python reads and JSON does not have."""
    raise ValueError(f"{text} is no number")


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(sys.stdin.buffer.read() if text == "-" else text, parse_constant=_no_number)
    except ValueError as error:
        raise typer.BadParameter(f"this is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise typer.BadParameter('this is JSON, but not an object, as in {"message": "hello"}')
    return found


def _position(text: str, channels: list[str]) -> Position | None:
    from city_client import Position

    if not text:
        return None
    if len(channels) != 1:
        raise typer.BadParameter("--since is a position in one channel, and several are named")
    try:
        return Position.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _show(result: dict[str, Any]) -> None:
    """Coloured and indented for people, one line for programs."""
    if sys.stdout.isatty():
        Console().print_json(data=result)
    else:
        typer.echo(json.dumps(result, ensure_ascii=False))
