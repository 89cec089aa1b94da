"""The inbox against a model of it: whatever is asked, taken, settled and lost, in whatever order.

Nothing is lost, nothing is had by two at once, lanes keep their order, the counts are always right, and the circuit
opens and closes when it should.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from foundations.errors import Overloaded
from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.inbox import Delivery, Inbox, InboxLimits, Question, Queued
from smart_city.post_office.inbox.deliveries import How
from smart_city.post_office.inbox.questions import DeliveryId, Holder, Reclaimed
from tests.support.inboxes import a_question, an_inbox, id_of
from tests.support.valkey import ValkeyServer, plainly
from tests.support.waiting import PATIENCE

Value = TypeVar("Value")

COUNT = 40
SHARE = COUNT // 10
TRIES = 3
FAILURES = 3
PROBES = 2
LONG = 100_000.0
"""Seconds for which nothing ends by itself."""
HOLDERS = ("one|a", "one|b", "two|a")
users = strategies.sampled_from(("alice", "bob", "carol"))
conversations = strategies.sampled_from(("", "x"))
some_holders = strategies.lists(
    strategies.builds(Holder, strategies.sampled_from(HOLDERS), strategies.just(30.0), strategies.integers(1, 3)),
    min_size=1, max_size=4,
)  # fmt: skip


@dataclass
class Circuit:
    """What the circuit should be: it opens when all three people's questions fail, and half of all that end do."""

    state: str = "closed"
    failing: set[str] = field(default_factory=set)
    probing: set[str] = field(default_factory=set)
    successes: int = 0

    def becomes(self, state: str) -> None:
        self.state = state
        self.failing, self.probing, self.successes = set(), set(), 0

    def lets_in(self, user: str) -> bool:
        if self.state != "half_open":
            return self.state == "closed"
        return len(self.probing) < PROBES and user not in self.probing

    def has_succeeded(self) -> None:
        self.successes += 1
        if self.state == "half_open":
            self.becomes("closed")

    def has_failed(self, user: str) -> None:
        if self.state == "open":
            return
        self.failing.add(user)
        failed = len(self.failing)
        if self.state == "half_open" and 2 * failed >= PROBES:
            self.becomes("open")
        if self.state == "closed" and failed >= max(FAILURES, (failed + self.successes) / 2):
            self.becomes("open")


@dataclass
class Model:
    """What an inbox should hold: lanes, the order in which they are ready, and who has the heads."""

    lanes: dict[str, deque[str]] = field(default_factory=dict)
    ready: deque[str] = field(default_factory=deque)
    held: dict[str, tuple[str, DeliveryId]] = field(default_factory=dict)
    """Message id -> holder, delivery."""
    tries: Counter[str] = field(default_factory=Counter)
    serials: Counter[str] = field(default_factory=Counter)
    before: Counter[str] = field(default_factory=Counter)
    """Deliveries in earlier lives."""
    user_of: dict[str, str] = field(default_factory=dict)
    lane_of: dict[str, str] = field(default_factory=dict)
    dead: list[str] = field(default_factory=list)
    circuit: Circuit = field(default_factory=Circuit)

    @property
    def depth(self) -> int:
        return sum(map(len, self.lanes.values()))

    def of(self, user: str) -> int:
        return sum(self.user_of[each] == user for lane in self.lanes.values() for each in lane)

    def add(self, question: Question) -> None:
        self.user_of[question.message_id] = question.user
        self.lane_of[question.message_id] = question.lane
        self.append(question.message_id)

    def append(self, message_id: str) -> None:
        """The message stands at the end of its lane."""
        name = self.lane_of[message_id]
        lane = self.lanes.setdefault(name, deque())
        lane.append(message_id)
        if len(lane) == 1:
            self.ready.append(name)

    def take_out(self, message_id: str) -> None:
        """The message leaves its lane, wherever it stands there."""
        if message_id in self.held:
            return self.remove(message_id)
        name = self.lane_of[message_id]
        self.lanes[name].remove(message_id)
        if not self.lanes[name]:
            self.ready.remove(name)
        return None

    def remove(self, message_id: str) -> None:
        """The message has its end; its lane goes on at the end of the line."""
        del self.held[message_id]
        name = self.lane_of[message_id]
        assert self.lanes[name].popleft() == message_id
        if self.lanes[name]:
            self.ready.append(name)

    def again(self, message_id: str) -> None:
        """The message is offered again, before all others."""
        del self.held[message_id]
        self.ready.appendleft(self.lane_of[message_id])


