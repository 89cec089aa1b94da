"""``status --watch``: how the platform is from now on, through its going away and coming back, until Ctrl-C.

A terminal gets a live table, a file or a pipe a line for each change. It looks; what is seen is `overview`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from city_hall.commands.overview import Overview, look
from city_hall.commands.printing import say
from city_hall.commands.remote import Remote

LOOK_SECONDS = 5.0
"""A platform that takes longer to say how it is counts as away."""


def watch(remote: Remote, every: float) -> None:
    """Shows every look, or says every change, until Ctrl-C."""
    shows_live = sys.stdout.isatty() and not remote.is_json
    with contextlib.suppress(KeyboardInterrupt):  # the way to end it
        asyncio.run(_live(remote, every) if shows_live else _told(remote, every))


async def _live(remote: Remote, every: float) -> None:
    with Live(console=Console(emoji=False), auto_refresh=False) as live:
        async for found in _looks(remote, every):
            foot = Text(f"{_now()}, every {every:g} s; Ctrl-C ends it", style="dim")
            refused = found.document.get("refused", {}).get("message", "")
            live.update(Group(found.readable(), Text(refused, style="red"), foot), refresh=True)


async def _told(remote: Remote, every: float) -> None:
    said: object = None
    write = _as_json if remote.is_json else _as_text
    async for found in _looks(remote, every):
        if found.essence != said:
            write(found)
            said = found.essence


def _as_json(found: Overview) -> None:
    say(json.dumps({"time": _now(), **found.document}, ensure_ascii=False))
    sys.stdout.flush()


def _as_text(found: Overview) -> None:
    say(f"{_now()} {found.sentence()}")
    sys.stdout.flush()


async def _looks(remote: Remote, every: float) -> AsyncIterator[Overview]:
    """One look after the other, each with a deadline; who does not answer is away, and asked again."""
    clock = asyncio.get_running_loop().time
    while True:
        due = clock() + every
        yield await _look(remote)
        await asyncio.sleep(max(0.0, due - clock()))


async def _look(remote: Remote) -> Overview:
    """With a token read anew: a platform that was set up again has another."""
    from city_client import ClientError

    try:
        async with asyncio.timeout(LOOK_SECONDS), remote.operations(LOOK_SECONDS) as city:
            return await look(city, remote.url, may_ask_more=bool(remote.found_token))
    except TimeoutError:
        return Overview.of_nobody(remote.url, f"no answer within {LOOK_SECONDS:g} s")
    except ClientError as error:
        return Overview.of_nobody(remote.url, str(error))


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
