"""``call``: any operation of the platform, or the list of them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Group

from city_hall.commands.completing import operations_beginning, operations_in
from city_hall.commands.options import json_object, talking
from city_hall.commands.printing import show
from city_hall.commands.remote import LONG_CALL_SECONDS, Remote
from city_hall.commands.tables import Rows


@talking
def call(
    remote: Remote,
    operation: Annotated[
        str | None,
        typer.Argument(
            metavar="SERVICE.OPERATION", help="As in post_office.list_channels; lists all if left out.",
            autocompletion=operations_beginning,
        ),
    ] = None,
    arguments: Annotated[
        str, typer.Argument(metavar="JSON", help="Its arguments, an object; - reads them from stdin.")
    ] = "{}",
) -> None:  # fmt: skip
    """Calls any operation and prints its result; without one, lists the operations and what they do.

    \b
    [b]Examples[/b]
    smart-city call
    smart-city call post_office.list_channels
    smart-city call post_office.get_queue_status '{"channel": "guide"}'
    echo '{"channel": "guide", "limit": 5}' | smart-city call post_office.get_channel_history -
    """
    if operation is None:
        return _list(remote)
    service, _, name = operation.partition(".")
    if not (service and name):
        raise typer.BadParameter(f"{operation!r} is not SERVICE.OPERATION, as in post_office.list_channels")
    result = remote.call(operation, json_object(arguments), seconds=LONG_CALL_SECONDS)
    return show(result, is_json=remote.is_json)


def _list(remote: Remote) -> None:
    async def ask() -> dict[str, Any]:
        async with remote.operations() as city:
            return await city.description()

    found = operations_in(remote.run(ask(), "waiting for the list of operations"))
    by_service: dict[str, Any] = {}
    for one in found:
        service, _, name = one["operation"].partition(".")
        rows = by_service.setdefault(service, Rows(service, "what it does", has_prose=True))
        rows.add_row(name, one["summary"])
    told = "smart-city call SERVICE.OPERATION '{…}'; all about each of them: "
    readable = Group(*by_service.values(), f"\n[dim]{told}{remote.url}/docs[/dim]")
    show({"operations": found}, is_json=remote.is_json, as_people_read_it=readable)
