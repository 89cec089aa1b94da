"""``status``, ``channels`` and ``connections``: how the platform is and who is there, now or from now on."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from city_hall.commands.completing import channels_beginning
from city_hall.commands.options import talking
from city_hall.commands.overview import Overview, look
from city_hall.commands.printing import REFUSED, show
from city_hall.commands.remote import Remote
from city_hall.commands.tables import Rows
from city_hall.commands.watching import watch


@talking
def status(
    remote: Remote,
    watching: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C; without a terminal, a line for each change.")
    ] = False,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="How often --watch looks, in seconds.")] = 2.0,
) -> None:
    """Shows how the platform is, part by part; exits with 1 when it can serve nothing or does not take the token.

    With a token that may observe it shows connections, instances and queues, too.

    \b
    [b]Examples[/b]
    smart-city status
    smart-city status --json
    smart-city status --watch
    """
    if watching:
        return watch(remote, every)
    found = remote.run(_look(remote), "waiting for the platform")
    show(found.document, is_json=remote.is_json, as_people_read_it=found.readable())
    if refused := found.document.get("refused"):
        raise remote.complain(refused["message"], REFUSED, code=refused["code"])
    if found.document["status"] == "unhealthy":
        raise typer.Exit(REFUSED)
    return None


@talking
def channels(remote: Remote) -> None:
    """Lists the channels: who listens, where each log ends, what waits for agents, how many take it, and its circuit.

    \b
    [b]Examples[/b]
    smart-city channels
    smart-city channels --json
    """
    found = remote.call("post_office.list_channels")["channels"]
    queues = remote.call("post_office.get_queue_status")["channels"]
    told = [channel | {"queue": queues.get(channel["channel"], {})} for channel in found]
    rows = Rows("channel", "listen", "newest", "wait", "agents", "circuit")
    for one in told:
        newest = f"{one['offset']}.{one['epoch']}" if one["offset"] else "nothing yet"
        queue: dict[str, Any] = one["queue"]
        rows.add_row(
            one["channel"],
            str(one["subscribers"]),
            newest,
            str(queue.get("depth", "")),
            str(queue.get("consumers", "")),
            str(queue.get("circuit", "")).replace("_", " "),
        )
    show({"channels": told}, is_json=remote.is_json, as_people_read_it=rows)


@talking
def connections(
    remote: Remote,
    user: Annotated[str | None, typer.Option(help="Only those of this user; ~REALM is a service.")] = None,
    channel: Annotated[
        str | None,
        typer.Option(
            help="Only those that listen to it, take from it or sent to it.", autocompletion=channels_beginning
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many at most, the newest first.")] = 50,
) -> None:
    """Lists who is connected: as whom, where, since when, to what it listens, and how many bytes wait for it.

    \b
    [b]Examples[/b]
    smart-city connections
    smart-city connections --user alice
    smart-city connections --channel guide --json
    """
    given = {"user_id": user, "channel": channel, "limit": limit}
    wanted = {name: value for name, value in given.items() if value is not None}
    found = remote.call("post_office.list_connections", wanted)
    rows = Rows("connection", "user", "instance", "since (UTC)", "unsent", "on", title=_counted(found))
    for one in found["connections"]:
        rows.add_row(
            one["connection_id"], one["user_id"], one["instance_id"], one["connected_at"][5:16].replace("T", " "),
            str(one["unsent_bytes"]) + (", lags" if one.get("is_lagging") else ""),
            "\n".join([*one["consumes"], *one["channels"]]),
        )  # fmt: skip
    show(found, is_json=remote.is_json, as_people_read_it=rows)


def _counted(found: dict[str, Any]) -> str:
    """How many there are, how many of them are shown, and who did not say."""
    shown = len(found["connections"])
    more = f", the newest {shown} of them" if shown < found["total"] else ""
    silent = f"; no answer from {', '.join(found['silent_instances'])}" if found["silent_instances"] else ""
    return f"Connections: {found['total']}{more}{silent}"


async def _look(remote: Remote) -> Overview:
    async with remote.operations() as city:
        return await look(city, remote.url, may_ask_more=bool(remote.found_token))
