"""Reading a page of a log: as dear in a log of a hundred thousand publications as in one of ten."""

from __future__ import annotations

import json

from benchmarks.callers import call, drive, request
from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.cities import city
from benchmarks.city import City
from benchmarks.keepalive import Answered
from benchmarks.spending import Spending

LOGS = {10: "guide", 1_000: "pillar:c0", 100_000: "pillar:c1"}
PAGE = 10
CALLS = 500
AT_ONCE = 1_000
ROUNDS = 5


async def run(trial: Trial) -> Figures:
    """The page in the middle of each log, the logs in turn, so that what the machine does meanwhile hits them alike."""
    subject = city(trial.subject)
    pages = {size: await _page(subject, channel, size) for size, channel in LOGS.items()}
    calls = CALLS // 5 if trial.quick else CALLS
    spent: dict[int, list[Figures]] = {size: [] for size in LOGS}
    waited: dict[int, list[float]] = {size: [] for size in LOGS}
    for _ in range(ROUNDS):
        for size, data in pages.items():
            spending = Spending(subject)
            done = await drive(subject.host, subject.port, data, calls=calls // ROUNDS)
            spent[size].append(spending.each("page", len(done.latencies)))
            waited[size].append(done.quantile(0.5))
    figures: dict[str, float] = {}
    for size in LOGS:
        figures[f"page_{size}"] = _median([each["page"] for each in spent[size]])
        figures[f"page_{size}_store"] = _median([each["page_store"] for each in spent[size]])
        figures[f"page_{size}_p50"] = _median(waited[size])
    alike = [figures[f"page_{size}"] + figures[f"page_{size}_store"] for size in LOGS]
    return figures | {"growth": max(alike) / min(alike)}


async def _page(subject: City, channel: str, size: int) -> bytes:
    """Fills a log that is not filled yet, and the request for the page in its middle."""
    headers = {"Authorization": f"Bearer {subject.token}"}
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


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


CASE = Case(
    name="history",
    title="Reading a page of history",
    about=(
        f"A page of {PAGE} publications of 200 bytes from the middle of logs of 10, 1 000 and 100 000, over keep-alive "
        "HTTP. Growth is the dearest over the cheapest, gateway and Valkey together."
    ),
    channels=2,
    subjects=("platform-long-logs",),
    figures=(
        Figure("growth", "the dearest page over the cheapest"),
        *(Figure(f"page_{size}", f"log of {size}: CPU a page, µs", at=size, curve="gateway") for size in LOGS),
        *(Figure(f"page_{size}_store", f"log of {size}: CPU of Valkey, µs", at=size, curve="Valkey") for size in LOGS),
        *(Figure(f"page_{size}_p50", f"log of {size}: p50, ms") for size in LOGS),
    ),
    run=run,
    targets=(Target("growth", at_most=1.25),),
)
