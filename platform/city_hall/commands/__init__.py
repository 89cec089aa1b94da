"""The commands of ``smart-city`` that talk to an open city, each from its arguments to what it prints.

`remote` is who is spoken to and how failures end, `options` what all commands take, `printing` how results look;
the other modules are the commands.
"""

from __future__ import annotations

import typer

from city_hall.commands import credentials, looking, mcp, messages, operations, valkey

TALK, LOOK, LET_IN = "Talk to it", "Look at it", "Let people and programs in"


def add_to(app: typer.Typer) -> None:
    """Adds the commands to the application, in the order in which one meets them."""
    for command in (messages.publish, messages.listen, operations.call):
        app.command(rich_help_panel=TALK, no_args_is_help=command is not operations.call)(command)
    app.command(rich_help_panel=TALK)(mcp.mcp)
    for command in (looking.status, looking.channels, looking.connections):
        app.command(rich_help_panel=LOOK)(command)
    app.command(rich_help_panel=LOOK, no_args_is_help=True, context_settings=valkey.ALL_TO_VALKEY)(valkey.valkey)
    credentials.add_to(app, LET_IN)
