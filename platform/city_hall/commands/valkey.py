"""``valkey``: one command against the platform's Valkey, for operators without redis-cli.

It speaks to Valkey itself and not to the platform, so it also helps when that is down. One call is one connection:
what needs a connection to go on living is refused, what goes on telling is printed as it comes.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from city_hall.commands.options import HERE, PANEL, JsonOption
from city_hall.commands.printing import NOBODY, REFUSED, USAGE, complain, say
from city_hall.commands.replies import as_json, as_text

ALL_TO_VALKEY = {"ignore_unknown_options": True, "allow_interspersed_args": False}
"""From the command's first word on everything is Valkey's."""
ANSWER_SECONDS = 30.0
MOST_REDIRECTIONS = 5
TELLING = frozenset(("MONITOR", "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE"))
WAITING = frozenset(
    ("BLPOP", "BRPOP", "BLMOVE", "BRPOPLPUSH", "BLMPOP", "BZPOPMIN", "BZPOPMAX", "BZMPOP", "XREAD", "XREADGROUP",
     "WAIT", "WAITAOF")
)  # fmt: skip
"""Commands with time limits of their own."""
REFUSALS = {
    **dict.fromkeys(
        ("MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH", "SELECT", "RESET", "QUIT", "ASKING", "READONLY", "READWRITE"),
        "changes only its own connection, which ends with this call; EVAL runs several commands as one",
    ),
    **dict.fromkeys(("AUTH", "HELLO"), "is done already: credentials belong into SMART_CITY_VALKEY_URL"),
    **dict.fromkeys(("SYNC", "PSYNC", "REPLCONF"), "is for replicas"),
    **dict.fromkeys(("UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE"), "ends what a call of its own began: press Ctrl-C"),
    "CLIENT REPLY": "would leave this call without an answer",
}

UrlOption = Annotated[
    str,
    typer.Option(
        "--valkey-url", envvar="SMART_CITY_VALKEY_URL", show_default="the embedded one of the data dir",
        help="Where Valkey is. A password is better in the variable.", rich_help_panel=PANEL,
    ),
]  # fmt: skip
DataDirOption = Annotated[
    Path,
    typer.Option(
        "--data-dir", envvar="SMART_CITY_DATA_DIR", help="Where the embedded Valkey lives.", rich_help_panel=PANEL
    ),
]


class _Failed(Exception):
    """Why it cannot be done, with the exit code and a word for programs."""

    def __init__(self, sentence: str, status: int, code: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


def valkey(
    words: Annotated[
        list[str], typer.Argument(metavar="COMMAND…", help="The command and its arguments, each a word of its own.")
    ],
    url: UrlOption = "",
    data_dir: DataDirOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Sends one command to the platform's Valkey and prints the reply, as redis-cli would.

    Options stand before the command. MONITOR and SUBSCRIBE print until Ctrl-C.

    \b
    [b]Examples[/b]
    smart-city valkey PING
    smart-city valkey HGETALL connections:alice
    smart-city valkey --json XRANGE 'log:{guide}:entries' - + COUNT 1
    smart-city valkey INFO memory
    """
    try:
        command = _command(words)
        _ask(_address(url, data_dir), command, is_json=as_json)
    except _Failed as failed:
        raise complain(str(failed), failed.status, code=failed.code, is_json=as_json) from None


def _command(words: Sequence[str]) -> list[str]:
    """The words to send; a whole command in quotes is taken apart.

    Raises:
        _Failed: a command that one call cannot carry out, or quotes that do not end.
    """
    try:
        command = shlex.split(words[0]) if len(words) == 1 else list(words)
    except ValueError as error:
        raise _Failed(f"{words[0]!r} cannot be taken apart: {error}", USAGE, "wrong_usage") from None
    if not command:
        raise _Failed("Name a command, as in: smart-city valkey PING", USAGE, "wrong_usage")
    for name in (command[0].upper(), " ".join(command[:2]).upper()):
        if why := REFUSALS.get(name):
            raise _Failed(f"{name} {why}.", USAGE, "wrong_usage")
    return command


def _address(url: str, data_dir: Path) -> str:
    """The URL that is set, else that of the Valkey that lives in the data dir.

    Raises:
        _Failed: none lives there.
    """
    from foundations.valkey import record

    if url and url != "embedded":
        return url
    try:
        found = record.read(data_dir / "valkey")
    except (record.NewerRecord, OSError) as error:
        raise _Failed(str(error), NOBODY, "unreachable") from None
    if found is None or not found.process.is_alive:
        raise _Failed(
            f"No Valkey runs in the data dir {data_dir}. Is the platform open, and is this its data dir? smart-city "
            "serve starts one; --data-dir names another dir, SMART_CITY_VALKEY_URL another Valkey.",
            NOBODY, "unreachable",
        )  # fmt: skip
    return f"unix://{found.socket}"


