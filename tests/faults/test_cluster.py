"""The city on a real cluster while slots move and primaries die: what was acknowledged arrives everywhere, in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from city_inspector.faulting_proxy import FaultingProxy
from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey
from foundations.valkey.slots import SLOTS, slot_of
from smart_city.post_office.log.bus import bus_channel
from tests.support.certificates import Certificate
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique
from tests.support.serving import Serving
from tests.support.valkey_cluster import ClusterNode, ValkeyCluster
from tests.support.waiting import eventually, until
from tests.support.wire_client import Frame, WireClient

CHANNELS = ("guide", "pillar:content", "pillar:insights", "pillar:operations", "pillar:business_outcomes")
Fault = Callable[[ValkeyCluster, Platform], Awaitable[None]]


# The client


@asynccontextmanager
async def connected(cluster: ValkeyCluster) -> AsyncIterator[tuple[Valkey, Subscriptions]]:
    owner = Tasks("faults")
    valkey = await Valkey.connect(cluster.url)
    bus = Subscriptions(valkey, owner)
    await bus.start()
    try:
        yield valkey, bus
    finally:
        await bus.close()
        await valkey.close()
        await owner.close()


def keys_of_every_node() -> list[str]:
    """Keys, of which each third of the slots has some."""
    return [f"key-{number}" for number in range(60)]


async def all_written(valkey: Valkey, value: str) -> bool:
    done = await asyncio.gather(
        *(valkey.command("SET", key, value) for key in keys_of_every_node()), return_exceptions=True
    )
    return not any(isinstance(each, Exception) for each in done)


async def test_a_killed_primary_is_replaced_by_its_replica_for_commands_and_for_the_bus() -> None:
    with ValkeyCluster(replicas=1) as cluster:
        async with connected(cluster) as (valkey, bus):
            assert await all_written(valkey, "before")
            again: list[float] = []
            bus.heard_again.append(lambda: again.append(asyncio.get_running_loop().time()))
            heard: dict[str, list[bytes]] = {key: [] for key in keys_of_every_node()}
            await asyncio.gather(*(bus.listen(key, data.append) for key, data in heard.items()))
            primary = await cluster.primary_of(slot_of("key-0"))
            replica = await cluster.replica_of(primary)
            primary.kill()
            with pytest.raises(Unavailable):
                await valkey.command("GET", "key-0")
            assert not bus.is_hearing
            with pytest.raises(Unavailable, match="of 16384 slots"):
                await valkey.ping()
            await eventually(lambda: all_written(valkey, "after"), "every slot is served", 20)
            await until(lambda: bool(again) and bus.is_hearing, "hearing again", 20)
            assert await valkey.ping() > 0
            assert await replica.ask("GET", "key-0") == b"after"
            assert set(await asyncio.gather(*(valkey.command("SPUBLISH", key, b"x") for key in heard))) == {1}
            await until(lambda: all(data == [b"x"] for data in heard.values()), "all heard")


async def test_a_primary_that_hangs_is_replaced_too_and_comes_back_as_a_replica() -> None:
    with ValkeyCluster(replicas=1) as cluster:
        async with connected(cluster) as (valkey, bus):
            primary = await cluster.primary_of(slot_of("key-0"))
            replica = await cluster.replica_of(primary)
            primary.hang()
            with pytest.raises(Unavailable):
                await valkey.command("GET", "key-0")
            await eventually(lambda: all_written(valkey, "after"), "every slot is served", 20)
            await until(lambda: bus.is_hearing, "hearing again", 20)
            primary.resume()
            assert await cluster.replica_of(replica) is primary
            assert await all_written(valkey, "later")
            assert bus.is_hearing


async def test_a_handover_keeps_the_order_of_what_is_asked_meanwhile() -> None:
    with ValkeyCluster(replicas=1) as cluster:
        async with connected(cluster) as (valkey, bus):
            asked: list[asyncio.Task[int]] = []
            primary = await cluster.primary_of(slot_of("list"))
            handing = asyncio.create_task(cluster.hand_over(primary))
            while not handing.done() or len(asked) < 2000:
                asked.append(asyncio.create_task(valkey.command("RPUSH", "list", len(asked))))
                await asyncio.sleep(0.0005)
            await handing
            outcomes = await asyncio.gather(*asked, return_exceptions=True)
            kept = [int(number) for number in await valkey.command("LRANGE", "list", 0, -1)]
            assert kept == sorted(kept)
            done = {number for number, outcome in enumerate(outcomes) if isinstance(outcome, int)}
            assert done <= set(kept)
            await until(lambda: bus.is_hearing, "hearing", 20)


async def test_a_part_that_nobody_serves_is_said_and_waited_for() -> None:
    with ValkeyCluster() as cluster:
        async with connected(cluster) as (valkey, bus):
            node = await cluster.primary_of(slot_of("key-0"))
            node.kill()
            with pytest.raises(Unavailable, match=rf"\d+ of {SLOTS} slots .*127.0.0.1:{node.port}"):
                await valkey.ping()
            with pytest.raises(Unavailable):
                await Valkey.connect(cluster.url)
            node.start()
            await eventually(lambda: all_written(valkey, "after"), "every slot is served", 20)
            await until(lambda: bus.is_hearing, "hearing again", 20)


async def test_every_node_wants_the_password_of_the_url() -> None:
    with ValkeyCluster(requirepass="right", primaries=2) as cluster:
        async with connected_as(cluster, "right") as valkey:
            assert await all_written(valkey, "x")


@asynccontextmanager
async def connected_as(cluster: ValkeyCluster, password: str) -> AsyncIterator[Valkey]:
    valkey = await Valkey.connect(cluster.url.replace("redis://", f"redis://:{password}@"))
    try:
        yield valkey
    finally:
        await valkey.close()


async def test_nodes_are_spoken_to_over_tls_under_the_address_that_they_announce(tmp_path: Path) -> None:
    certificate = Certificate.for_loopback(tmp_path)
    async with FaultingProxy(tls=certificate.context()) as proxy:
        with ValkeyCluster(primaries=1, cluster_announce_port=str(proxy.port)) as cluster:
            proxy.upstreams = [cluster.nodes[0].port]
            url = f"rediss://localhost:{proxy.port}/?cluster=true&ssl_check_hostname=false&ssl_ca_certs={certificate.file}"
            valkey = await Valkey.connect(url)
            try:
                assert await all_written(valkey, "x")
                (home,) = valkey.store.homes()
                assert home.connection_kwargs["port"] == proxy.port
            finally:
                await valkey.close()


# The city


class Reader:
    """Somebody who listens to every channel, and what came, in the order in which it came."""

    def __init__(self, client: WireClient) -> None:
        self.client = client
        self.seen: dict[str, list[Frame]] = {channel: [] for channel in CHANNELS}
        self.resets: list[Frame] = []

    async def read(self) -> None:
        while True:
            frame = await self.client.next(60)
            if frame["type"] == "message" and not frame.get("provisional"):
                self.seen[frame["channel"]].append(frame)
            elif frame["type"] == "reset":
                self.resets.append(frame)


class Publisher:
    """Publishes to every channel in turn, each message again under its key until it is acknowledged."""

    def __init__(self, instance: Instance) -> None:
        self.instance = instance
        self.acknowledged: dict[str, dict[int, str]] = {channel: {} for channel in CHANNELS}
        self.refused = 0
        self.is_done = asyncio.Event()

    async def publish(self, channel: str) -> None:
        number = 0
        while not self.is_done.is_set():
            number += 1
            arguments = {"channel": channel, "message": {"n": number}, "realm": "test", "key": f"{channel}-{number}"}
            async with asyncio.timeout(60):
                while (answer := await self._try(arguments)) is None:
                    self.refused += 1
                    await asyncio.sleep(0.02)  # what is held is told at once: without it the rate is the limit
            offset = int(answer["offset"])
            assert offset not in self.acknowledged[channel]
            self.acknowledged[channel][offset] = str(answer["message_id"])

    async def _try(self, arguments: Frame) -> Frame | None:
        """The answer, or nothing when it shall be asked again."""
        response = await self.instance.call("post_office.publish_to_agent_channel", arguments)
        assert response.status_code in {200, 202, 503}, response.text
        answer: Frame = response.json()
        return answer if response.status_code == 200 and answer["status"] == "published" else None


async def moves(cluster: ValkeyCluster, platform: Platform) -> None:
    """Every channel's slot goes to another node and back, at once and key by key."""
    for channel in CHANNELS:
        slot = slot_of(platform.prefix + bus_channel(channel))
        owner = await cluster.primary_of(slot)
        await cluster.migrate(slot, slot, (await other_primaries(cluster, owner))[0])
        await cluster.migrate_key_by_key(slot, owner)


