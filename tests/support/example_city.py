"""A small service with every shape of operation, and all surfaces bound to it, as City Hall binds them."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from city_hall.surfaces.catalogue import Catalogue
from city_hall.surfaces.connections import bind_connections
from city_hall.surfaces.direct import Direct, Table
from city_hall.surfaces.docs import bind_docs
from city_hall.surfaces.health import bind_health, bind_upgrade_notice
from city_hall.surfaces.http import bind_operations
from city_hall.surfaces.later import bind_mcp
from city_hall.surfaces.mcp.surface import McpSurface
from city_hall.surfaces.metrics import bind_metrics
from city_hall.surfaces.openapi import bind_openapi
from city_hall.surfaces.problems import bind_problems
from foundations.errors import ERRORS, CityError, RateLimited, Unauthenticated, Unavailable
from foundations.invocation import Invocation
from foundations.operations import Caller, Result, operation, operations_of
from foundations.settings import Settings
from foundations.telemetry import Counters, Exposition, Traces, current_traceparent
from smart_city.nurse.health import GatewayState, Health
from smart_city.vocabulary import IdempotencyKey, Identity, JsonObject

OPERATOR, PUBLISHER, NOBODY, ALICE = "op_operator", "svc_publisher", "svc_nobody", "ses_alice"
AWAY = "svc_away"
"""A token that cannot be judged, because the store is away."""

IDENTITIES: Mapping[str, Identity] = {
    OPERATOR: Identity(kind="operator", subject="~operator", credential="operator"),
    PUBLISHER: Identity(
        kind="service", subject="~content", credential="t1",
        scopes=frozenset({"example.use", "post_office.observe"}),
    ),
    NOBODY: Identity(kind="service", subject="~nobody", credential="t2"),
    ALICE: Identity(kind="session", subject="alice", credential="s1"),
}  # fmt: skip


async def identify(token: str, *, address: str = "") -> Identity:
    """Knows four tokens."""
    if token == AWAY:
        raise Unavailable("the store is away", retry_after=1.5)
    try:
        return IDENTITIES[token]
    except KeyError:
        raise Unauthenticated("this token is not known") from None


class Part(BaseModel):
    """A nested value."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    amount: Annotated[int, Field(ge=0)] = 1


class Echo(Result):
    """What was sent, and what was not."""

    payload: JsonObject
    key: str | None = None
    note: str | None = None
    trace: str


class Sum(Result):
    """A figure."""

    total: int
    parts: tuple[Part, ...]


class Who(Result):
    """The caller."""

    subject: str
    kind: str


class Typed(Result):
    """Values that JSON writes as strings."""

    moment: datetime
    number: uuid.UUID
    tags: frozenset[str]


class Done(Result):
    """Nothing to tell."""


