"""The load generator as the harness uses it: a C program (`benchmarks/load`), built at first use, told by lines.

It opens clients, counts what they get and takes its latencies; what that means is for cases to say.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.subjects import Audience, Exchange, Missing

SOURCES = Path(__file__).with_name("load")
BUILT = SOURCES / ".built"
CLIENT = ("main.c", "client.c", "scan.c", "text.c")
MARGIN_SECONDS = 30.0
"""What the generator gets to answer beyond what a command may take."""


class Place(Protocol):
    """Where clients connect."""

    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...


class Refused(Exception):
    """The generator could not do what it was told, or clients did not come in; the sentence says why."""


@dataclass(frozen=True, slots=True)
class Latency:
    """A distribution, in ns."""

    count: int
    p50: int
    p99: int
    p999: int
    max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the clients saw since `Load.begin`."""

    deliveries: int
    """How often ``"t":<ns>`` came."""
    bytes: int
    requests: int
    answers: int
    pings: int
    first_ns: int
    """When the first delivery came (CLOCK_MONOTONIC)."""
    span_ns: int
    """From the first delivery to the last, or for requests from the first request to the last answer."""
    task_ns: int
    """How long the command took."""
    cpu_ns: int
    """The generator's own CPU time since its start."""
    ready: int
    under_way: int
    failed: int
    lost: int
    why: str
    """Why the first one of those failed or was lost."""
    latency: Latency
    answer_latency: Latency
    opening: Latency
    """From a client's connect to its being ready."""
    opening_since_start: Latency
    """From the begin of the command to each client's being ready."""


@functools.cache
def built(program: str, *sources: str) -> Path:
    """The program, compiled from its sources if they are not what it was last built from.

    Raises:
        Missing: it has to be compiled, and this machine has no C compiler.
    """
    texts = sorted(SOURCES.glob("*.[ch]"))
    mark = hashlib.sha256(b"".join(path.read_bytes() for path in texts)).hexdigest()[:16]
    place = BUILT / f"{program}-{mark}"
    if not place.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise Missing("the load generator is a C program, and there is no compiler: install cc, gcc or clang")
        BUILT.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as fresh:
            made = Path(fresh) / program
            subprocess.run(  # the compiler of this machine, and our own sources
                [compiler, "-std=gnu11", "-O2", "-o", made, *(SOURCES / source for source in sources)], check=True
            )
            made.rename(place)
    return place