async def other_primaries(cluster: ValkeyCluster, node: ClusterNode) -> list[ClusterNode]:
    return [other for other in cluster.others(node) if (await other.ask("ROLE"))[0] == b"master"]


async def hands_over(cluster: ValkeyCluster, platform: Platform) -> None:
    await cluster.hand_over(await cluster.primary_of(slot_of(platform.prefix + bus_channel("guide"))))


async def fails_over(cluster: ValkeyCluster, platform: Platform) -> None:
    await cluster.kill_and_fail_over(await cluster.primary_of(slot_of(platform.prefix + bus_channel("guide"))))


@pytest.mark.parametrize("fault", [moves, hands_over, fails_over])
async def test_what_is_acknowledged_reaches_every_subscriber_of_every_instance_once_and_in_order(fault: Fault) -> None:
    with ValkeyCluster(replicas=1) as cluster:
        async with AsyncExitStack() as stack:
            platform = Platform(cluster.nodes[0], stack)
            instances = [await platform.start(valkey_url=cluster.url) for _ in range(2)]
            readers = [await listening(stack, instance) for instance in instances for _ in range(2)]
            reading = [asyncio.create_task(reader.read()) for reader in readers]
            publishers = [Publisher(instance) for instance in instances]
            publishing = [
                asyncio.create_task(publishers[number % 2].publish(channel)) for number, channel in enumerate(CHANNELS)
            ]
            await asyncio.sleep(0.5)  # the load before the fault
            await fault(cluster, platform)
            await asyncio.sleep(0.5)  # and after it
            for publisher in publishers:
                publisher.is_done.set()
            await asyncio.gather(*publishing)
            for reader in readers:
                await until(lambda reader=reader: has_all(reader, publishers), "all arrived", 20)  # type: ignore[misc]
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)
            for reader in readers:
                check(reader)
            await eventually(lambda: healthy(instances), "all is well again", 20)


