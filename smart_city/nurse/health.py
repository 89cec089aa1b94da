"""How this instance is, computed from what it can see for itself: its store, its bus and its gateway.

It watches no other service, keeps no history and raises no alarm; it answers whoever asks, and asks Valkey at
most twice a second however many ask at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass
from time import monotonic
from typing import Literal, Protocol

from pydantic import BaseModel, ConfigDict

from foundations.errors import CityError

GatewayState = Literal["starting", "ready", "leaving", "draining"]
Status = Literal["healthy", "degraded", "unhealthy"]

_FRESH_SECONDS = 0.5
"""A probe's answer is good for this long, so that health checks cannot be used to load the store."""
_SLOW_SECONDS = 0.25
"""A store that answers slower than this works, but is degraded."""


class Store(Protocol):
    """What all state lives in."""

    async def ping(self) -> float:
        """Seconds until it answered; raises a `CityError` when it is away."""
        ...

    async def is_full(self) -> bool:
        """Whether it takes no more writes; raises as `ping`."""
        ...


class Bus(Protocol):
    """What publications of other instances arrive by."""

    @property
    def is_hearing(self) -> bool:
        """Whether it lately heard itself."""
        ...


class Gateway(Protocol):
    """What clients are connected to."""

    @property
    def state(self) -> GatewayState:
        """Where in its life it is."""
        ...

    @property
    def connections(self) -> Sized:
        """The clients that are connected now."""
        ...


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ServiceHealth(_Report):
    """One part: how it is, how fast it answered, and what is wrong."""

    status: Status
    response_time_ms: float | None = None
    error: str | None = None


class HealthReport(_Report):
    """The instance as a whole, and its parts by name."""

    status: Status
    services: Mapping[str, ServiceHealth]

    def without_errors(self) -> HealthReport:
        """The same for the public: what is wrong names addresses and is for those who may know."""
        return HealthReport(
            status=self.status,
            services={name: part.model_copy(update={"error": None}) for name, part in self.services.items()},
        )

    @property
    def http_status(self) -> int:
        """503 only when this instance can serve nothing."""
        return 503 if self.status == "unhealthy" else 200


class GatewayReport(_Report):
    """Whether new connections are welcome on this instance."""

    status: Literal["ready", "not_ready"]
    instance_id: str
    dependencies: Mapping[str, Status]
    connections: int

    @property
    def http_status(self) -> int:
        """503 keeps balancers away."""
        return 200 if self.status == "ready" else 503


@dataclass(frozen=True, slots=True)
class _Probe:
    """What the store's last answer was, and when."""

    at: float
    seconds: float = 0.0
    error: str = ""
    is_full: bool = False


class Health:
    """Answers for one instance. Being asked often is cheap; being asked at once asks the store once."""

    def __init__(
        self, *, instance_id: str, store: Store, bus: Bus, gateway: Gateway,
        clock: Callable[[], float] = monotonic,
    ) -> None:  # fmt: skip
        self._instance_id = instance_id
        self._store = store
        self._bus = bus
        self._gateway = gateway
        self._clock = clock
        self._last: _Probe | None = None
        self._probing = asyncio.Lock()

    async def report(self) -> HealthReport:
        """The health table: degraded while a part is away, unhealthy while nothing can be served."""
        probe = await self._probe()
        services = self._parts(probe)
        if self._gateway.state != "ready":
            status: Status = "unhealthy"
        elif all(part.status == "healthy" for part in services.values()):
            status = "healthy"
        else:
            status = "degraded"
        return HealthReport(status=status, services=services)

    async def gateway(self) -> GatewayReport:
        """Ready while degraded; not while starting, draining, or deaf although the store answers."""
        probe = await self._probe()
        deaf = not probe.error and not self._bus.is_hearing
        ready = self._gateway.state == "ready" and not deaf
        return GatewayReport(
            status="ready" if ready else "not_ready",
            instance_id=self._instance_id,
            dependencies={name: part.status for name, part in self._parts(probe).items()},
            connections=len(self._gateway.connections),
        )

    def _parts(self, probe: _Probe) -> dict[str, ServiceHealth]:
        """Traffic Cop lives on what it remembers while the store is away, Post Office on what it holds."""
        if probe.error:
            away = ServiceHealth(status="degraded", error="valkey is away")
            valkey = ServiceHealth(status="unhealthy", error=f"disconnected: {probe.error}")
            return {"valkey": valkey, "traffic_cop": away, "post_office": away}
        hampered = probe.is_full or probe.seconds > _SLOW_SECONDS
        valkey = ServiceHealth(
            status="degraded" if hampered else "healthy", response_time_ms=round(probe.seconds * 1000, 2),
            error="full: it has reached its maxmemory and takes no more writes" if probe.is_full else None,
        )  # fmt: skip
        post_office = ServiceHealth(status="healthy")
        if not self._bus.is_hearing:
            post_office = ServiceHealth(status="degraded", error="the bus is not heard")
        return {
            "valkey": valkey, "traffic_cop": ServiceHealth(status="healthy"), "post_office": post_office,
        }  # fmt: skip

    async def _probe(self) -> _Probe:
        async with self._probing:
            if self._last is None or self._clock() - self._last.at > _FRESH_SECONDS:
                self._last = await self._ask()
            return self._last

    async def _ask(self) -> _Probe:
        try:
            seconds, is_full = await self._store.ping(), await self._store.is_full()
        except CityError as error:
            return _Probe(self._clock(), error=error.message)
        return _Probe(self._clock(), seconds=seconds, is_full=is_full)