class Load:
    """The generator, running. Commands are carried out one after the other; pings are answered at any time."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None
        self._files: tempfile.TemporaryDirectory[str]

    async def __aenter__(self) -> Self:
        program = built("load", *CLIENT)
        self._files = tempfile.TemporaryDirectory(prefix="benchmark-")
        self._process = await asyncio.create_subprocess_exec(
            program, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )  # it ends when its standard input does, and so with the harness
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.cleanup()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            async with asyncio.timeout(MARGIN_SECONDS):
                await self._process.wait()

    async def open(
        self, subject: Place, audience: Audience, clients: int, *, group: str = "subscribers", at_once: int = 64,
        first: int = 0, seconds: float = 120.0,
    ) -> Seen:  # fmt: skip
        """Opens a group of clients, numbered from ``first``, at most ``at_once`` under way at a time; all must come in.

        Raises:
            Refused: not all of them became ready.
        """
        words = [
            ("group", group), ("host", subject.host), ("port", subject.port), ("count", clients), ("first", first),
            ("at_once", at_once), ("seconds", seconds), *_manner(audience, self._credentials(audience.credentials)),
        ]  # fmt: skip
        seen = await self._tell("open", words, seconds)
        if seen.failed or seen.under_way:
            await self.close(group=group, abort=True)
        return _all_in(seen, clients)

    async def reopen(
        self, subject: Place, audience: Audience, clients: int, *, group: str = "subscribers", at_once: int = 64,
        seconds: float = 120.0,
    ) -> Seen:  # fmt: skip
        """Opens the clients of a group that was closed with ``keep`` again, with what each of them has captured."""
        words = [
            ("group", group), ("host", subject.host), ("port", subject.port), ("at_once", at_once),
            ("seconds", seconds), *_manner(audience, self._credentials(audience.credentials)),
        ]  # fmt: skip
        return _all_in(await self._tell("reopen", words, seconds), clients)

    async def begin(self) -> Seen:
        """Forgets what was counted and who was lost. Clients stay."""
        return await self._tell("begin", [], 0)

    async def wait(self, deliveries: int, seconds: float = 30.0) -> Seen:
        """Waits until so many deliveries were seen since `begin`, or for so long; 0 answers at once."""
        return await self._tell("wait", [("deliveries", deliveries), ("seconds", seconds)], seconds)

    async def ask(
        self, exchange: Exchange, *, in_flight: int = 1, rate: float = 0, total: int = 0, seconds: float = 10.0,
        group: str = "subscribers",
    ) -> Seen:  # fmt: skip
        """Has a group send requests, each client at most ``in_flight`` unanswered, then waits for what is unanswered.

        With a ``rate`` so many a second from all of them together; else each answer brings the next request. It ends
        after ``total`` requests, if that is given, or after so many seconds.
        """
        words: list[tuple[str, object]] = [
            ("group", group), ("request", exchange.request), ("answer", exchange.answer.decode()),
            ("in_flight", in_flight), ("rate", rate), ("seconds", seconds),
        ]  # fmt: skip
        return await self._tell("ask", [*words, ("total", total)] if total else words, seconds)

    async def close(
        self, *, group: str = "subscribers", abort: bool = False, keep: bool = False, seconds: float = 20.0
    ) -> Seen:
        """Ends the clients of a group: with 1000 and the server's answer, or at once with a reset (``abort``)."""
        words = [("group", group), ("abort", int(abort)), ("keep", int(keep)), ("seconds", seconds)]
        return await self._tell("close", words, seconds)

    def _credentials(self, credentials: Sequence[str]) -> str:
        if not credentials:
            return ""
        text = "\n".join(credentials)
        path = Path(self._files.name) / hashlib.sha256(text.encode()).hexdigest()
        path.write_text(text + "\n")
        return str(path)

    async def _tell(self, verb: str, words: Sequence[tuple[str, object]], seconds: float) -> Seen:
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise Refused("the load generator is not running")
        line = "\t".join([verb, *(f"{key}={_escaped(str(value))}" for key, value in words)])
        process.stdin.write(line.encode() + b"\n")
        async with asyncio.timeout(seconds + MARGIN_SECONDS):
            answer = await process.stdout.readline()
        if not answer:
            raise Refused(f"the load generator ended with {process.returncode} at: {verb}")
        return _seen(json.loads(answer))


def answered(seen: Seen, *, but: int = 0) -> Seen:
    """What an `ask` came back with, if all requests but so many were answered and nobody was lost.

    Raises:
        Refused: they were not: what they cost says nothing.
    """
    if seen.lost or not seen.answers or seen.requests - seen.answers > but:
        raise Refused(f"{seen.answers} of {seen.requests} answered, {seen.lost} connections lost ({seen.why})")
    return seen


def _manner(audience: Audience, credentials: str) -> list[tuple[str, object]]:
    words: list[tuple[str, object]] = [("path", audience.path), ("subprotocol", audience.subprotocol)]
    words += [("header", header) for header in audience.headers]
    words += [("opening", frame) for frame in audience.opening]
    words += [("ready", audience.ready.decode()), ("capture", audience.capture.decode())]
    if audience.heartbeat:
        words += [("pulse", audience.heartbeat[0].decode()), ("pulse_answer", audience.heartbeat[1].decode())]
    return [*words, ("credentials", credentials)] if credentials else words


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\r", "\\r").replace("\n", "\\n")


def _seen(answer: dict[str, Any]) -> Seen:
    if "error" in answer:
        raise Refused(answer["error"])
    fields: dict[str, Any] = {name: Latency(**v) if isinstance(v, dict) else v for name, v in answer.items()}
    return Seen(**fields)


def _all_in(seen: Seen, clients: int) -> Seen:
    if seen.failed or seen.under_way:
        raise Refused(
            f"of {clients} clients {seen.failed} failed and {seen.under_way} were late: {seen.why or 'no word'}"
        )
    return seen
