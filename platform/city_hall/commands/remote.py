"""An open city, seen from the command line: with whose token it is spoken to, and what a failure exits with.

Everything goes through `city_client`, as it would in anybody's program; nothing of the platform is touched.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console

from city_hall.commands.printing import NOBODY, REFUSED, USAGE, complain

if TYPE_CHECKING:
    from city_client import CityClient, ClientError, Operations, Refused
    from city_client.events import Event

TOKEN_FILE = "operator-token"  # noqa: S105  # a file's name
CALL_SECONDS = 15.0
LONG_CALL_SECONDS = 60.0
"""For operations that wait themselves: they may take 45 s."""
PATIENCE_SECONDS = 0.5
"""What takes longer is worth saying that it goes on."""

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Remote:
    """Where the platform is, where a token for it is found (given, or in a local data dir), and how to print."""

    url: str
    token: str
    data_dir: Path
    is_json: bool = False

    @classmethod
    def named(cls, url: str, token: str, data_dir: Path, *, is_json: bool = False) -> Remote:
        """The platform at ``url``, which is shown: what is secret in it is taken out."""
        from city_client.addresses import Address

        try:
            address = Address.parse(url, token)
            remote = cls(address.http, address.token, data_dir, is_json=is_json)
            Address.parse(url, remote.found_token)
        except ValueError as error:
            raise complain(str(error), USAGE, code="wrong_usage", is_json=is_json) from None
        return remote

    def call(
        self, operation: str, arguments: Mapping[str, Any] | None = None, *, seconds: float = CALL_SECONDS
    ) -> dict[str, Any]:
        """Calls ``service.operation``; exits if the platform refuses or does not answer."""

        async def ask() -> dict[str, Any]:
            async with self.operations(seconds) as city:
                return await city.call(operation, arguments)

        return self.run(ask(), f"waiting for {operation}")

    def health(self) -> dict[str, Any]:
        """How the platform is; a token shows error texts, too."""

        async def ask() -> dict[str, Any]:
            async with self.operations() as city:
                return await city.health()

        return self.run(ask(), "waiting for the platform")

    def run(self, conversation: Coroutine[Any, Any, Value], doing: str = "") -> Value:
        """Carries out what is said to the city; exits if it refuses or does not answer.

        With ``doing`` a terminal shows that it goes on, if it takes long.
        """
        from city_client import ClientError

        try:
            return asyncio.run(_patiently(conversation, "" if self.is_json else doing))
        except ClientError as error:
            raise self._worded(error) from None

    def operations(self, seconds: float = CALL_SECONDS) -> Operations:
        """The platform's operations over HTTP."""
        from city_client import Operations

        return Operations(self.url, self.found_token, seconds=seconds)

    def client(self, on_event: Callable[[Event], None]) -> CityClient:
        """A WebSocket client that comes back by itself."""
        from city_client import CityClient

        return CityClient(self.url, token=self.found_token, on_event=on_event)

    @property
    def found_token(self) -> str:
        """A platform on this machine writes its operator's token, for whoever may read its data dir."""
        if self.token:
            return self.token
        try:
            return (self.data_dir / TOKEN_FILE).read_text().strip()
        except OSError:
            return ""

    def complain(self, sentence: str, status: int, *, code: str = "", **more: object) -> typer.Exit:
        """Says what is wrong in the form that was asked for; the result is to be raised."""
        return complain(sentence, status, code=code, is_json=self.is_json, **more)

    def _worded(self, error: ClientError) -> typer.Exit:
        from city_client import Ended, Refused, Unreachable

        match error:
            case Refused():
                return self._refused(error)
            case Ended(code=4501 | 401):
                return self.complain(f"{error}{self._hint}", REFUSED, code="unauthenticated")
            case Unreachable():
                told = f"Nothing answers at {self.url} ({error}). Is it open? smart-city serve"
                return self.complain(told, NOBODY, code="unreachable")
            case _:
                return self.complain(str(error), REFUSED, code="ended")

    def _refused(self, error: Refused) -> typer.Exit:
        """The code and the sentence, then a line for each argument that was wrong."""
        problems = [{"field": problem.field, "message": problem.message} for problem in error.errors]
        if self.is_json:
            more = {"retry_after": error.retry_after, "errors": problems}
            known = {name: value for name, value in more.items() if value}
            return self.complain(error.message, REFUSED, code=error.code, retryable=error.retryable, **known)
        hint = self._hint if error.code == "unauthenticated" else ""
        wait = f" Try again in {error.retry_after:g} s." if error.retry_after else ""
        lines = [f"{error.message}{wait}{hint}", *(f"  {told['field']}: {told['message']}" for told in problems)]
        return self.complain("\n".join(lines), REFUSED, code=error.code)

    @property
    def _hint(self) -> str:
        if self.found_token:
            return ""
        return f" (no token was given, and {self.data_dir / TOKEN_FILE} has none: --token or --data-dir)"


async def _patiently(conversation: Coroutine[Any, Any, Value], doing: str) -> Value:
    """Says on standard error that it goes on, once it has taken a while, and only to a terminal."""
    if not (doing and sys.stderr.isatty()):
        return await conversation
    work = asyncio.ensure_future(conversation)
    await asyncio.wait({work}, timeout=PATIENCE_SECONDS)
    if work.done():
        return work.result()
    with Console(stderr=True, emoji=False, markup=False).status(doing):
        return await work