@dataclass(slots=True)
class ExampleService:
    """Operations of every shape."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    @operation(scope="example.use", example={"payload": {"text": "hello", "nothing": None}})
    async def echo(
        self, caller: Caller, payload: JsonObject, key: IdempotencyKey | None = None, note: str | None = None
    ) -> Echo:
        """Gives back what it gets.

        It has a second paragraph, too.
        """
        return Echo(payload=payload, key=key, note=note, trace=current_traceparent.get()[3:35])

    @operation(scope="example.use", idempotent=True, example={"parts": [{"name": "a", "amount": 2}]})
    async def add(self, caller: Caller, parts: list[Part], unit: Literal["piece", "box"] = "piece") -> Sum:
        """Adds the amounts of all parts."""
        return Sum(total=sum(part.amount for part in parts), parts=tuple(parts))

    @operation(scope="example.use", sessions=True, read_only=True, example={})
    async def who_am_i(self, caller: Caller) -> Who:
        """Says who calls."""
        return Who(subject=caller.subject, kind=caller.kind)

    @operation(
        scope="example.use", read_only=True,
        example={
            "moment": "2026-11-20T07:00:00Z", "number": "12345678-1234-5678-1234-567812345678", "tags": ["a"],
        },
    )  # fmt: skip
    async def read_types(
        self,
        caller: Caller,
        moment: datetime,
        number: uuid.UUID,
        tags: frozenset[str],
    ) -> Typed:
        """Takes what JSON has no types for."""
        return Typed(moment=moment, number=number, tags=tags)

    @operation(scope="example.admin", destructive=True, example={"code": "conflict"})
    async def refuse(self, caller: Caller, code: str, retry_after: float | None = None) -> Done:
        """Ends with the error of this code; with none of them it does nothing."""
        for error in ERRORS:
            if error.code == code:
                raise error(f"refused with {code}", retry_after=retry_after)
        return Done()

    @operation(scope="example.admin", example={})
    async def break_down(self, caller: Caller) -> Done:
        """Has a defect."""
        raise RuntimeError("secret internals: svc_abcdefghijklmnop")

    @operation(scope="example.admin", deadline=30, example={})
    async def wait(self, caller: Caller) -> Done:
        """Waits until it is released, as a long poll does."""
        self.began.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return Done()


class Credit:
    """A bucket that a test fills."""

    def __init__(self) -> None:
        self.left = 1_000_000

    def spend(self, n: int = 1) -> bool:
        self.left -= n
        return self.left >= 0

    async def refill(self, n: int = 1) -> None:
        raise RateLimited("too many calls", retry_after=0.25)


class OneCredit:
    """The same bucket for everybody."""

    def __init__(self) -> None:
        self.only = Credit()
        self.asked: list[tuple[str, str]] = []

    def credit(self, caller: Caller, limit: str, operation: str = "") -> Credit:
        self.asked.append((caller.subject, limit))
        return self.only


@dataclass(slots=True)
class Surroundings:
    """What health is computed from, set by the test: the store, the bus and the gateway in one."""

    ping_seconds: float = 0.001
    error: CityError | None = None
    is_hearing: bool = True
    state: GatewayState = "ready"
    connections: tuple[str, ...] = ("c1", "c2", "c3")
    pings: int = 0

    async def ping(self) -> float:
        self.pings += 1
        await asyncio.sleep(0)
        if self.error:
            raise self.error
        return self.ping_seconds

    async def is_full(self) -> bool:
        return False

    async def connections_of(self, user_id: str) -> Sequence[Mapping[str, Any]]:
        return [{"connection_id": "c1", "user_id": user_id}]


class ExampleCity:
    """The service with all its surfaces."""

    def __init__(self, **settings: Any) -> None:
        self.settings = Settings.read(port=0, **settings)
        self.service = ExampleService()
        self.surroundings = Surroundings()
        self.limits = OneCredit()
        self.counters = Counters()
        self.catalogue = Catalogue(operations_of(self.service, "example"))
        self.invocation = Invocation(self.limits, self.counters, Traces())
        self.mcp = McpSurface(self.catalogue, identify, self.invocation, self.settings, "1.2.3")
        self.direct: Table = {}
        self.app = self._assembled()

    async def _metrics(self, accept: str) -> tuple[bytes, str]:
        return Exposition(self.counters).render(accept)

    def _assembled(self) -> FastAPI:
        @asynccontextmanager
        async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
            async with self.mcp.run():
                yield

        app = FastAPI(
            title="Smart City",
            version="1.2.3",
            lifespan=lifespan,
            openapi_url=None,
            docs_url=None,
            redoc_url=None,
        )
        around = self.surroundings
        health = Health(instance_id="i-1", store=around, bus=around, gateway=around)
        bind_problems(app)
        bind_openapi(app)
        app.add_middleware(Direct, table=self.direct)
        bind_operations(app, self.catalogue, identify, self.invocation, self.settings, self.direct)
        bind_connections(app, around, identify, self.invocation, self.settings)
        bind_health(app, health, identify, self.settings, "1.2.3")
        bind_metrics(app, self._metrics, identify, self.settings)
        bind_upgrade_notice(app)
        bind_docs(app, self.catalogue, identify, self.settings)
        bind_mcp(app, self.mcp, self.direct)

        async def defect() -> None:
            raise RuntimeError("secret internals")

        app.add_api_route("/defect", defect, methods=["GET"])
        return app
