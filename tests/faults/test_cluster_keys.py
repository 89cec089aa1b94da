"""Slots that move key by key: scripts find all of their keys or are refused as a whole, and nothing is lost."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
import redis.asyncio

from city_hall.surfaces.mcp.session_store import SessionName, SessionStore
from foundations.errors import CityError, Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from foundations.valkey.slots import slot_of
from smart_city.post_office.answers.open_answers import OpenAnswers, Part
from smart_city.post_office.fleet import registry
from smart_city.post_office.fleet.names import WINDOWS, owner_key, user_key
from smart_city.post_office.inbox.questions import UnheardTake
from smart_city.post_office.keep import Held, Keep
from smart_city.post_office.log import Appended
from smart_city.traffic_cop.grants import DEFAULT_GRANTS
from smart_city.traffic_cop.service_tokens import ServiceTokens
from smart_city.traffic_cop.sessions import Sessions
from smart_city.traffic_cop.tokens import shard_of_user
from smart_city.vocabulary import Position
from tests.support.inboxes import a_question, an_inbox, holders, id_of, text_of
from tests.support.logs import ALog, an_entry, some_limits
from tests.support.offices import Office, an_office, attached
from tests.support.platform import Platform, unique
from tests.support.registries import a_registry
from tests.support.replication import Pair
from tests.support.somebody import Somebody
from tests.support.valkey_cluster import ClusterNode, ValkeyCluster
from tests.support.waiting import eventually, until

Asked = Callable[[], Awaitable[object]]
IMPATIENT = Keep(seconds=0.2, after=0.1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    with ValkeyCluster(primaries=2) as cluster:
        yield cluster


@pytest.fixture
async def valkey(cluster: ValkeyCluster) -> AsyncIterator[Valkey]:
    connected = await Valkey.connect(cluster.url, prefix=f"test-{secrets.token_hex(4)}:", timeout=5)
    yield connected
    await connected.close()


async def other_than(cluster: ValkeyCluster, slot: int) -> ClusterNode:
    return cluster.others(await cluster.primary_of(slot))[0]


@asynccontextmanager
async def moving(cluster: ValkeyCluster, slot: int) -> AsyncIterator[Callable[[int], Awaitable[int]]]:
    """Opens a slot and gives what moves so many of its keys; at the end the rest follow, and it has moved."""
    to = await other_than(cluster, slot)
    source = await cluster.begin_moving(slot, to)
    try:
        yield lambda most: cluster.move_keys(slot, source, to, most=most)
    finally:
        await cluster.move_keys(slot, source, to)
        await cluster.finish_moving(slot, source, to)


# Scripts that reach keys which they do not name, each over a slot that has more than one of them


async def a_take(valkey: Valkey, tasks: Tasks) -> Asked:
    inbox = await an_inbox_with_questions(valkey, tasks)
    return lambda: inbox.take("guide", holders("one|a", "one|b"))


async def a_settlement(valkey: Valkey, tasks: Tasks) -> Asked:
    inbox = await an_inbox_with_questions(valkey, tasks)
    _, delivery = (await inbox.take("guide", holders("one|a"))).deliveries[0]
    return lambda: inbox.deliveries.extend(id_of(delivery))


async def a_reclaiming(valkey: Valkey, tasks: Tasks) -> Asked:
    inbox = await an_inbox_with_questions(valkey, tasks)
    await inbox.take("guide", holders("one|a", "one|a", "one|a"))
    return lambda: inbox.deliveries.hand_back("guide", "one|a")


async def a_look_at_an_inbox(valkey: Valkey, tasks: Tasks) -> Asked:
    inbox = await an_inbox_with_questions(valkey, tasks)
    return lambda: inbox.status("guide")


async def a_look_for_what_is_due(valkey: Valkey, tasks: Tasks) -> Asked:
    inbox = await an_inbox_with_questions(valkey, tasks)
    return lambda: inbox.due()


async def a_part_of_an_answer(valkey: Valkey, tasks: Tasks) -> Asked:
    answers = OpenAnswers(valkey, tasks, most_bytes=1000)
    for hidden in (False, True):
        await answers.open("guide", f"m-{hidden}", b'{"payload":{"message":"', b"", is_hidden=hidden)
    return lambda: answers.append("guide", "m-False", Part(1, b'{"payload":{"message":"', b"more"))


async def a_list_of_sessions(valkey: Valkey, tasks: Tasks) -> Asked:
    sessions = await sessions_of_alice(valkey)
    return lambda: sessions.of_user("alice", 10)


async def a_revocation(valkey: Valkey, tasks: Tasks) -> Asked:
    sessions = await sessions_of_alice(valkey)
    return lambda: sessions.revoke_user("alice")


async def a_revocation_of_a_service_token(valkey: Valkey, tasks: Tasks) -> Asked:
    tokens = ServiceTokens(valkey)
    token = (await tokens.create("content", [], None))[1]
    await tokens.create("insights", [], None)
    return lambda: tokens.revoke(token.token_id)


async def a_session_of_mcp(valkey: Valkey, tasks: Tasks) -> Asked:
    store = SessionStore(valkey, most=1)
    await store.begin(SessionName.new("alice"))
    await store.begin(session := SessionName.new("alice"))
    await store.subscribe(session, "channel://guide", 0, most=5)
    return lambda: store.begin(SessionName.new("alice"))


async def an_inbox_with_questions(valkey: Valkey, tasks: Tasks) -> Any:
    inbox = an_inbox(valkey, tasks, keep=IMPATIENT)
    for number in range(6):
        await inbox.send_now(a_question(user=f"user-{number}", key=f"k{number}"))
    return inbox


async def sessions_of_alice(valkey: Valkey) -> Sessions:
    sessions = Sessions(valkey)
    for _ in range(3):
        await sessions.create("alice", session_type="web", context={}, grants=DEFAULT_GRANTS, lifetime=600)
    return sessions


SCRIPTS: dict[Callable[[Valkey, Tasks], Awaitable[Asked]], str] = {
    a_take: "guide", a_settlement: "guide", a_reclaiming: "guide", a_look_at_an_inbox: "guide",
    a_look_for_what_is_due: "guide",
    a_part_of_an_answer: "guide", a_list_of_sessions: shard_of_user("alice"), a_revocation: shard_of_user("alice"),
    a_revocation_of_a_service_token: "services", a_session_of_mcp: SessionName.new("alice").caller,
}  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: str(script.__name__))
async def test_a_script_is_refused_as_a_whole_until_its_slot_has_moved(
    cluster: ValkeyCluster, valkey: Valkey, tasks: Tasks, script: Callable[[Valkey, Tasks], Awaitable[Asked]]
) -> None:
    ask, slot = await script(valkey, tasks), slot_of(SCRIPTS[script])
    kept = await stored(cluster, slot)
    assert len(kept) > 1
    async with moving(cluster, slot) as move:
        for most in (0, len(kept) // 2, len(kept)):
            await move(most)
            with pytest.raises(CityError) as refused:
                await ask()
            assert isinstance(refused.value, Unavailable | UnheardTake)
            assert await stored(cluster, slot) == kept
    await ask()


READ: dict[bytes, tuple[object, ...]] = {
    b"hash": ("HGETALL",), b"zset": ("ZRANGE", 0, -1, "WITHSCORES"), b"list": ("LRANGE", 0, -1), b"set": ("SMEMBERS",),
    b"string": ("GET",),
}  # fmt: skip


async def stored(cluster: ValkeyCluster, slot: int) -> dict[bytes, str]:
    """All of a slot, on whichever node; what has no order is put into one."""
    found: dict[bytes, str] = {}
    for node in cluster.nodes:
        async with redis.asyncio.Redis(port=node.port, socket_timeout=5, single_connection_client=True) as client:
            for key in await client.cluster("GETKEYSINSLOT", slot, 10_000):
                assert key not in found, "a key is on both nodes"
                ask: Any = client.execute_command
                await ask("ASKING")
                kind = await ask("TYPE", key)
                command, *rest = READ[kind]
                await ask("ASKING")
                read = await ask(command, key, *rest)
                found[key] = repr(sorted(read.items()) if kind == b"hash" else sorted(read) if kind == b"set" else read)
    return found


# Under load


@dataclass
class Load:
    """Publications and questions that come all the time, and an agent that answers."""

    office: Office
    published: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    is_over: bool = False

    async def publish(self) -> None:
        while not self.is_over:
            entry = an_entry()
            await self.office.log.append_now("guide", entry)
            self.published.append(entry.data)

    async def ask(self, user: str) -> None:
        while not self.is_over:
            question = a_question(user=user)
            await self.office.inbox.send_now(question)
            self.asked.append(question.message_id)
            await asyncio.sleep(0.005)

    async def answer(self) -> None:
        agent = attached(self.office)
        while True:
            for delivery_id in sorted(agent.held):
                delivery = next(each for each in agent.given if each.delivery_id == delivery_id)
                try:
                    await self.office.answers.reply(delivery_id, "guide", {"message": text_of(delivery)})
                except Unavailable:
                    continue  # said again in a moment
                except CityError:
                    pass  # stale: it will come again
                agent.held.discard(delivery_id)
            await asyncio.sleep(0.005)


async def test_a_log_and_an_inbox_lose_nothing_while_their_slot_moves_to_and_fro(
    cluster: ValkeyCluster, valkey: Valkey, tasks: Tasks
) -> None:
    slot, users = slot_of("guide"), [unique("user") for _ in range(4)]
    async with an_office(valkey, tasks, lease_seconds=10.0, tries=50) as office:
        office.log = ALog(valkey, tasks, some_limits(count=1_000_000, size=1 << 30))
        load = Load(office)
        senders = [asyncio.create_task(load.publish()) for _ in range(4)]
        senders += [asyncio.create_task(load.ask(user)) for user in users]
        agent = asyncio.create_task(load.answer())
        for _ in range(3):
            before = len(load.published), len(load.asked)
            await until(
                lambda: len(load.published) > before[0] + 50 and len(load.asked) > before[1] + 20,  # noqa: B023
                "the load goes on", seconds=30,
            )  # fmt: skip
            async with moving(cluster, slot) as move:
                await eventually(partial(move_some, move), "all keys have moved", seconds=30)
        load.is_over = True
        await asyncio.gather(*senders)
        assert await logged(office.log, len(load.published)) == sorted(load.published)
        await until_answered(office, users, load.asked)

        async def is_settled() -> bool:
            return (await office.inbox.status("guide")).depth == 0

        await eventually(is_settled, "every question is settled")
        agent.cancel()


async def move_some(move: Callable[[int], Awaitable[int]]) -> bool:
    return not await move(3)


async def logged(log: Any, count: int) -> list[bytes]:
    page = await log.read("guide", Position(0), limit=count + 10, max_bytes=1 << 30)
    assert page.newest.offset == len(page.entries) == count
    return sorted(page.entries)


async def until_answered(office: Office, users: Sequence[str], asked: Sequence[str]) -> None:
    """Until every question has its answer, and none has two."""
    finals: list[str] = []

    async def all_answered() -> bool:
        finals.clear()
        for log in [*(f"connection:c-{user}" for user in users), *(f"user:{user}" for user in users)]:
            finals.extend(frame["in_reply_to"] for frame in await office.logged(log))
        return set(finals) >= set(asked)

    await eventually(all_answered, "all are answered", seconds=60)
    assert sorted(finals) == sorted(asked)


# Replicas that are waited for


async def test_what_was_acknowledged_with_a_replica_survives_a_failover_to_it(tasks: Tasks) -> None:
    """The replica is cut off, and promoted later: what it did not have had not been acknowledged, and comes again."""
    with ValkeyCluster(primaries=1, replicas=1) as cluster:
        primary = cluster.nodes[0]
        await cluster.replica_of(primary)
        valkey = await Valkey.connect(cluster.url, ack_replicas=1)
        log, told = ALog(valkey, tasks), list[object]()
        safe = [(await log.append_now("guide", an_entry())).offset for _ in range(20)]
        replica = await cluster.cut_off_replica(primary)
        entry = an_entry()
        log.append("guide", entry, told.append)
        await until(lambda: told == [Held(entry.message_id)], "it is held")
        assert (await log.read("guide", None)).newest.offset == 21
        await cluster.promote_lagging(primary, replica)
        primary.start()  # as a replica of the other: then there is somebody to wait for
        await until(lambda: len(told) == 2, "it is acknowledged", seconds=30)
        assert isinstance(told[1], Appended)
        assert (told[1].offset, told[1].duplicate) == (21, False)
        page = await log.read("guide", Position(0), limit=100)
        assert len(page.entries) == len(safe) + 1
        assert page.entries[-1] == entry.data
        await valkey.close()


async def test_a_platform_that_is_to_wait_for_a_replica_acknowledges_nothing_without_it() -> None:
    async with AsyncExitStack() as stack:
        pair = stack.enter_context(Pair())
        await pair.until_in_touch()
        city = await Platform(pair.primary, stack).start(ack_replicas=1, held_after_seconds=0.5)
        asked = {"channel": "guide", "message": {"n": 1}, "realm": "content"}
        assert (await city.done("post_office.publish_to_agent_channel", asked))["status"] == "published"
        pair.replica.hang()
        answer = await city.call("post_office.publish_to_agent_channel", asked)
        assert (answer.status_code, answer.json()["status"]) == (202, "held")
        pair.replica.resume()
        history = await city.done("post_office.get_channel_history", {"channel": "guide"})
        assert [each["offset"] for each in history["publications"]] == [1, 2]


# A node that hangs


async def test_who_is_connected_stands_in_the_registry_while_another_node_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(registry, "AT_ONCE", 1)  # each connection is renewed for itself, as hundreds are
    with ValkeyCluster(primaries=2, cluster_node_timeout="60000") as cluster:
        hung, living = cluster.nodes
        async with AsyncExitStack() as stack:
            city = await Platform(hung, stack).start(
                valkey_url=cluster.url, instance_lease_seconds=4, valkey_timeout_seconds=0.5
            )
            users = [unique("alice") for _ in range(8)]
            for user in users:
                await stack.enter_async_context(city.connected(await city.session(user)))
            there = [user for user in users if await cluster.primary_of(slot_of(user_key(user))) is living]
            assert 0 < len(there) < len(users)
            hung.hang()
            ends = asyncio.get_running_loop().time() + 8
            while asyncio.get_running_loop().time() < ends:
                for user in there:
                    assert await living.ask("HLEN", user_key(user)) == 1
            hung.resume()


async def test_who_leaves_is_taken_out_while_another_node_hangs(tasks: Tasks) -> None:
    with ValkeyCluster(primaries=2, cluster_node_timeout="60000") as cluster:
        valkey = await Valkey.connect(cluster.url, timeout=0.3)
        living = await cluster.primary_of(slot_of(WINDOWS))
        (hung,) = cluster.others(living)
        made = [Somebody(unique("alice")) for _ in range(60)]
        stays, stranded, leaves, *_ = await asyncio.gather(
            *(_of_node(cluster, made[i::3], node) for i, node in enumerate((hung, hung, living)))
        )
        there = a_registry(valkey, tasks, lease_seconds=1)
        there.start()
        for one in (stays, stranded, leaves):
            await there.add(one)
        hung.hang()
        there.remove(stranded)
        await asyncio.sleep(1)  # its removal has failed by now, and the renewal of who stays, too
        there.remove(leaves)

        async def left() -> bool:
            return not await living.ask("EXISTS", owner_key(leaves.connection_id))

        async def gone() -> bool:
            return not await hung.ask("EXISTS", owner_key(stranded.connection_id))

        await eventually(left, "who leaves is taken out")
        hung.resume()
        await eventually(gone, "who was stranded is taken out", 10)
        await tasks.close()
        await valkey.close()


async def _of_node(cluster: ValkeyCluster, some: Sequence[Somebody], node: ClusterNode) -> Somebody:
    """One of these of whom all is kept on this node."""
    for one in some:
        keys = user_key(one.user_id), owner_key(one.connection_id)
        if [await cluster.primary_of(slot_of(key)) for key in keys] == [node, node]:
            return one
    raise AssertionError("none of them lies there")


# Subscribers


@pytest.mark.parametrize("how", ["at once", "key by key"])
async def test_a_subscriber_notices_of_a_moving_slot_nothing_but_a_new_epoch(cluster: ValkeyCluster, how: str) -> None:
    slot = slot_of("guide")
    async with AsyncExitStack() as stack:
        platform = Platform(cluster.nodes[0], stack)
        here, there = [await platform.start(valkey_url=cluster.url) for _ in range(2)]
        token = await there.session(unique("alice"))
        async with there.connected(token) as listener:
            start = (await listener.subscribe("guide"))["guide"]
            before = [await publish(here, number) for number in range(5)]
            assert [frame["offset"] for frame in await listener.messages(5)] == [1, 2, 3, 4, 5]
            to = await other_than(cluster, slot)
            await (cluster.migrate(slot, slot, to) if how == "at once" else cluster.migrate_key_by_key(slot, to))
            after = [await publish(here, number) for number in range(5, 10)]
            frames = await listener.messages(5)
            assert [frame["offset"] for frame in frames] == [6, 7, 8, 9, 10]
            assert {frame["epoch"] for frame in frames} == {answer["epoch"] for answer in after}
            assert after[0]["epoch"] != before[0]["epoch"]
            assert not [frame for frame in await listener.left() if frame["type"] == "reset"]
        async with here.connected(token) as again:
            ack = await again.subscribe("guide", offset=start["offset"], epoch=start["epoch"])
            assert (ack["guide"]["recovered"], ack["guide"]["missed"]) == (True, 10)


async def publish(city: Any, number: int) -> dict[str, Any]:
    arguments = {"channel": "guide", "message": {"n": number}, "realm": "content"}
    answer: dict[str, Any] = await city.done("post_office.publish_to_agent_channel", arguments)
    return answer
