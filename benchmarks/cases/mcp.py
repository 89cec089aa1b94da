"""How long a tool call takes over MCP, in both eras of the protocol."""

from __future__ import annotations

from benchmarks.callers import drive
from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import city
from benchmarks.mcp_requests import handshake, sessionless
from benchmarks.spending import Spending

CALLS = 1_000
WARM_UP = 100
PUBLISHED = b'"status":"published"'
"""In the structured content of an answer that is no error."""


async def run(trial: Trial) -> Figures:
    """One agent that calls, reads the answer and calls again: latency is what it waits for."""
    subject = city(trial.subject)
    arguments = {"channel": "guide", "message": {"text": "p" * 180}, "realm": "benchmark"}
    at = (subject.host, subject.port)
    token = await subject.service("benchmark", "post_office.publish")  # the operator's is looked up nowhere
    figures: dict[str, float] = {}
    for name, data in (
        ("sessionless", sessionless(token, arguments)),
        ("handshake", await handshake(*at, token, arguments)),
    ):
        await drive(*at, data, calls=WARM_UP, mark=PUBLISHED)
        spending = Spending(subject)
        done = await drive(*at, data, calls=CALLS // 5 if trial.quick else CALLS, mark=PUBLISHED)
        figures |= spending.each(name, len(done.latencies))
        figures |= {f"{name}_p50": done.quantile(0.5), f"{name}_p99": done.quantile(0.99)}
    return figures


def _figures(name: str, title: str) -> tuple[Figure, ...]:
    return (
        Figure(f"{name}_p50", f"{title}: p50, ms"),
        Figure(f"{name}_p99", f"{title}: p99, ms"),
        Figure(name, f"{title}: CPU a call, µs"),
        Figure(f"{name}_store", f"{title}: CPU of Valkey, µs"),
    )


CASE = Case(
    name="mcp",
    title="MCP tool calls",
    about=(
        "One caller on a keep-alive connection calls the tool that publishes to a channel, again as soon as it is "
        "answered: without a session (2026-07-28), and within one (2025-11-25), which is looked up for each call."
    ),
    subjects=("platform",),
    figures=(*_figures("sessionless", "sessionless"), *_figures("handshake", "within a session")),
    most_rounds=3,
    run=run,
    targets=(
        Target("sessionless_p50", at_most=1.5),
        Target("sessionless_p99", at_most=4),
        Target("handshake_p50", at_most=1.5),
        Target("handshake_p99", at_most=4),
    ),
)
