"""``publish`` and ``listen``: putting a message on a channel, and printing what comes over channels."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from city_hall.commands.completing import channels_beginning
from city_hall.commands.options import json_object, talking
from city_hall.commands.printing import show
from city_hall.commands.remote import Remote

if TYPE_CHECKING:
    from city_client import Position
    from city_client.events import Event

HELD = "The store is away: the message is kept by the instance that took it, and published when the store is back."


@talking
def publish(
    remote: Remote,
    channel: Annotated[
        str,
        typer.Argument(
            metavar="CHANNEL", help="An agent channel, as in guide or pillar:content.",
            autocompletion=channels_beginning,
        ),
    ],
    message: Annotated[str, typer.Argument(metavar="JSON", help="Any JSON object; - reads it from stdin.")],
    realm: Annotated[str | None, typer.Option(help="In whose name; the token's own if left out.")] = None,
    key: Annotated[
        str | None, typer.Option(help="Makes it safe to repeat: the same key within ten minutes publishes once.")
    ] = None,
) -> None:  # fmt: skip
    """Publishes a message to all subscribers of a channel, and prints its place in the channel's log.

    \b
    [b]Examples[/b]
    smart-city publish guide '{"message": "The doors are open."}'
    echo '{"message": "From a pipe."}' | smart-city publish pillar:content -
    smart-city publish guide '{"message": "Once."}' --key report-42
    """
    wanted: dict[str, Any] = {"channel": channel, "message": json_object(message)}
    given = {"realm": realm, "key": key}
    wanted |= {name: value for name, value in given.items() if value is not None}
    result = remote.call("post_office.publish_to_agent_channel", wanted)
    show(result, is_json=remote.is_json)
    if result.get("status") == "held" and not remote.is_json:
        typer.echo(HELD, err=True)


@talking
def listen(
    remote: Remote,
    channels: Annotated[
        list[str],
        typer.Argument(metavar="CHANNEL…", help="One or more channels.", autocompletion=channels_beginning),
    ],
    since: Annotated[
        str, typer.Option(metavar="OFFSET.EPOCH", help="Begin after this position; with one channel only.")
    ] = "",
) -> None:
    """Prints what arrives, one JSON object a line, until Ctrl-C; reconnects by itself and misses nothing.

    What happens to the connection is told on standard error, with --json in JSON, too.

    \b
    [b]Examples[/b]
    smart-city listen guide
    smart-city listen guide pillar:content
    smart-city listen guide --since 0
    """
    position = _position(since, channels)
    remote.health()  # whether anything answers, before a client that would wait for it
    logging.getLogger("city_client").addHandler(logging.NullHandler())  # it logs what it tells us as well

    async def print_frames() -> None:
        async with remote.client(_Teller(is_json=remote.is_json)) as city:
            async for publication in city.listen(channels, since=position):
                sys.stdout.buffer.write(publication.raw + b"\n")
                sys.stdout.buffer.flush()

    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        remote.run(print_frames())


class _Teller:
    """Says on standard error what happens to the connection."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._notices = Console(stderr=True, style="dim", emoji=False, markup=False, highlight=False, soft_wrap=True)

    def __call__(self, event: Event) -> None:
        if self._is_json:
            typer.echo(json.dumps({"notice": type(event).__name__, "message": str(event)}), err=True)
        else:
            self._notices.print(str(event))


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
