"""Messages of 100 clients, each acknowledged: into an agents' inbox, or by whoever acknowledges from memory."""

from __future__ import annotations

from typing import cast

from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.city import City
from benchmarks.generator import answered
from benchmarks.spending import Spending
from benchmarks.subjects import Acknowledging

CLIENTS = 100
WARM_UP = 2_000


async def run(trial: Trial) -> Figures:
    """Each client with one message under way, then with twenty."""
    subject = cast(Acknowledging, trial.subject)
    exchange = await subject.acknowledged(CLIENTS)
    await trial.load.open(subject, exchange, CLIENTS)
    await trial.load.begin()
    asked = (await trial.load.ask(exchange, in_flight=1, total=WARM_UP)).answers
    figures: dict[str, float] = {}
    for name, in_flight, total in (("one", 1, 10_000), ("twenty", 20, 40_000)):
        await trial.load.begin()
        spending = Spending(subject)
        total = total // 10 if trial.quick else total
        seen = answered(await trial.load.ask(exchange, in_flight=in_flight, total=total, seconds=60))
        asked += seen.answers
        figures |= spending.each(name, seen.answers)
        figures[f"{name}_p99"] = seen.answer_latency.p99 / 1e6
    await trial.load.close()
    if isinstance(subject, City):
        await subject.empty(asked)
    return figures


CASE = Case(
    name="inbox",
    title="Messages into an inbox, acknowledged",
    about=(
        "100 clients send questions into an agents' inbox, one after the other and with 20 in flight; each is "
        "acknowledged once it is safe in Valkey. The peers acknowledge from memory and keep nothing. Rate limits are "
        "raised; the inbox is emptied afterwards."
    ),
    subjects=("platform-large-inbox", "socketio", "python-socketio"),
    figures=(
        Figure("one", "one in flight: CPU a message, µs"),
        Figure("one_store", "the same, of the store"),
        Figure("one_p99", "one in flight: p99 of the acknowledgement, ms"),
        Figure("twenty", "20 in flight: CPU a message, µs"),
        Figure("twenty_store", "the same, of the store"),
        Figure("twenty_a_second", "20 in flight: messages a second and core", "more"),
        Figure("twenty_p99", "20 in flight: p99 of the acknowledgement, ms"),
    ),
    run=run,
    targets=(
        Target("one", at_most=1.5, against="socketio"),
        Target("twenty", at_most=0.6, against="socketio"),
        Target("twenty_a_second", at_least=100_000),
    ),
    main="twenty",
)
