"""``smart-city``: opens the city (``serve``), and talks to an open one (`commands`).

It parses, words and exits; what runs the platform is `supervisor`, what speaks to it `commands.remote`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from city_hall import commands
from city_hall.commands.completing import answer_shell
from city_hall.commands.options import HERE, LOCAL
from city_hall.commands.printing import REFUSED, USAGE, complain, show

if TYPE_CHECKING:
    from collections.abc import Mapping

    from city_hall.supervisor import Opened, Plan
    from foundations.settings import Settings

EXAMPLE = """publish guide '{"message": "The doors are open."}'"""

app = typer.Typer(
    name="smart-city", no_args_is_help=True, rich_markup_mode="rich",
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip


@app.callback()
def smart_city() -> None:
    """A gateway between people and AI agents.

    [b]smart-city serve[/b] opens the city on this machine. All other commands talk
    to an open one, with --token, or with the operator's token in its data dir.

    \b
    [b]Examples[/b]
    smart-city status
    smart-city publish guide '{"message": "The doors are open."}'
    smart-city COMMAND --help

    [dim]Exit codes: 0 done, 1 the platform said no, 2 wrong usage, 3 nothing answers.[/dim]
    """


@app.command(rich_help_panel="Run it")
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.", show_default="127.0.0.1")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.", show_default="8000")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that share the port.")] = 1,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where it keeps what it knows.", show_default=".smart-city")
    ] = None,
    valkey_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Opens its own Valkey on this loopback port, too.")
    ] = None,
    has_demo: Annotated[bool, typer.Option("--demo/--no-demo", help="With the demo agents.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: where it is open, as a line of JSON.")] = False,
) -> None:
    """Runs the platform until Ctrl-C.

    Without SMART_CITY_VALKEY_URL it starts a Valkey of its own; a second one on
    the same data dir joins the first one's. Whatever can be set is a variable
    SMART_CITY_…, and these options win over them.

    \b
    [b]Examples[/b]
    smart-city serve
    smart-city serve --port 9000 --workers 2
    SMART_CITY_VALKEY_URL=redis://valkey:6379 smart-city serve --host 0.0.0.0
    """
    from city_hall.supervisor import Plan, Supervisor

    given = {"host": host, "port": port, "data_dir": data_dir}
    options = {name: value for name, value in given.items() if value is not None}
    plan = Plan(workers=workers, valkey_port=valkey_port or 0, has_demo=has_demo)
    supervisor = Supervisor(plan, lambda: _settings(options, plan), _announce_as_json if as_json else _announce)
    try:
        asyncio.run(supervisor.run())
    except Exception as error:
        raise _refused(error, is_json=as_json) from None


commands.add_to(app)


def main() -> None:
    """The command's entry point."""
    answer_shell(_run)


def _run() -> None:
    """Runs the command; with --json, wrong usage is told in JSON, too."""
    if "--json" not in itertools.takewhile(lambda word: word != "--", sys.argv[1:]):
        app()
        return
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        raise SystemExit(complain(error.format_message(), USAGE, code="wrong_usage", is_json=True).exit_code) from None
    raise SystemExit(status)


def _settings(options: Mapping[str, object], plan: Plan) -> Settings:
    """Reads them once the workers load; from then on the supervisor logs."""
    from foundations.settings import Settings, WrongSetting, misspelt
    from foundations.telemetry import configure_logging

    settings = Settings.read(**options)
    if plan.valkey_port and settings.valkey_url != "embedded":
        raise WrongSetting("--valkey-port needs a Valkey of its own, and SMART_CITY_VALKEY_URL names another.")
    configure_logging(settings.log_format, settings.log_level, "supervisor")
    for name, meant in misspelt(os.environ).items():
        logging.getLogger("smart_city.supervisor").warning(
            "nobody reads %s%s", name, f"; did you mean {meant}?" if meant else ""
        )
    return settings


def _refused(error: Exception, *, is_json: bool) -> Exception:
    """A person's sentence as the command's exit; a defect as itself."""
    from city_hall.refusals import StopFailed, refusal_of
    from foundations.settings import WrongSetting

    if isinstance(error, WrongSetting):
        return complain(str(error), USAGE, code="wrong_setting", is_json=is_json)
    if isinstance(error, StopFailed):
        return complain(str(error), REFUSED, code="stop_failed", is_json=is_json)
    refusal = refusal_of(error)
    if refusal is None:
        return error
    return complain(str(refusal), REFUSED, code="start_refused", is_json=is_json)


def _announce(opened: Opened) -> None:
    """Says where the console is, one command to try, and how to stop; in one piece, and without wrapping it."""
    lines = [
        f"\n[b]Smart City is open[/b] [dim]after {opened.seconds:.1f} s[/dim]\n",
        f"  [dim]Console[/dim]  [b cyan]{escape(opened.url)}/[/b cyan]",
        f"  [dim]Try[/dim]      {escape(_example(opened.url, opened.settings))}",
        "  [dim]Stop[/dim]     Ctrl-C\n",
    ]
    if not opened.has_guides:
        lines.append("  [dim]There are no demo agents; others may come.[/dim]\n")
    Console(highlight=False, emoji=False, soft_wrap=True).print("\n".join(lines))


def _announce_as_json(opened: Opened) -> None:
    """The same for programs, in a line."""
    told = {"event": "open", "url": opened.url, "seconds": round(opened.seconds, 3), "has_guides": opened.has_guides}
    show(told, is_json=True)
    sys.stdout.flush()


def _example(url: str, settings: Settings) -> str:
    """A command that works as it stands here: found by the shell, with what is not the default."""
    found = shutil.which("smart-city")
    here = Path(sys.executable).with_name("smart-city")
    program = "smart-city" if found and Path(found).samefile(here) else _shortest(here)
    options = [] if url == LOCAL else ["--url", url]
    if settings.valkey_url == "embedded" and settings.data_dir != HERE:
        options += ["--data-dir", _shortest(settings.data_dir)]
    return " ".join([shlex.quote(program), EXAMPLE, *map(shlex.quote, options)])


def _shortest(path: Path) -> str:
    """Relative to where the user is, if it lies below."""
    try:
        return str(path.absolute().relative_to(Path.cwd()))
    except ValueError:
        return str(path.absolute())
