"""How traffic looks from outside: columns of equal length, one value for each step of time, ready to be plotted."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from foundations.operations import Result

_BY_CODE = "by the code of the error"
Milliseconds = float | None
"""A percentile; none where nothing was timed."""


class Percentiles(Result):
    """How long it took, in milliseconds: half were faster than p50, one of twenty was slower than p95."""

    p50: list[Milliseconds]
    p95: list[Milliseconds]
    p99: list[Milliseconds]


class WholeTime(Result):
    """The whole time in one figure each."""

    count: int = Field(description="requests, or messages")
    refusals: dict[str, int] = Field(description=_BY_CODE)
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    buckets: list[int] = Field(
        description="how many took longer than the bound before and not longer than the one at the same place of "
        "bucket_bounds_ms; one more for all that took longer"
    )


class OperationTraffic(Result):
    """The calls of one operation, over HTTP and MCP."""

    requests: list[int] = Field(description="calls begun in each step")
    refusals: dict[str, list[int]] = Field(description=f"calls that failed in each step, {_BY_CODE}")
    latency_ms: Percentiles
    total: WholeTime


class ChannelTraffic(Result):
    """What went over one channel; frames are timed from their arrival to their acknowledgement."""

    messages: list[int] = Field(description="publications logged and questions queued in each step")
    refusals: dict[str, list[int]] = Field(description=f"frames refused in each step, {_BY_CODE}")
    latency_ms: Percentiles
    total: WholeTime


class TrafficFigures(Result):
    """Requests, messages, refusals and latencies of all instances together, a few seconds old."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: Annotated[str, Field(serialization_alias="from", description="when the first step begins")]
    to: str = Field(description="now; the last step is not over yet")
    resolution_seconds: int = Field(description="how long a step is")
    minutes: list[str] = Field(description="when each step begins; all columns have as many values")
    bucket_bounds_ms: list[float]
    operations: dict[str, OperationTraffic] = Field(
        description="by service.operation; beyond 100 names the rest is other"
    )
    channels: dict[str, ChannelTraffic] = Field(
        description="by channel; private ones together as user:* and connection:*, and as other whatever names no "
        "channel that exists"
    )
