"""Holding a client against the scenarios: the runner is the server, and the client does what it is told.

The steps are described in the README. A step that does not come true ends its scenario.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

from tests.conformance.driver import Driver
from tests.conformance.encodings import SUBPROTOCOLS
from tests.conformance.patterns import Bound, Mismatch, fill, match
from tests.conformance.scenarios import Outcome, Scenario, Step
from tests.conformance.visits import Visit

SECONDS = 10.0
"""How long a client may take for what a step waits for, unless the step says ``within``."""
RETURN_SECONDS = 40.0
"""How long it may take to come back: back-off reaches 20 seconds."""
AT_ONCE = 6
TOKEN = "ses_conformance"  # it opens nothing


async def hold_all(command: Sequence[str], scenarios: Iterable[Scenario]) -> AsyncIterator[Outcome]:
    """Runs scenarios side by side, a few at a time, since most of them wait; gives the outcomes in their order."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def hold_one(scenario: Scenario) -> Outcome:
        async with turns:
            return await hold(command, scenario)

    async with asyncio.TaskGroup() as group:
        for task in [group.create_task(hold_one(scenario)) for scenario in scenarios]:
            yield await task


async def hold(command: Sequence[str], scenario: Scenario) -> Outcome:
    """Runs one scenario with a fresh process of the client."""
    try:
        async with Driver.started(command) as driver:
            try:
                return await _held(driver, scenario)
            except Mismatch as mismatch:
                said = f"\n     its standard error: {driver.said}" if driver.said else ""
                return Outcome(scenario, f"{mismatch}{said}")
    except Mismatch as mismatch:
        return Outcome(scenario, str(mismatch))


async def _held(driver: Driver, scenario: Scenario) -> Outcome:
    ready = await driver.told(SECONDS)
    match({"told": "ready", "can": "<array>"}, ready, {})
    needs = scenario.needs | ({"msgpack"} if scenario.encoding == "msgpack" else set())
    if missing := needs - set(ready["can"]):
        return Outcome(scenario, f"the client cannot {', '.join(sorted(missing))}", is_skipped=True)
    async with _Run.open(driver, scenario.encoding) as run:
        await run.through(scenario)
    return Outcome(scenario)