class InboxMachine(RuleBasedStateMachine):
    """Two instances on one inbox, driven step by step."""

    server: ValkeyServer

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.model = Model()
        self.questions: dict[str, Question] = {}
        self.settled: list[DeliveryId] = []
        self.valkey = self.run(Valkey.connect(self.server.url, prefix=f"{new_message_id()}:"))
        self.tasks = Tasks("model")
        limits = InboxLimits(
            count=COUNT, tries=TRIES, first_wait_seconds=0, longest_wait_seconds=0, circuit_failures=FAILURES,
            circuit_probes=PROBES, circuit_window_seconds=LONG, circuit_cool_seconds=LONG,
        )  # fmt: skip
        self.one = an_inbox(self.valkey, self.tasks, limits)
        self.two = an_inbox(self.valkey, self.tasks, limits, instance_id="two")

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.tasks.close())
            self.run(self.valkey.close())
            self.runner.close()

    def run(self, step: Awaitable[Value]) -> Value:
        async def bounded() -> Value:
            return await asyncio.wait_for(step, PATIENCE)

        return self.runner.run(bounded())

    @rule(user=users, conversation=conversations)
    def ask(self, user: str, conversation: str) -> None:
        question = a_question(user=user, conversation=conversation)
        circuit = self.model.circuit
        is_full = self.model.depth >= COUNT or self.model.of(user) >= SHARE
        try:
            told = self.run(self.one.send_now(question))
        except Overloaded as refused:
            assert is_full or not circuit.lets_in(user)
            assert refused.retry_after
            return
        assert not is_full
        assert circuit.lets_in(user)
        if circuit.state == "half_open":
            circuit.probing.add(user)
        assert told == Queued(question.message_id)
        self.questions[question.message_id] = question
        self.model.add(question)

    @precondition(lambda self: self.model.depth)
    @rule(data=strategies.data())
    def ask_the_same_again(self, data: strategies.DataObject) -> None:
        known = sorted(each for lane in self.model.lanes.values() for each in lane)
        question = self.questions[data.draw(strategies.sampled_from(known))]
        assert self.run(self.two.send_now(question)) == Queued(question.message_id, duplicate=True)

    @rule(takers=some_holders)
    def take(self, takers: list[Holder]) -> None:
        taken = self.run(self.one.take("guide", takers))
        places = [place for turn in range(3) for place, taker in enumerate(takers) if taker.room > turn]
        lanes = [self.model.ready.popleft() for _ in range(min(len(places), len(self.model.ready)))]
        assert [(place, delivery.message_id) for place, delivery in taken.deliveries] == [
            (place, self.model.lanes[lane][0]) for place, lane in zip(places, lanes, strict=False)
        ]
        assert taken.has_more == bool(self.model.ready)
        for place, delivery in taken.deliveries:
            self._is_given(takers[place].name, delivery)

    def _is_given(self, holder: str, delivery: Delivery) -> None:
        assert delivery.message_id not in self.model.held, "nobody else has it"
        self.model.serials[delivery.message_id] += 1
        assert id_of(delivery).serial == self.model.serials[delivery.message_id]
        assert delivery.attempt == id_of(delivery).serial - self.model.before[delivery.message_id]
        assert delivery.body == self.questions[delivery.message_id].body
        self.model.held[delivery.message_id] = (holder, id_of(delivery))

    @precondition(lambda self: self.model.held)
    @rule(data=strategies.data())
    def settle(self, data: strategies.DataObject) -> None:
        delivery = self._one_of(data)
        settled = self.run(self.two.deliveries.done([delivery]))
        assert not settled.open
        assert not settled.stale
        self.model.remove(delivery.message_id)
        self.model.circuit.has_succeeded()
        self.settled.append(delivery)

    @precondition(lambda self: self.model.depth)
    @rule(data=strategies.data())
    def stop(self, data: strategies.DataObject) -> None:
        known = sorted(each for lane in self.model.lanes.values() for each in lane)
        message_id = data.draw(strategies.sampled_from(known))
        user = self.model.user_of[message_id]
        assert self.run(self.two.deliveries.stop("guide", message_id, "mallory")) == "", "only who asked may"
        stopped = self.run(self.two.deliveries.stop("guide", message_id, user))
        assert isinstance(stopped, Reclaimed)
        assert (stopped.ending, stopped.why) == ("dead", "stopped")
        if message_id in self.model.held:
            self.settled.append(stopped.delivery)
            assert self.run(self.one.deliveries.done([stopped.delivery])).stale == [stopped.delivery]
        assert self.run(self.one.deliveries.stop("guide", message_id, user)) == "stopped"
        assert self.run(self.two.deliveries.conclude(stopped))
        self.model.take_out(message_id)

    @precondition(lambda self: self.model.dead)
    @rule(data=strategies.data())
    def requeue(self, data: strategies.DataObject) -> None:
        message_id = data.draw(strategies.sampled_from(sorted(self.model.dead)))
        assert self.run(self.one.letters.requeue("guide", message_id)) == Queued(message_id)
        assert self.run(self.two.letters.requeue("guide", message_id)) == Queued(message_id, duplicate=True)
        self.model.dead.remove(message_id)
        self.model.tries[message_id] = 0
        self.model.before[message_id] = self.model.serials[message_id]
        self.model.append(message_id)

    @precondition(lambda self: self.model.dead)
    @rule(data=strategies.data())
    def drop(self, data: strategies.DataObject) -> None:
        message_id = data.draw(strategies.sampled_from(sorted(self.model.dead)))
        self.run(self.one.letters.drop("guide", message_id))
        self.model.dead.remove(message_id)

    @precondition(lambda self: self.model.circuit.state != "closed")
    @rule()
    def cool_down(self) -> None:
        self.run(self.valkey.command("HSET", self.valkey.key("inbox:{guide}:circuit"), "wait", 1))
        self.model.circuit.becomes("half_open")

    @precondition(lambda self: self.settled)
    @rule(data=strategies.data())
    def settle_what_is_stale(self, data: strategies.DataObject) -> None:
        delivery = data.draw(strategies.sampled_from(self.settled))
        assert self.run(self.one.deliveries.done([delivery])).stale == [delivery]

    @precondition(lambda self: self.model.held)
    @rule(data=strategies.data(), retry=strategies.booleans())
    def fail(self, data: strategies.DataObject, retry: bool) -> None:
        delivery = self._one_of(data)
        how: How = "try" if retry else "dead"
        self._end([self.run(self.one.deliveries.take_back(delivery, "failed: it", how))], [delivery], how)

    @precondition(lambda self: self.model.held)
    @rule(data=strategies.data())
    def lapse(self, data: strategies.DataObject) -> None:
        delivery = self._one_of(data)
        leases = self.valkey.key("inbox:{guide}:leases")
        self.run(self.valkey.command("ZADD", leases, "XX", 1, delivery.message_id))
        self._end(self.run(self.two.deliveries.lapsed("guide")), [delivery], "try", by=self.two)

    @precondition(lambda self: self.model.held)
    @rule(data=strategies.data())
    def lapse_under_a_reaper_that_dies(self, data: strategies.DataObject) -> None:
        delivery = self._one_of(data)
        leases = self.valkey.key("inbox:{guide}:leases")
        for reaper in (self.one, self.two):
            self.run(self.valkey.command("ZADD", leases, "XX", 1, delivery.message_id))
            reclaimed = self.run(reaper.deliveries.lapsed("guide"))
        self._end(reclaimed, [delivery], "try", by=self.two)

    @rule(holder=strategies.sampled_from(HOLDERS), counts=strategies.booleans())
    def leave(self, holder: str, counts: bool) -> None:
        mine = [delivery for name, delivery in self.model.held.values() if name == holder]
        reclaimed = self.run(self.one.deliveries.hand_back("guide", holder, counts=counts))
        self._end(reclaimed, mine, "try" if counts else "free")

    @rule(instance=strategies.sampled_from(("one", "two", "three")))
    def lose_an_instance(self, instance: str) -> None:
        mine = [delivery for name, delivery in self.model.held.values() if name.startswith(f"{instance}|")]
        self._end(self.run(self.two.deliveries.lost("guide", instance)), mine, "try", by=self.two)

    def _end(
        self, reclaimed: Sequence[Reclaimed], expected: list[DeliveryId], how: How, by: Inbox | None = None
    ) -> None:
        """What was reclaimed is what should be, is stale at once, and ends as it should."""
        assert {each.delivery for each in reclaimed} == set(expected)
        for each in reclaimed:
            message_id = each.delivery.message_id
            self.settled.append(each.delivery)
            assert self.run(self.one.deliveries.done([each.delivery])).stale == [each.delivery]
            self.run((by or self.one).deliveries.conclude(each))
            self.model.tries[message_id] += how == "try"
            is_dead = how == "dead" or (how == "try" and self.model.tries[message_id] >= TRIES)
            assert each.ending == ("dead" if is_dead else "free" if how == "free" else "again")
            if how != "free" and (is_dead or each.why not in {"closed", "lost"}):
                self.model.circuit.has_failed(self.model.user_of[message_id])
            if is_dead:
                self.model.dead.append(message_id)
            (self.model.remove if is_dead else self.model.again)(message_id)

    def _one_of(self, data: strategies.DataObject) -> DeliveryId:
        return self.model.held[data.draw(strategies.sampled_from(sorted(self.model.held)))][1]

    @invariant()
    def the_counts_are_right(self) -> None:
        if not hasattr(self, "runner"):
            return
        status = self.run(self.one.status("guide"))
        bodies = sum(len(self.questions[each].body) for lane in self.model.lanes.values() for each in lane)
        assert (status.depth, status.bytes, status.dead_letters) == (
            self.model.depth,
            bodies,
            len(self.model.dead),
        )
        assert status.circuit == self.model.circuit.state
        assert (status.oldest_age_seconds is None) == (len(self.model.held) == self.model.depth)

    @invariant()
    def nothing_is_left_behind(self) -> None:
        """Every key of the inbox belongs to something that is in it."""
        if not hasattr(self, "runner") or self.model.depth:
            return
        left = self.run(self._keys())
        kept = {"meta", "circuit", "failing", "probing", "letters", "died", "requeued", "stopped", "writer"}
        assert left <= kept

    async def _keys(self) -> set[str]:
        prefix = self.valkey.key("inbox:{guide}:")
        async with plainly(self.valkey) as client:
            found = [key async for key in client.scan_iter(match=_literally(prefix) + "*", count=10_000)]
        return {key.decode().removeprefix(prefix).partition(":")[0] for key in found}


def _literally(text: str) -> str:
    return text.replace("[", "\\[")


def test_the_inbox_behaves_as_its_model(valkey_server: ValkeyServer) -> None:
    class Machine(InboxMachine):
        server = valkey_server

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=50, stateful_step_count=50, deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )  # fmt: skip
