"""Connections of several instances against a model of them: connected, resumed, lost, renewed, ended, in any order.

There is one owner at a time, only its user resumes a connection, and only within its window; every answer stands in the
connection's log while there is an owner or a window, and what was not heard is in the user's log at the end, once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from foundations.supervision import Tasks
from foundations.valkey.client import Valkey
from smart_city.post_office.envelopes import new_message_id
from smart_city.post_office.fleet.directory import Registered
from smart_city.post_office.fleet.moving import Moving
from smart_city.post_office.fleet.names import WINDOWS, owner_key, user_key
from smart_city.post_office.fleet.ownership import Ownership
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.fleet.windows import Windows
from smart_city.post_office.log import ChannelLog, Entry, Gone
from smart_city.vocabulary import Position
from tests.support.logs import ROOMY
from tests.support.platform import unique
from tests.support.registries import a_registry
from tests.support.somebody import Somebody
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE

Value = TypeVar("Value")
INSTANCES = 3
LONG = 1000.0
instances = strategies.integers(0, INSTANCES - 1)
users = strategies.integers(0, 1)


@dataclass
class Known:
    """What is to be true of one connection."""

    id: str
    user: str
    fence: int = 1
    owner: int | None = None
    """The instance that has its socket; nobody while it is lost, or its instance is dead."""
    socket: Somebody | None = None
    stale: list[tuple[int, Somebody]] = field(default_factory=list)
    """Sockets that were overtaken, and whose instances may not know yet."""
    log: list[str] = field(default_factory=list)
    heard: int = 0
    has_ended: bool = False


class OwnershipMachine(RuleBasedStateMachine):
    """Three instances over one store, driven step by step."""

    server: ValkeyServer

    @initialize()
    def begin(self) -> None:
        self.runner = asyncio.Runner()
        self.valkey = self.run(Valkey.connect(self.server.url, prefix=f"{new_message_id()}:"))
        self.tasks = Tasks("model")
        self.log = ChannelLog(self.valkey, self.tasks, ROOMY, lambda _: None)
        self.users = [unique("alice"), unique("bob")]
        self.owed: dict[str, list[str]] = {user: [] for user in self.users}
        self.known: list[Known] = []
        self.overtaken: list[Registered] = []
        self.registries = [self.born() for _ in range(INSTANCES)]
        for where, user in enumerate((0, 0, 1)):
            self.connect(user, where)
        for one, where in zip(self.known[:2], (1, 2), strict=True):  # overtaken, and lost again where they went
            self.take(one, where)
        self.let_go(self.known[0], may_return=True)
        self.die(2)
        self.renew(1, hears=False)  # whoever is found overtaken only here, is so in every example
        ownership = Ownership(self.valkey, member="watch", window_seconds=LONG, unclaimed_seconds=LONG)
        self.windows = [
            Windows(ownership, Moving(self.log), self.tasks, claim_seconds=0.05, quiet_seconds=0) for _ in range(2)
        ]

    def born(self) -> Registry:
        registry = a_registry(
            self.valkey, self.tasks, lease_seconds=LONG, cycle_seconds=LONG,
            window_seconds=LONG, most_per_user=10_000,
        )  # fmt: skip
        registry.overtaken.append(self.overtaken.append)
        return registry

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.run(self.tasks.close())
            self.run(self.valkey.close())
            self.runner.close()

    def run(self, step: Awaitable[Value]) -> Value:
        async def settled() -> Value:
            async with asyncio.timeout(PATIENCE):
                found = await step
                while hasattr(self, "tasks") and len(self.tasks):  # noqa: ASYNC110  # tasks come and go by themselves
                    await asyncio.sleep(0)
                return found

        return self.runner.run(settled())

    def one(self, data: strategies.DataObject, fits: Callable[[Known], object]) -> Known | None:
        fitting = [one for one in self.known if fits(one)]
        return data.draw(strategies.sampled_from(fitting)) if fitting else None

    # What clients do

    @rule(user=users, where=instances)
    def connect(self, user: int, where: int) -> None:
        socket = Somebody(self.users[user])
        self.run(self.registries[where].add(socket))
        self.known.append(Known(socket.connection_id, socket.user_id, owner=where, socket=socket))

    @rule(data=strategies.data(), where=instances)
    def resume_what_nobody_can(self, data: strategies.DataObject, where: int) -> None:
        """An ended one, or by somebody else."""
        one = self.one(data, lambda _: True)
        if one is not None:
            user = one.user if one.has_ended else next(user for user in self.users if user != one.user)
            assert self.run(self.registries[where].take_over(one.id, user)) is None

    @rule(data=strategies.data(), where=instances)
    def resume(self, data: strategies.DataObject, where: int) -> None:
        one = self.one(data, lambda one: not one.has_ended)
        if one is not None:
            self.take(one, where)

    def take(self, one: Known, where: int) -> None:
        taken = self.run(self.registries[where].take_over(one.id, one.user))
        assert taken is not None
        assert (taken.fence, taken.heard) == (one.fence + 1, one.heard)
        if one.socket is not None and one.owner is not None:
            one.stale.append((one.owner, one.socket))
        one.socket = Somebody(one.user, one.id, fence=taken.fence, heard_offset=taken.heard)
        one.fence, one.owner = taken.fence, where
        self.run(self.registries[where].add(one.socket))
        for mine in [stale for stale in one.stale if stale[0] == where]:  # as the gateway does at once
            self.leave(*mine, may_return=True)
            one.stale.remove(mine)

    @rule(data=strategies.data(), may_return=strategies.booleans(), hears=strategies.booleans())
    def lose(self, data: strategies.DataObject, may_return: bool, hears: bool) -> None:
        one = self.one(data, lambda one: one.socket)
        if one is not None and one.socket is not None:
            if hears:
                one.heard = one.socket.heard_offset = len(one.log)
            self.let_go(one, may_return=may_return)

    def let_go(self, one: Known, *, may_return: bool) -> None:
        assert one.socket is not None and one.owner is not None
        self.leave(one.owner, one.socket, may_return=may_return)
        one.owner = one.socket = None
        if not may_return:
            self.end(one)

    @rule(data=strategies.data(), may_return=strategies.booleans())
    def lose_what_was_overtaken(self, data: strategies.DataObject, may_return: bool) -> None:
        one = self.one(data, lambda one: one.stale)
        if one is not None:
            self.leave(*one.stale.pop(), may_return=may_return)

    def leave(self, where: int, socket: Somebody, *, may_return: bool) -> None:
        async def left() -> None:
            self.registries[where].remove(socket, may_return=may_return)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

        self.run(left())

    # What instances do

    @rule(where=instances, hears=strategies.booleans())
    def renew(self, where: int, hears: bool) -> None:
        registry = self.registries[where]
        for one in self.known:
            if hears and one.owner == where and one.socket is not None:
                one.heard = one.socket.heard_offset = len(one.log)
        registry.claim_again()
        self.overtaken.clear()
        self.run(registry.renew())
        told = {id(socket) for socket in self.overtaken}
        assert told == {id(socket) for one in self.known for at, socket in one.stale if at == where}
        for one in self.known:
            one.stale = [stale for stale in one.stale if stale[0] != where]

    @rule(where=instances)
    def die(self, where: int) -> None:
        """An instance is gone, and with its lease what stood of it in the directory."""
        self.registries[where] = self.born()
        for one in self.known:
            one.stale = [stale for stale in one.stale if stale[0] != where]
            if one.owner == where:
                one.owner = one.socket = None
                self.run(self.valkey.command("HDEL", user_key(one.user), one.id))

    # What time brings

    @rule(data=strategies.data())
    def a_window_ends(self, data: strategies.DataObject) -> None:
        one = self.one(data, lambda one: one.owner is None and not one.has_ended)
        if one is None:
            return
        self.run(self.valkey.command("HSET", self.valkey.key(owner_key(one.id)), "ends", 1))
        self.run(self.valkey.command("ZADD", self.valkey.key(WINDOWS), 1, one.id))
        self.end(one)

    def end(self, one: Known) -> None:
        one.has_ended = True
        self.look()
        self.owed[one.user] += one.log[one.heard :]

    @rule()
    def look(self) -> None:
        async def both() -> None:
            await asyncio.gather(*(windows.look() for windows in self.windows))

        self.run(both())

    @rule(data=strategies.data())
    def answer(self, data: strategies.DataObject) -> None:
        one = self.one(data, lambda _: True)
        if one is None:
            return
        message_id, log = new_message_id(), f"connection:{one.id}"
        frame = {"type": "chat_response", "message_id": message_id, "log": log}
        entry = Entry(json.dumps(frame).encode(), message_id)
        try:
            self.run(self.log.append_now(log, entry, owner=one.id))
        except Gone:
            assert one.has_ended
            self.run(self.log.append_now(f"user:{one.user}", entry))
            self.owed[one.user].append(message_id)
        else:
            assert not one.has_ended
            one.log.append(message_id)

    # What is always true

    @invariant()
    def users_have_what_they_are_owed_once(self) -> None:
        if hasattr(self, "runner"):
            for user, owed in self.owed.items():
                page = self.run(self.log.read(f"user:{user}", Position(0)))
                assert [json.loads(entry)["message_id"] for entry in page.entries] == owed

    @invariant()
    def there_is_one_owner(self) -> None:
        if not hasattr(self, "runner"):
            return
        for one in self.known:
            fence, user = self.run(self.valkey.command("HMGET", self.valkey.key(owner_key(one.id)), "fence", "user_id"))
            assert (user is None) == one.has_ended
            assert one.has_ended or (int(fence), user.decode()) == (one.fence, one.user)
        for user in self.users:
            assert {one.id for one in self.known if one.owner is not None and one.user == user} <= self.shown(user)

    def shown(self, user: str) -> set[str]:
        return {found["connection_id"] for found in self.run(self.registries[0].connections_of(user))}


def test_connections_behave_as_their_model(valkey_server: ValkeyServer) -> None:
    class Machine(OwnershipMachine):
        server = valkey_server

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=8, stateful_step_count=40, deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )  # fmt: skip