class _Run:
    """One scenario under way."""

    def __init__(self, driver: Driver, encoding: str) -> None:
        self._driver = driver
        self._encoding = encoding
        self._visits: asyncio.Queue[Visit] = asyncio.Queue()
        self._visit: Visit | None = None
        self._numbers = itertools.count(1)
        self._bound: Bound = {"token": TOKEN}
        self._steps: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[None]]] = {
            "connected": self._connected, "client": self._client, "server": self._server, "raw": self._raw,
            "close": self._close, "cut": self._cut, "closed": self._closed, "away": self._away, "do": self._do,
            "told": self._told, "joined": self._joined,
        }  # fmt: skip

    @classmethod
    @asynccontextmanager
    async def open(cls, driver: Driver, encoding: str) -> AsyncIterator[_Run]:
        """Opens the server that the client is sent to."""
        run = cls(driver, encoding)
        subprotocols = [Subprotocol(SUBPROTOCOLS[encoding])]
        async with serve(
            run._visited, "127.0.0.1", 0, subprotocols=subprotocols, compression=None, ping_interval=None,
            max_size=None, close_timeout=1,
        ) as server:  # fmt: skip
            host, port = next(iter(server.sockets)).getsockname()[:2]
            run._bound["url"] = f"ws://{host}:{port}/ws"
            yield run

    async def through(self, scenario: Scenario) -> None:
        """Every step, then the client's end."""
        opening = {"do": "open", "url": self._bound["url"], "token": TOKEN, "encoding": self._encoding}
        await self._driver.do(opening)
        for step in scenario.steps:
            try:
                await self._step(step)
            except Mismatch as mismatch:
                raise Mismatch(f"line {step.line}: {step}\n     {mismatch}") from None
        await self._driver.close()
        if self._visit is not None:
            self._visit.check()

    async def _step(self, step: Step) -> None:
        for name, run in self._steps.items():
            if name in step.says:
                await run(step.says)
                return
        raise Mismatch(f"no such step; there are {', '.join(self._steps)}")

    async def _visited(self, socket: ServerConnection) -> None:
        visit = Visit(socket, self._encoding, next(self._numbers))
        self._visits.put_nowait(visit)
        await visit.run()

    @property
    def _here(self) -> Visit:
        if self._visit is None:
            raise Mismatch("no connection: the scenario needs a step `connected`")
        return self._visit

    # Steps

    async def _connected(self, step: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(step.get("within", RETURN_SECONDS)):
                self._visit = await self._visits.get()
        except TimeoutError:
            raise Mismatch("the client did not connect") from None
        wanted = {"token": TOKEN, "subprotocol": SUBPROTOCOLS[self._encoding], **step["connected"]}
        match(wanted, self._visit.handshake, self._bound)
        if "refuse" in step:
            await self._visit.close(step["refuse"], step.get("reason", ""))
        else:
            await self._visit.welcome(fill(step.get("welcome", {}), self._bound))

    async def _client(self, step: Mapping[str, Any]) -> None:
        await self._expect(step["client"], lambda: self._here.next(step.get("within", SECONDS)))

    async def _server(self, step: Mapping[str, Any]) -> None:
        for frame in _several(step["server"]):
            await self._here.say(fill(frame, self._bound))

    async def _raw(self, step: Mapping[str, Any]) -> None:
        await self._here.send(step["raw"] if self._encoding == "json" else step["raw"].encode())

    async def _close(self, step: Mapping[str, Any]) -> None:
        await self._here.close(step["close"], step.get("reason", ""))

    async def _cut(self, step: Mapping[str, Any]) -> None:
        self._here.cut()

    async def _closed(self, step: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(step.get("within", SECONDS)):
                await self._here.closed.wait()
        except TimeoutError:
            raise Mismatch("the client did not close") from None
        match(step["closed"], self._here.close_code, self._bound)

    async def _joined(self, step: Mapping[str, Any]) -> None:
        """The client has subscribed to its own logs at these positions."""
        wanted = step["joined"]
        try:
            async with asyncio.timeout(step.get("within", SECONDS)):
                while not wanted.keys() <= self._here.joined.keys():
                    await self._here.joins.get()
        except TimeoutError:
            raise Mismatch(f"the client has not subscribed to its own logs: {sorted(self._here.joined)}") from None
        match(wanted, self._here.joined, self._bound)

    async def _away(self, step: Mapping[str, Any]) -> None:
        try:
            async with asyncio.timeout(step["away"]):
                await self._visits.get()
        except TimeoutError:
            return
        raise Mismatch("the client came back")

    async def _do(self, step: Mapping[str, Any]) -> None:
        await self._driver.do(fill(step["do"], self._bound))

    async def _told(self, step: Mapping[str, Any]) -> None:
        await self._expect(step["told"], lambda: self._driver.told(step.get("within", SECONDS)))

    async def _expect(self, patterns: Any, following: Callable[[], Awaitable[Any]]) -> None:
        await expect_all(_several(patterns), following, self._bound)


async def expect_all(patterns: list[Any], following: Callable[[], Awaitable[Any]], bound: Bound) -> None:
    """Holds what follows against patterns, in whatever order.

    Raises:
        Mismatch: one came that fits none that is left.
    """
    left = list(patterns)
    while left:
        found = await following()
        whys = []
        for pattern in left:
            tried = dict(bound)
            try:
                match(pattern, found, tried)
            except Mismatch as mismatch:
                whys.append(str(mismatch))
            else:
                bound.update(tried)
                left.remove(pattern)
                break
        else:
            raise Mismatch(f"{'; '.join(whys)}; in {found}")


def _several(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