async def listening(stack: AsyncExitStack, instance: Instance) -> Reader:
    token = await instance.session("alice")
    client = await stack.enter_async_context(instance.connected(token))
    await client.subscribe(*CHANNELS)
    return Reader(client)


def has_all(reader: Reader, publishers: list[Publisher]) -> bool:
    """Whether everything that was acknowledged has come, at its place."""
    for publisher in publishers:
        for channel, acknowledged in publisher.acknowledged.items():
            seen = {frame["offset"]: frame["message_id"] for frame in reader.seen[channel]}
            if not acknowledged.items() <= seen.items():
                return False
    return True


def check(reader: Reader) -> None:
    """Offsets without holes, nothing twice, and nobody was told that something was lost."""
    assert reader.resets == []
    for frames in reader.seen.values():
        offsets = [frame["offset"] for frame in frames]
        assert offsets == list(range(offsets[0], offsets[0] + len(offsets)))
        assert len({frame["message_id"] for frame in frames}) == len(frames)
        numbers = [frame["payload"]["n"] for frame in frames]
        assert numbers == list(range(1, len(numbers) + 1))


async def healthy(instances: list[Instance]) -> bool:
    reports = [(await instance.http.get("/api/health")).json()["status"] for instance in instances]
    return reports == ["healthy"] * len(instances)


