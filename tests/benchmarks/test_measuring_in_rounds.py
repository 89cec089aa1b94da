"""A benchmark's whole way: subjects in turn, ratios of rounds, verdicts and the page, and figures that are true."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.case import Case, Figure, Figures, Target, Trial
from benchmarks.catalogue import CASES
from benchmarks.fan_out import Lost, exponent, paced, subscribed
from benchmarks.generator import Load
from benchmarks.limit import Limit
from benchmarks.measure import cpu_ns
from benchmarks.pairs import Course, Spread, ratios, run, spread
from benchmarks.plots import draw
from benchmarks.report import table
from benchmarks.verdicts import verdicts

TIMES = "\N{MULTIPLICATION SIGN}"
COST = (Figure("cost", "cost, µs"),)


def a_course(name: str, *costs: float | None) -> Course:
    return Course(name, rounds=[None if cost is None else {"cost": cost} for cost in costs])


def a_case(*targets: Target, subjects: Sequence[str] = ("limit", "gathered")) -> Case:
    async def nothing(trial: Trial) -> Figures:
        return {}

    return Case(name="a", title="A", about="", subjects=subjects, figures=COST, targets=targets, run=nothing)


def test_a_ratio_is_of_one_round_and_the_middle_one_is_told() -> None:
    ours, theirs = a_course("a", 2.0, 30.0, 9.0, 4.0), a_course("b", 1.0, 10.0, 3.0, None)
    assert ratios(ours, theirs, "cost") == Spread(3.0, 2.0, 3.0)
    assert spread(theirs, "cost") == Spread(3.0, 1.0, 10.0)
    assert ratios(ours, a_course("c", None, None, None, None), "cost") is None


@pytest.mark.parametrize(
    ("target", "reached", "words"),
    [
        (Target("cost", at_most=4.0), True, "reached"),
        (Target("cost", at_most=2.0), False, f"missed: 2.00 {TIMES} the bound"),
        (Target("cost", at_least=5.0), False, f"missed: 0.80 {TIMES} the bound"),
        (Target("cost", at_most=1.5, against="gathered"), False, f"missed: 1.33 {TIMES} the bound"),
        (Target("cost", at_most=1.5, against="nobody"), None, "not measured"),
    ],
)
def test_a_verdict_says_by_how_much_a_target_is_missed(target: Target, reached: bool | None, words: str) -> None:
    courses = {"limit": a_course("limit", 4.0), "gathered": a_course("gathered", 2.0)}
    (verdict,) = verdicts(a_case(target), courses)
    assert (verdict.reached, verdict.words) == (reached, words)


def test_who_fails_in_a_round_has_reached_nothing() -> None:
    ours = a_course("limit", 1.0, None)
    ours.failures.append("one delivery of two")
    (verdict,) = verdicts(a_case(Target("cost", at_most=4.0)), {"limit": ours})
    assert (verdict.reached, verdict.words) == (False, "missed: it failed in 1 of 2 rounds")


def test_growth_is_told_as_the_exponent_of_the_size() -> None:
    assert exponent({10: 7.0, 100: 70.0, 1000: 700.0}) == pytest.approx(1.0)
    assert exponent({10: 7.0, 100: 7.0, 1000: 7.0}) == pytest.approx(0.0)


def test_cpu_time_is_what_the_process_itself_knows() -> None:
    ours, own = cpu_ns([os.getpid()]), time.process_time_ns()
    while time.process_time_ns() - own < 50_000_000:
        pass
    spent = time.process_time_ns() - own
    assert cpu_ns([os.getpid()]) - ours == pytest.approx(spent, rel=0.2)


def test_cpu_time_of_threads_that_have_ended_is_counted() -> None:
    def work() -> None:
        while time.thread_time_ns() < 50_000_000:
            pass

    before = cpu_ns([os.getpid()])
    worker = threading.Thread(target=work)
    worker.start()
    worker.join()
    assert cpu_ns([os.getpid()]) - before >= 50_000_000


def test_the_time_of_a_process_that_is_gone_is_not_nothing() -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    with pytest.raises(OSError, match="gone"):
        cpu_ns([gone.pid])


@pytest.mark.needs("cc")
async def test_who_keeps_its_publisher_waiting_pays_for_it_in_latency() -> None:
    stamps: list[tuple[int, int]] = []

    class Slow(Limit):
        async def publish(self, channel: str, payload: bytes) -> None:
            stamps.append((json.loads(payload)["t"], time.monotonic_ns()))
            await asyncio.sleep(0.05)
            await super().publish(channel, payload)

    async with Load() as load, Slow() as subject:
        trial = Trial(subject=subject, load=load, quick=True)
        async with subscribed(trial, "c0", 1):
            figures = await paced(trial, "c0", 1, rate=100, seconds=0.1)
    due = [stamp - stamps[0][0] for stamp, _ in stamps]
    assert due == [number * 10_000_000 for number in range(10)]
    assert figures["p99_ms"] >= 10 * 50 - 9 * 10


@pytest.mark.needs("cc")
async def test_subjects_take_turns_and_who_fails_or_lacks_is_told_while_others_go_on() -> None:
    order: list[str] = []
    counted = itertools.count(1)

    async def measure(trial: Trial) -> Figures:
        order.append(trial.subject.name)
        if trial.subject.name.endswith("gathered"):
            raise Lost("one delivery of two")
        return {"cost": float(next(counted))}

    case = Case(
        name="a", title="A", about="", subjects=("limit", "gathered", "nobody"), figures=COST, run=measure,
        targets=[Target("cost", at_most=1.0, against="gathered")],
    )  # fmt: skip
    courses = await run(case, case.subjects, 3, quick=True, tell=lambda _: None)
    first, second = "C limit", "C limit, gathered"
    assert order == [first, second, second, first, first, second]
    assert courses["limit"].rounds == [{"cost": 1.0}, {"cost": 2.0}, {"cost": 3.0}]
    assert courses["gathered"].rounds == [None] * 3
    said = table(case, courses)
    assert "**nobody is missing**: the harness has no subject of this name" in said
    assert "it failed: Lost: one delivery of two" in said
    assert "not measured" in said


@pytest.mark.needs("cc")
async def test_nobody_is_measured_where_the_case_is_about_one_who_is_missing() -> None:
    courses = await run(a_case(subjects=("nobody", "limit")), ("nobody", "limit"), 3, quick=True, tell=lambda _: None)
    assert "no subject" in courses["nobody"].missing
    assert [course.rounds for course in courses.values()] == [[], []]


@pytest.mark.needs("cc")
def test_one_command_measures_and_writes_down(tmp_path: Path) -> None:
    asked = ["--quick", "--pairs", "1", "--cases", "fan_out_paced", "--subjects", "limit", "--into", str(tmp_path)]
    assert main(asked) == 0
    (measured,) = json.loads((tmp_path / "fan_out_paced.json").read_text())["subjects"]["limit"]["rounds"]
    assert measured["bytes"] == 204  # what was published, and the head of its frame
    assert 0 < measured["cpu_us"] < 1000
    assert 0 < measured["p50_ms"] <= measured["p99_ms"]
    page = (tmp_path / "README.md").read_text()
    assert "## Fan-out, at a pace" in page
    assert "Quick: smaller" in page  # so that nobody takes its verdicts for the report's


def test_only_what_has_something_to_be_compared_with_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="no matplotlib: scripts/environment bench")
    ours, theirs = a_course("limit", 2.0, 2000.0), a_course("gathered", 1.0, 3.0)
    assert draw(tmp_path, a_case(), {"limit": ours, "gathered": theirs})
    drawn = (tmp_path / "a.svg").read_text()
    assert all(words in drawn for words in ("<!-- limit -->", "<!-- gathered -->", "<!-- cost, µs, less is better -->"))
    assert not draw(tmp_path, a_case(), {"limit": ours})
    assert not (tmp_path / "a.svg").exists()  # an older one would tell of another run


def test_help_names_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    told = capsys.readouterr().out
    assert [case.name for case in CASES if case.name not in told] == []
    assert "examples:" in told