def _ask(url: str, command: Sequence[str], *, is_json: bool) -> None:
    """Sends the command; in a cluster, to the node that the others name."""
    import redis

    at: tuple[str, int] | None = None
    is_importing = False
    for _ in range(MOST_REDIRECTIONS):
        with _connected(url, at) as connection:
            try:
                if is_importing:
                    connection.send_command("ASKING")
                    connection.read_response()
                return _converse(connection, command, is_json=is_json)
            except redis.exceptions.AskError as elsewhere:  # or MOVED, which is one
                at = elsewhere.host or connection.host, elsewhere.port
                is_importing = not isinstance(elsewhere, redis.exceptions.MovedError)
    raise _Failed(f"The nodes of the cluster send {command[0]} in circles.", REFUSED, "refused")


@contextlib.contextmanager
def _connected(url: str, at: tuple[str, int] | None) -> Iterator[Any]:
    """A connection that stands: to one of the servers that the URL names, or with their credentials to another.

    Raises:
        _Failed: a URL that is none, nobody there, or one who does not let us in.
    """
    from foundations.valkey import WrongStore
    from foundations.valkey.address import Address

    try:
        named = Address.read(url).urls
    except WrongStore as error:
        raise _Failed(str(error), USAGE, "wrong_usage") from None
    for each in named if at is None else named[:1]:
        connection = _connection(each, at)
        try:
            _connect(connection, url)
        except _Failed as failed:
            if failed.status != NOBODY or each == named[-1] or at is not None:
                raise
            continue
        try:
            yield connection
        finally:
            connection.disconnect()
        return


def _connection(url: str, at: tuple[str, int] | None) -> Any:
    """Not opened; its methods carry no types."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    pool = redis.ConnectionPool.from_url(
        url, protocol=3, retry=Retry(NoBackoff(), 0), socket_connect_timeout=5, socket_timeout=ANSWER_SECONDS
    )
    if at is not None:
        pool.connection_kwargs["host"], pool.connection_kwargs["port"] = at
    return pool.make_connection()


def _connect(connection: Any, url: str) -> None:
    from redis.exceptions import AuthenticationError, RedisError

    from foundations.valkey import shown_url
    from foundations.valkey.refusals import unrepeated

    try:
        connection.connect()
    except AuthenticationError as error:
        raise _Failed(f"The Valkey at {shown_url(url)} does not let us in: {error}", REFUSED, "refused") from None
    except (RedisError, OSError) as error:
        told = f"No Valkey answers at {shown_url(url)}: {unrepeated(str(error))}"
        raise _Failed(told, NOBODY, "unreachable") from None


def _converse(connection: Any, command: Sequence[str], *, is_json: bool) -> None:
    """Sends the command and prints what comes: one reply, or until Ctrl-C."""
    import redis

    name = command[0].upper()
    waits = name in TELLING | WAITING
    try:
        connection.send_command(*command)
        _print(_reply(connection, waits=waits), is_json=is_json, is_one=name not in TELLING)
        while name in TELLING:
            _print(_reply(connection, waits=True), is_json=is_json, is_one=False)
    except KeyboardInterrupt:
        if name not in TELLING:
            raise
    except BrokenPipeError:  # who read along has left; a broken connection is redis-py's ConnectionError
        raise
    except redis.exceptions.AskError:  # another node has it
        raise
    except redis.exceptions.ResponseError as error:
        raise _Failed(f"Valkey says: {error}", REFUSED, "refused") from None
    except redis.exceptions.TimeoutError:
        told = f"Valkey has not answered {name} within {ANSWER_SECONDS:g} s; it may still be at it."
        raise _Failed(told, NOBODY, "unreachable") from None
    except (redis.exceptions.ConnectionError, OSError) as error:
        raise _Failed(f"The connection ended before {name} was answered: {error}", NOBODY, "unreachable") from None


def _reply(connection: Any, *, waits: bool) -> Any:
    """The next reply; one that is waited for comes when it comes."""
    if waits:
        return connection.read_response(disable_decoding=True, timeout=None, push_request=True)
    return connection.read_response(disable_decoding=True)


def _print(reply: Any, *, is_json: bool, is_one: bool) -> None:
    say(as_json(reply) if is_json else as_text(reply, for_people=sys.stdout.isatty()))
    if not is_one:
        sys.stdout.flush()