async def test_what_a_failover_loses_is_told_to_all_who_had_seen_it() -> None:
    """Replication is asynchronous: what only the dead primary had is gone, and no client is left to believe in it."""
    with ValkeyCluster(replicas=1) as cluster:
        async with AsyncExitStack() as stack:
            platform = Platform(cluster.nodes[0], stack)
            instances = [await platform.start(valkey_url=cluster.url) for _ in range(2)]
            readers = [await listening(stack, instance) for instance in instances]
            reading = [asyncio.create_task(reader.read()) for reader in readers]
            await published(instances[0], 1, 6)
            primary = await cluster.primary_of(slot_of(platform.prefix + bus_channel("guide")))
            replica = await cluster.cut_off_replica(primary)
            await published(instances[0], 6, 11)
            for reader in readers:
                await until(lambda reader=reader: len(reader.seen["guide"]) == 10, "all seen")  # type: ignore[misc]
            await cluster.promote_lagging(primary, replica)
            await eventually(lambda: healthy(instances), "all is well again", 30)
            await published(instances[1], 11, 14)
            for reader in readers:
                await until(lambda reader=reader: len(reader.seen["guide"]) == 13, "the rest came", 20)  # type: ignore[misc]
                (reset,) = reader.resets
                assert (reset["channel"], reset["reason"], reset["offset"]) == ("guide", "diverged", 5)
                assert [frame["payload"]["n"] for frame in reader.seen["guide"]] == list(range(1, 14))
                assert [frame["offset"] for frame in reader.seen["guide"][10:]] == [6, 7, 8]
            for task in reading:
                task.cancel()
            await asyncio.gather(*reading, return_exceptions=True)


async def published(instance: Instance, first: int, end: int) -> None:
    for number in range(first, end):
        arguments = {"channel": "guide", "message": {"n": number}, "realm": "test"}
        assert (await instance.done("post_office.publish_to_agent_channel", arguments))["status"] == "published"


async def test_questions_are_answered_whatever_becomes_of_the_inbox_s_node(tmp_path: Path) -> None:
    """Two workers and the demo agents, in processes of their own."""
    with ValkeyCluster(replicas=1) as cluster:
        settings = {"VALKEY_URL": cluster.url, "OPERATOR_TOKEN": OPERATOR_TOKEN}
        with Serving(tmp_path / "data", "--workers", "2", settings=settings) as serving:
            serving.opened()
            inbox = slot_of("{guide}")
            async with WireClient.connected(f"ws{serving.url.removeprefix('http')}/ws", session_of(serving)) as alice:
                asked = await questions(alice, "before")
                owner = await cluster.primary_of(inbox)
                await cluster.migrate(inbox, inbox, (await other_primaries(cluster, owner))[0])
                asked |= await questions(alice, "after the slot moved")
                await cluster.kill_and_fail_over(await cluster.primary_of(inbox))
                asked |= await questions(alice, "after the node died")
                answered: list[str] = []
                while len(answered) < len(asked):
                    frame = await alice.until(is_final_answer, 30)
                    answered.append(frame["in_reply_to"])
                assert sorted(answered) == sorted(asked)


def session_of(serving: Serving) -> str:
    response = httpx2.post(
        f"{serving.url}/soa/traffic-cop/create_session", json={"user_id": unique("alice")}, timeout=10, trust_env=False,
        headers={"Authorization": f"Bearer {OPERATOR_TOKEN}"},
    )  # fmt: skip
    return str(response.json()["session_token"])


async def questions(client: WireClient, when: str) -> set[str]:
    """Asks five, each until it is queued; their ids."""
    asked = set[str]()
    for number in range(5):
        key = f"{when} {number}"[:64]
        frame = {"channel": "guide", "payload": {"message": key}, "key": key, "id": key}
        async with asyncio.timeout(30):
            while (ack := await client.ask(**frame)).get("status") != "queued":
                if ack["type"] == "ack":  # held: the final word follows
                    ack = await client.until(lambda answer, key=key: answer.get("id") == key, 30)  # type: ignore[misc]
                    break
                assert ack["retryable"], ack
        assert ack["status"] == "queued", ack
        asked.add(ack["message_id"])
    return asked


def is_final_answer(frame: Frame) -> bool:
    is_over = frame.get("stream", "end") in {"end", "error"} and not frame.get("retrying")
    return frame["type"] == "chat_response" and is_over
