"""An open city, seen from the command line: with whose token it is spoken to, and what a failure exits with.

Everything goes through `city_client`, as it would in anybody's program; nothing of the platform is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console

if TYPE_CHECKING:
    from city_client import ClientError, Position, Refused
    from city_client.events import Event

REFUSED, USAGE, NOBODY = 1, 2, 3
"""Exit codes: the platform said no, wrong usage, nothing answers."""
TOKEN_FILE = "operator-token"  # noqa: S105  # a file's name

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the platform is, and where a token for it is found: given, or in the data dir of a local one."""

    url: str
    token: str
    data_dir: Path

    def __post_init__(self) -> None:
        from city_client.addresses import Address

        try:
            Address.parse(self.url)
        except ValueError as error:
            raise complain(str(error), USAGE) from None

    def call(self, operation: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Calls ``service.operation``; exits if the platform refuses or does not answer."""
        from city_client import Operations

        async def ask() -> dict[str, Any]:
            async with Operations(self.url, self._found_token) as city:
                return await city.call(operation, arguments)

        return self._run(ask())

    def health(self) -> dict[str, Any]:
        """How the platform is; a token shows error texts, too."""
        from city_client import Operations

        async def ask() -> dict[str, Any]:
            async with Operations(self.url, self._found_token) as city:
                return await city.health()

        return self._run(ask())

    def listen(self, channels: Sequence[str], since: Position | None) -> None:
        """Writes what comes to stdout, a line each, through all reconnections; what happens, to stderr."""
        from city_client import CityClient

        self.health()  # whether anything answers, before a client that would wait for it
        notices = Console(stderr=True, style="dim", markup=False, highlight=False, soft_wrap=True)
        logging.getLogger("city_client").addHandler(logging.NullHandler())  # it logs what it tells us as well

        def tell(event: Event) -> None:
            notices.print(str(event))

        async def print_frames() -> None:
            async with CityClient(self.url, token=self._found_token, on_event=tell) as city:
                async for publication in city.listen(channels, since=since):
                    sys.stdout.buffer.write(publication.raw + b"\n")
                    sys.stdout.buffer.flush()

        with contextlib.suppress(KeyboardInterrupt):  # the way to end it
            self._run(print_frames())

    @property
    def _found_token(self) -> str:
        """A platform on this machine writes its operator's token, for whoever may read its data dir."""
        if self.token:
            return self.token
        try:
            return (self.data_dir / TOKEN_FILE).read_text().strip()
        except OSError:
            return ""

    def _run(self, conversation: Coroutine[Any, Any, Value]) -> Value:
        from city_client import ClientError

        try:
            return asyncio.run(conversation)
        except ClientError as error:
            raise self._worded(error) from None

    def _worded(self, error: ClientError) -> typer.Exit:
        from city_client import Ended, Refused, Unreachable

        match error:
            case Refused():
                return complain("\n".join(self._lines(error)), REFUSED)
            case Ended(code=4501 | 401):
                return complain(f"unauthenticated: {error}{self._hint}", REFUSED)
            case Unreachable():
                return complain(f"Nothing answers at {self.url} ({error}). Is it open? smart-city serve", NOBODY)
            case _:
                return complain(str(error), REFUSED)

    def _lines(self, error: Refused) -> list[str]:
        """The code and the sentence, then a line for each argument that was wrong."""
        hint = self._hint if error.code == "unauthenticated" else ""
        wait = f" Try again in {error.retry_after:g} s." if error.retry_after else ""
        return [
            f"{error.code}: {error.message}{wait}{hint}",
            *(f"  {problem.field}: {problem.message}" for problem in error.errors),
        ]

    @property
    def _hint(self) -> str:
        if self._found_token:
            return ""
        return f" (no token was given, and {self.data_dir / TOKEN_FILE} has none: --token or --data-dir)"


def complain(sentence: str, status: int) -> typer.Exit:
    """Says on stderr what is wrong; the result is to be raised."""
    Console(stderr=True).print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(status)
