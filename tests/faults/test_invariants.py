"""An invariant that cannot fail proves nothing: each one is shown a record that breaks it, and one that does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from city_client import Position
from tests.faults.figures import figures
from tests.faults.invariants import INVARIANTS, Allowed, violations
from tests.faults.record import (
    Aftermath,
    Answered,
    Broke,
    Foretold,
    Got,
    Heard,
    Joined,
    Logged,
    Lost,
    Record,
    Sent,
    Told,
)

pytestmark = pytest.mark.quick

GUIDE = "guide"
LOSING = Allowed(loses=True)
TRIMMING = Allowed(trims=True)


def at(offset: int, epoch: str = "e1") -> Position:
    return Position(offset, epoch)


def got(offset: int, *, link: str = "l1", epoch: str = "e1", name: str = "") -> Got:
    key = name or f"k{offset}"
    return Got(channel=GUIDE, link=link, at=offset, position=at(offset, epoch), message_id=f"m-{key}", key=key)


def joined(offset: int, **given: object) -> Joined:
    told = {"channel": GUIDE, "link": "l1", "at": float(offset), "position": at(offset), **given}
    return Joined(**told)  # type: ignore[arg-type]  # the fields that a test names


def published(offset: int, *, epoch: str = "e1", name: str = "") -> Told:
    key = name or f"k{offset}"
    return Told(key=key, status="published", at=offset + 0.5, message_id=f"m-{key}", position=at(offset, epoch))


def logged(offset: int, *, epoch: str = "e1", name: str = "") -> Logged:
    key = name or f"k{offset}"
    return Logged(position=at(offset, epoch), message_id=f"m-{key}", key=key)


def answered(stream: str, message_id: str = "a1", *, retrying: bool = False) -> Answered:
    return Answered(
        asker="alice", question="m-q1", message_id=message_id, stream=stream, log="connection:c1", at=9,
        is_retrying=retrying,
    )  # fmt: skip


def good() -> Record:
    """Four publications, of which a reader got two, lost its link and recovered the rest; and a streamed answer."""
    transcript: list[Heard] = [
        joined(0), got(1), got(2), Lost(link="l1", at=2.5, code=1006),
        joined(2, link="l2", asked=at(2), recovered=True, missed=1), got(3, link="l2"), got(4, link="l2"),
    ]  # fmt: skip
    return Record(
        sent=[Sent(key=f"k{n}", channel=GUIDE, by="p", link="p1", at=n) for n in range(1, 5)]
        + [Sent(key="q1", channel=GUIDE, by="alice", link="c1", at=5)],
        told=[published(n) for n in range(1, 5)] + [Told(key="q1", status="queued", at=6, message_id="m-q1")],
        heard={"reader": transcript},
        answered=[answered("start"), answered("end")],
        logs={GUIDE: [logged(n) for n in range(1, 5)]},
        aftermath=Aftermath(
            connected={"alice": frozenset({"c1"})}, registered={"alice": frozenset({"c1"})},
            instances=frozenset({"one"}), listening={"one": frozenset({GUIDE}), "gone": frozenset()},
            listened=frozenset({GUIDE}), health={"one": "healthy"}, inboxes={GUIDE: {"messages": 0}},
        ),
    )  # fmt: skip


def broken(record: Record, allowed: Allowed = LOSING) -> set[str]:
    return {name for name, found in violations(record, allowed).items() if found}


def test_a_good_record_breaks_nothing() -> None:
    assert broken(good(), Allowed()) == set()


Change = Callable[[Record], object]


def without(index: int) -> Change:
    return lambda record: record.heard["reader"].pop(index)


def instead(index: int, heard: Heard) -> Change:
    return lambda record: record.heard["reader"].__setitem__(index, heard)


def then(*heard: Heard) -> Change:
    return lambda record: record.heard["reader"].extend(heard)


def also(**more: list[object]) -> Change:
    def change(record: Record) -> None:
        for name, values in more.items():
            getattr(record, name).extend(values)

    return change


def afterwards(**changed: object) -> Change:
    return lambda record: setattr(record, "aftermath", replace(record.aftermath, **changed))  # type: ignore[arg-type]


def sent_first(index: int) -> Change:
    return lambda record: record.sent.insert(0, record.sent.pop(index))


def logs(*entries: Logged) -> Change:
    return lambda record: record.logs.update({GUIDE: list(entries)})


BREAKING: dict[str, tuple[str, Change]] = {
    "an acknowledged message is not in the log": ("nothing lost", logs(*(logged(n) for n in range(1, 4)))),
    "a reader never got one": ("nothing lost", without(6)),
    "an offset is left out": ("no holes", without(1)),
    "a publication comes twice on a connection": ("nothing twice", then(got(4, link="l2"))),
    "a message stands in the log under two ids": (
        "nothing twice",
        also(told=[Told(key="k4", status="published", at=9, message_id="other", position=at(5))]),
    ),
    "a key is logged twice": (
        "nothing twice",
        logs(*(logged(n) for n in range(1, 5)), replace(logged(5), key="k4")),
    ),
    "a reader has another place than the log": ("in order", instead(6, replace(got(4), position=at(4, "e2")))),
    "an acknowledgement has another place than the log": (
        "in order",
        lambda record: record.told.__setitem__(3, replace(published(4), position=at(9))),
    ),
    "the log has a hole": ("in order", logs(*(logged(n) for n in (1, 2, 4)))),
    "what one link sent is logged in another order": ("in order", sent_first(2)),
    "a recovery begins elsewhere": (
        "recovered is true",
        instead(4, joined(2, link="l2", asked=at(1), recovered=True, missed=1)),
    ),
    "what was promised as missed never came": (
        "recovered is true",
        instead(4, joined(2, link="l2", asked=at(2), recovered=True, missed=3)),
    ),
    "continuity breaks though nothing is gone": (
        "recovered is true",
        instead(4, joined(2, link="l2", asked=at(2), recovered=False, reason="diverged")),
    ),
    "a question is never answered": ("answered once", lambda record: record.answered.clear()),
    "a question is answered twice": ("answered once", also(answered=[answered("", "a2")])),
    "an answer is followed by an error": ("answered once", also(answered=[answered("error", "a2")])),
    "a stream never ends": ("streams end", also(answered=[answered("start", "a0")])),
    "a stream ends twice": ("streams end", also(answered=[answered("error", "a1", retrying=True)])),
    "a dead connection is still registered": (
        "registry converges",
        afterwards(registered={"alice": frozenset({"c0", "c1"})}),
    ),
    "a living connection is not registered": ("registry converges", afterwards(registered={})),
    "a dead instance is left": (
        "registry converges",
        afterwards(listening={"one": frozenset({GUIDE}), "gone": frozenset({GUIDE})}),
    ),
    "a channel is listened to that nobody wants": (
        "registry converges",
        afterwards(listening={"one": frozenset({GUIDE, "pillar:x"})}),
    ),
    "an instance is not well": ("nothing stuck", afterwards(health={"one": "degraded"})),
    "a lease is left": ("nothing stuck", afterwards(inboxes={GUIDE: {"leases": 1}})),
    "a defect was met": ("nothing stuck", afterwards(defects=("one: a callback failed",))),
    "somebody waits": ("nothing stuck", afterwards(waiting=("reader waits for k5",))),
}  # fmt: skip


@pytest.mark.parametrize("name", BREAKING)
def test_a_record_that_breaks_an_invariant_is_told(name: str) -> None:
    invariant, change = BREAKING[name]
    record = good()
    change(record)
    assert invariant in broken(record, Allowed())


def test_every_invariant_is_broken_by_one_of_them() -> None:
    assert {invariant for invariant, _ in BREAKING.values()} == set(INVARIANTS)


class TestWhatAStoreMayLose:
    """The last two were acknowledged and read, and the store came back without them, in a new epoch."""

    def lost(self) -> Record:
        record = good()
        record.logs[GUIDE] = [logged(1), logged(2), logged(3, epoch="e2", name="k5")]
        record.sent.append(Sent(key="k5", channel=GUIDE, by="p", link="p2", at=7))
        record.told.append(published(3, epoch="e2", name="k5"))
        return record

    def test_is_fine_when_whoever_had_seen_it_is_told(self) -> None:
        record = self.lost()
        then(
            Broke(channel=GUIDE, link="l2", at=8, position=at(2, "e2"), reason="diverged"),
            got(3, link="l2", epoch="e2", name="k5"),
        )(record)
        assert broken(record) == set()
        assert figures(record)["lost"] == 2
        assert figures(record)["breaks"] == 1

    def test_may_be_followed_by_what_a_reader_is_told_it_will_not_get(self) -> None:
        record = self.lost()
        then(Broke(channel=GUIDE, link="l2", at=8, position=at(3, "e2"), reason="diverged"))(record)
        assert broken(record) == set()

    def test_may_come_again_at_another_place(self) -> None:
        """Its sender had no acknowledgement, and sent it again."""
        record = self.lost()
        record.logs[GUIDE].append(logged(4, epoch="e2", name="k4"))
        then(
            Broke(channel=GUIDE, link="l2", at=8, position=at(2, "e2"), reason="diverged"),
            got(3, link="l2", epoch="e2", name="k5"), got(4, link="l2", epoch="e2", name="k4"),
        )(record)  # fmt: skip
        record.told[3] = published(4, epoch="e2", name="k4")
        assert broken(record) == set()

    def test_may_not_pass_in_silence(self) -> None:
        record = self.lost()
        then(got(5, link="l2", epoch="e2", name="k5"))(record)
        assert "nothing lost" in broken(record)

    def test_may_not_be_called_recovered(self) -> None:
        record = self.lost()
        then(
            Lost(link="l2", at=8, code=1006),
            joined(4, link="l3", asked=at(4), recovered=True),
            got(5, link="l3", epoch="e2", name="k5"),
        )(record)
        assert "recovered is true" in broken(record)

    def test_is_nothing_of_the_sort_with_a_store_that_keeps_everything(self) -> None:
        assert "nothing lost" in broken(self.lost(), Allowed())


def test_what_was_trimmed_below_a_reader_may_be_skipped_if_it_is_told() -> None:
    record = good()
    record.logs[GUIDE] = [logged(4)]
    record.heard["reader"][4:] = [
        joined(3, link="l2", asked=at(2), recovered=False, reason="trimmed"),
        got(4, link="l2"),
    ]
    assert broken(record, TRIMMING) == set()
    record.heard["reader"].pop(4)
    assert broken(record, TRIMMING) == {"nothing lost", "no holes"}


def test_answers_on_a_link_that_a_release_forgot_may_be_missing_and_no_others() -> None:
    record = good()
    record.answered = [answered("start")]
    record.forgetful.add("c0")
    assert broken(record, Allowed()) == {"answered once", "streams end"}
    record.forgetful.add("c1")
    assert broken(record, Allowed()) == set()


def test_what_is_provisional_or_held_counts_for_nothing_yet() -> None:
    record = good()
    then(Foretold(channel=GUIDE, link="l2", at=9, message_id="m-k6"))(record)
    record.sent.append(Sent(key="k6", channel=GUIDE, by="p", link="p1", at=9))
    record.told.append(Told(key="k6", status="held", at=9))
    assert broken(record, Allowed()) == set()
    assert figures(record)["held"] == figures(record)["provisional"] == 1


def test_the_figures_of_a_trial() -> None:
    found = figures(good())
    assert {name: found[name] for name in ("acknowledged", "received", "questions", "answers", "recovered")} == {
        "acknowledged": 4, "received": 4, "questions": 1, "answers": 1, "recovered": 1,
    }  # fmt: skip
    assert (found["links lost"], found["breaks"], found["lost"], found["longest silence"]) == (1, 0, 0, 1)
