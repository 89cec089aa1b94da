"""``python -m benchmarks.capacity``: writes the part "What it carries" of docs/scaling.md from the measured results.

Everything between its two marks in that page is made here, so that no figure there was typed. What was measured, what
is computed from it and what was simulated is named as such.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.costs import Cost, Costs, NotMeasured, Results, read_costs
from benchmarks.plans import CHAT, CORE, USED_SHARE, Plan, most_instances, plan, plan_on
from benchmarks.storms import Outcome, Storm, simulate

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scaling.md"
BEGIN, END = "<!-- made by benchmarks.capacity: begin -->", "<!-- made by benchmarks.capacity: end -->"
MILLION = 1_000_000
MACHINE_CORES, MACHINE_GIGABYTES = 16, 64


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A table in Markdown."""
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def rounded(value: float) -> str:
    """Two significant digits, thousands apart: more than that no single machine can tell."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞"
    digits = 1 - math.floor(math.log10(abs(value)))
    shown = round(value, digits)
    return f"{shown:,.{max(0, digits)}f}".replace(",", " ")


def costs_part(costs: Costs) -> Iterator[str]:
    """Measured: what each thing costs, and what a core carries of it if it does nothing else."""
    things = {
        "a delivery, one publication at a time to 1 000 subscribers": costs.delivery,
        "a delivery, publications in bursts": costs.delivery_in_bursts,
        "a publication over HTTP, in a call of its own": costs.publication,
        "a publication in a batch of 1 000": costs.publication_in_batches,
        "a publication on a WebSocket, 20 in flight": costs.publication_on_socket,
        "a question into an inbox, 20 in flight": costs.question,
        "a question with its answer, 500 a second": costs.answered_question,
        "a fresh connection": costs.connecting,
        "a resumed connection with its subscriptions": costs.resuming,
        "an idle connection, each minute": costs.idle_second.times(60),
        "the same on a cluster": costs.idle_second_on_cluster.times(60),
    }
    yield "**Measured**, in µs of CPU, of the gateway and of Valkey beside it; a core that does nothing else carries"
    yield "the reciprocal."
    yield ""
    yield from table(
        ("of", "gateway", "Valkey", "a gateway's core, a second", "one Valkey, a second"),
        ((name, rounded(cost.gateway), rounded(cost.store), *_reciprocals(cost)) for name, cost in things.items()),
    )


def _reciprocals(cost: Cost) -> Iterator[str]:
    return (rounded(CORE / each) if each > 0 else "-" for each in (cost.gateway, cost.store))


def memory_part(costs: Costs) -> Iterator[str]:
    """Measured: memory of what stays."""
    yield (
        f"An idle connection with three subscriptions keeps {rounded(costs.idle_bytes.gateway)} bytes in its instance "
        f"and {rounded(costs.idle_bytes.store)} in Valkey, its session {rounded(costs.session_bytes)}. A delivery "
        f"with a payload of 200 bytes is {rounded(costs.delivery_bytes)} bytes on the socket."
    )
    yield ""


def plans_part(costs: Costs) -> Iterator[str]:
    """Computed: how much of everything so many people take."""
    yield (
        f"**Computed** from these, for people who ask a question a minute, hear a publication every "
        f"{round(1 / CHAT.hears)} seconds (each of them heard by {rounded(CHAT.audience)}), and stay for "
        f"{rounded(CHAT.stays_seconds / 60)} minutes, with {USED_SHARE:.0%} of each core planned with:"
    )
    yield ""
    sizes = {
        "a core, and one for Valkey": _fitting(costs, cores=2),
        f"one machine of {MACHINE_CORES} cores": _fitting(costs, cores=MACHINE_CORES),
        "a million": plan(costs, MILLION),
        "ten million": plan(costs, 10 * MILLION),
    }
    yield from table(
        ("on", "connections", "instances (bound by)", "Valkey primaries", "instances' memory", "Valkey's", "network"),
        ((name, *_plan_row(each)) for name, each in sizes.items()),
    )
    fleets = math.ceil(sizes["ten million"].instances / most_instances(costs))
    yield (
        "Valkey's memory is without what channels keep: at most `SMART_CITY_HISTORY_BYTES` each. By the last table "
        f"ten million are {fleets or 1} fleet{'s' if fleets > 1 else ''}."
    )
    yield ""


def _plan_row(each: Plan) -> Sequence[str]:
    return (
        rounded(each.connections), f"{each.instances} ({each.bound_by})", str(each.primaries),
        f"{rounded(each.gateway_bytes / 2**30)} GiB", f"{rounded(each.store_bytes / 2**30)} GiB",
        f"{rounded(each.bits_a_second / 1e9)} Gbit/s",
    )  # fmt: skip


def _fitting(costs: Costs, *, cores: int) -> Plan:
    """The largest plan whose instances and primaries find a core each, on one Valkey or on a cluster."""
    return max((_largest(costs, cores, is_cluster=how) for how in (False, True)), key=lambda found: found.connections)


def _largest(costs: Costs, cores: int, *, is_cluster: bool) -> Plan:
    low, high = 1, 100 * MILLION
    while low < high:
        middle = (low + high + 1) // 2
        found = plan_on(costs, middle, is_cluster=is_cluster)
        fits = found.instances + found.primaries <= cores and (is_cluster or found.primaries == 1)
        low, high = (middle, high) if fits else (low, middle - 1)
    return plan_on(costs, low, is_cluster=is_cluster)


def storms_part(costs: Costs) -> Iterator[str]:
    """Simulated: what no machine here can show."""
    yield "**Simulated** (`benchmarks/storms.py`), with the measured cost of resuming and the protocol's back-off."
    yield f"Where one dies, {1 - USED_SHARE:.0%} of each core is left for those who come back; where all are cut,"
    yield f"{USED_SHARE:.0%}:"
    yield ""
    yield from table(
        ("storm", "half are back after", "99 % after", "longest queue of an instance", "refusals for each client"),
        ((name, *_storm_row(simulate(storm))) for name, storm in storms_of(costs)),
    )


def storms_of(costs: Costs) -> Iterator[tuple[str, Storm]]:
    """The storms that are told of, by what happens."""
    for name, connections in (("a million", MILLION), ("ten million", 10 * MILLION)):
        found = plan(costs, connections)
        a_second, store = CORE / costs.resuming.gateway, found.primaries * CORE / costs.resuming.store
        spare = 1 - USED_SHARE  # the others go on with what they do
        one = Storm(
            clients=math.ceil(connections / found.instances), instances=found.instances - 1, a_second=spare * a_second,
            store_a_second=spare * store,
        )  # fmt: skip
        everybody = Storm(
            clients=connections, instances=found.instances, a_second=USED_SHARE * a_second,
            store_a_second=USED_SHARE * store,
        )  # fmt: skip
        yield f"{name} on {found.instances} instances, one of which dies", one
        yield f"{name} on {found.instances} instances, all sockets are cut at once", everybody


def _storm_row(outcome: Outcome) -> Sequence[str]:
    return (
        f"{rounded(outcome.half_seconds)} s", f"{rounded(outcome.most_seconds)} s", rounded(outcome.queue),
        rounded(outcome.refusals),
    )  # fmt: skip


def limits_part(costs: Costs) -> Iterator[str]:
    """Computed: what is reached first as a city grows."""

    def carried(microseconds: float, what: str) -> str:
        return f"{rounded(USED_SHARE * CORE / microseconds)} {what} a second"

    everybody = f"{carried(costs.delivery.gateway, 'deliveries')} and core, paced"
    rows = (
        ("the fleet: every instance hears of all others each second, on one slot",
         f"{rounded(most_instances(costs))} instances", "several fleets, each with a Valkey of its own"),
        ("one channel's log", carried(costs.publication_in_batches.store, "publications"), "several channels"),
        ("one inbox", carried(costs.question.store, "questions"), "several inboxes"),
        ("one channel that everybody on an instance hears", everybody, "more instances"),
    )  # fmt: skip
    yield "**What is reached first**, computed from the same costs:"
    yield ""
    yield from table(("limit", "reached at", "then"), rows)


def part(results: Results) -> str:
    """What stands between the marks, with them: the whole part, or what is missing for it."""
    parts = (costs_part, memory_part, plans_part, storms_part, limits_part)
    try:
        costs = read_costs(results)
    except NotMeasured as missing:
        lines = [f"Nothing is told here yet: {missing}.", ""]
    else:
        lines = [line for each in parts for line in each(costs)]
    return "\n".join([BEGIN, "", *lines, END])


def written(page: str, part: str) -> str:
    """The page with this part in the place of the one before."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + part + after


def write() -> None:
    """Writes the page anew."""
    PAGE.write_text(written(PAGE.read_text(), part(Results())))


if __name__ == "__main__":
    write()
