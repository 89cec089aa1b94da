"""Reading a page of a log: as dear in a log of a hundred thousand publications as in one of ten."""

from __future__ import annotations

import json
import statistics

from benchmarks.callers import call, drive, request
from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import city
from benchmarks.city import City
from benchmarks.keepalive import Answered
from benchmarks.spending import Spending

LOGS = {10: "guide", 1_000: "pillar:c0", 100_000: "pillar:c1"}
PAGE = 10
GROWN = list(LOGS)[1:]
CALLS = 100
AT_ONCE = 1_000
ROUNDS = 8
"""Beside a first one that does not count: it warms up."""
PUBLICATION = b'"message_id"'


async def run(trial: Trial) -> Figures:
    """The page in the middle of each log, in turn: growth is of pages that were read right after one another."""
    subject = city(trial.subject)
    pages = {size: await _page(subject, channel, size) for size, channel in LOGS.items()}
    rounds: list[dict[str, float]] = []
    for number in range(ROUNDS + 1):
        figures: dict[str, float] = {}
        for size in list(LOGS) if number % 2 else list(reversed(LOGS)):
            figures |= await _read(subject, pages[size], f"page_{size}", CALLS // 5 if trial.quick else CALLS)
        rounds.append(figures)
    warm = rounds[1:]
    found = {name: statistics.median([each[name] for each in warm]) for name in warm[0]}
    first = min(LOGS)
    grown = {
        f"growth_{size}": statistics.median([_spent(each, size) / _spent(each, first) for each in warm])
        for size in GROWN
    }
    return found | grown


def _spent(figures: Figures, size: int) -> float:
    return figures[f"page_{size}"] + figures[f"page_{size}_store"]


async def _read(subject: City, data: bytes, name: str, calls: int) -> dict[str, float]:
    spending = Spending(subject)
    done = await drive(subject.host, subject.port, data, calls=calls, mark=PUBLICATION, marks=PAGE)
    return spending.each(name, calls) | {f"{name}_p50": done.quantile(0.5)}


async def _page(subject: City, channel: str, size: int) -> bytes:
    """Fills a log that is not filled yet, and the request for the page in its middle."""
    token = await subject.service("benchmark", "post_office.publish", "post_office.history")
    headers = {"Authorization": f"Bearer {token}"}  # the operator's is looked up nowhere
    publish = "/soa/post-office/publish_batch"
    newest = 0
    while newest < size:
        items = [{"channel": channel, "message": {"text": "p" * 180}}] * min(AT_ONCE, size - newest)
        _, body = await call(subject.host, subject.port, request(publish, {"items": items}, **headers))
        last = json.loads(body)["results"][-1]
        newest, epoch = last["offset"], last["epoch"]
    path = f"/api/channels/{channel}/history?since={(size - PAGE) // 2}.{epoch}&limit={PAGE}"
    page = request(path, method="GET", **headers)
    _, body = await call(subject.host, subject.port, page)
    if (found := len(json.loads(body)["publications"])) != PAGE:
        raise Answered(f"{channel} gives {found} publications instead of {PAGE}")
    return page


CASE = Case(
    name="history",
    title="Reading a page of history",
    about=(
        f"A page of {PAGE} publications of 200 bytes from the middle of logs of 10, 1 000 and 100 000, over keep-alive "
        "HTTP. Growth is of the CPU of gateway and Valkey together, of pages read one after the other."
    ),
    channels=2,
    subjects=("platform-long-logs",),
    figures=(
        *(Figure(f"growth_{size}", f"a page of the log of {size} over one of the log of 10") for size in GROWN),
        *(Figure(f"page_{size}", f"log of {size}: CPU a page, µs", at=size, curve="gateway") for size in LOGS),
        *(Figure(f"page_{size}_store", f"log of {size}: CPU of Valkey, µs", at=size, curve="Valkey") for size in LOGS),
        *(Figure(f"page_{size}_p50", f"log of {size}: p50, ms") for size in LOGS),
    ),
    most_rounds=3,
    run=run,
    targets=tuple(Target(f"growth_{size}", at_most=1.25) for size in GROWN),
)
