"""The bus: what is heard, in which order, and that no loss goes unnoticed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from city_inspector.conditions import BLACKHOLE
from city_inspector.faulting_proxy import FaultingProxy
from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Subscriptions, Valkey, subscriptions
from tests.support.certificates import Certificate
from tests.support.valkey import ValkeyServer
from tests.support.waiting import PATIENCE, ROOM, until

pytestmark = pytest.mark.on_both_loops


@pytest.fixture
async def bus(valkey: Valkey, tasks: Tasks) -> AsyncIterator[Subscriptions]:
    started = Subscriptions(valkey, tasks)
    await started.start()
    yield started
    await started.close()


@asynccontextmanager
async def own_server(*, canary_seconds: float = 0.1) -> AsyncIterator[tuple[ValkeyServer, Valkey, Subscriptions]]:
    """A bus on a server that the test may hang, kill and restart."""
    owner = Tasks("own")
    with ValkeyServer(appendonly="no") as server:
        valkey = await Valkey.connect(server.url, timeout=0.5)
        bus = Subscriptions(valkey, owner, canary_seconds=canary_seconds)
        await bus.start()
        try:
            yield server, valkey, bus
        finally:
            await bus.close()
            await owner.close()
            await valkey.close()


class Heard:
    """Collects what arrives on one channel, and counts its confirmations."""

    def __init__(self) -> None:
        self.data: list[bytes] = []
        self.confirmations = 0

    def hear(self, data: bytes) -> None:
        self.data.append(data)

    def confirm(self) -> None:
        self.confirmations += 1


async def publish(valkey: Valkey, channel: str, data: bytes | int = b"x") -> int:
    receivers: int = await valkey.command("SPUBLISH", valkey.key(channel), data)
    return receivers


async def test_a_channel_is_heard_in_the_order_of_publication(valkey: Valkey, bus: Subscriptions) -> None:
    heard = Heard()
    await asyncio.wait_for(bus.listen("a", heard.hear), PATIENCE)
    for number in range(200):
        await publish(valkey, "a", number)
    await until(lambda: len(heard.data) == 200, "all 200 heard")
    assert heard.data == [b"%d" % number for number in range(200)]


async def test_two_channels_keep_the_order_between_them(valkey: Valkey, bus: Subscriptions) -> None:
    order: list[bytes] = []
    await asyncio.wait_for(asyncio.gather(bus.listen("a", order.append), bus.listen("b", order.append)), PATIENCE)
    for number in range(50):
        await publish(valkey, "ab"[number % 2], number)
    await until(lambda: len(order) == 50, "all 50 heard")
    assert order == [b"%d" % number for number in range(50)]


async def test_what_is_published_after_the_confirmation_is_heard(valkey: Valkey, bus: Subscriptions) -> None:
    heard = Heard()
    confirmed = bus.listen("a", heard.hear, heard.confirm)
    assert not confirmed.done()
    await asyncio.wait_for(confirmed, PATIENCE)
    assert heard.confirmations == 1
    assert await publish(valkey, "a") == 1
    await until(lambda: heard.data == [b"x"], "heard")


async def test_thousands_are_subscribed_in_a_few_commands(valkey: Valkey, bus: Subscriptions) -> None:
    before = await calls_of(valkey, "ssubscribe")
    heard = Heard()
    waiting = [bus.listen(f"many:{number}", heard.hear) for number in range(2000)]
    await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
    assert await calls_of(valkey, "ssubscribe") - before <= 4
    assert await publish(valkey, "many:0") == await publish(valkey, "many:1999") == 1
    for number in range(2000):
        bus.leave(f"many:{number}")
    await until_unheard(valkey, "many:1999")


async def calls_of(valkey: Valkey, command: str) -> int:
    stats = await valkey.command("INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def until_unheard(valkey: Valkey, channel: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while await publish(valkey, channel):
            pass


async def test_a_channel_that_was_left_is_heard_no_more(valkey: Valkey, bus: Subscriptions) -> None:
    heard = Heard()
    await asyncio.wait_for(bus.listen("a", heard.hear), PATIENCE)
    bus.leave("a")
    await publish(valkey, "a")
    await until_unheard(valkey, "a")
    assert heard.data == []


async def test_leaving_before_the_confirmation_cancels_the_future(bus: Subscriptions) -> None:
    confirmed = bus.listen("a", Heard().hear)
    bus.leave("a")
    bus.leave("a")
    assert confirmed.cancelled()


async def test_listening_again_waits_for_its_own_confirmation(valkey: Valkey, bus: Subscriptions) -> None:
    """After listen, leave, listen, the first confirmation belongs to a subscription that has ended."""
    first, second = Heard(), Heard()
    bus.listen("a", first.hear, first.confirm)
    await asyncio.sleep(0)  # the turn ends: SSUBSCRIBE is sent
    bus.leave("a")
    await asyncio.sleep(0)  # and SUNSUBSCRIBE
    await asyncio.wait_for(bus.listen("a", second.hear, second.confirm), PATIENCE)
    assert (first.confirmations, second.confirmations) == (0, 1)
    assert await publish(valkey, "a") == 1
    await until(lambda: second.data == [b"x"], "heard by the second")
    assert first.data == []


async def test_a_channel_has_one_listener(bus: Subscriptions) -> None:
    bus.listen("a", Heard().hear)
    with pytest.raises(ValueError, match="a has a listener"):
        bus.listen("a", Heard().hear)


async def test_a_failing_handler_harms_nobody_else(
    valkey: Valkey, bus: Subscriptions, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: bytes = b"") -> None:
        raise RuntimeError("mine")

    heard = Heard()
    await asyncio.wait_for(asyncio.gather(bus.listen("bad", fail, fail), bus.listen("good", heard.hear)), PATIENCE)
    await publish(valkey, "bad")
    await publish(valkey, "good")
    await until(lambda: heard.data == [b"x"], "heard by the good one")
    assert [record.exc_info is not None for record in caplog.records] == [True, True]


async def test_prefixes_keep_two_cities_on_one_store_apart(valkey_server: ValkeyServer, tasks: Tasks) -> None:
    names = [f"city-{secrets.token_hex(4)}:" for _ in range(2)]
    cities = [await Valkey.connect(valkey_server.url, prefix=name) for name in names]
    buses = [Subscriptions(city, tasks) for city in cities]
    heard = [Heard(), Heard()]
    for one, its in zip(buses, heard, strict=True):
        await one.start()
        await asyncio.wait_for(one.listen("a", its.hear), PATIENCE)
    assert await publish(cities[0], "a") == 1
    await until(lambda: heard[0].data == [b"x"], "heard by the first")
    assert heard[1].data == []
    for one, city in zip(buses, cities, strict=True):
        await one.close()
        await city.close()


async def test_a_killed_connection_is_replaced_and_every_channel_confirmed_again() -> None:
    async with own_server() as (_, valkey, bus):
        heard, again = Heard(), Heard()
        bus.heard_again.append(again.confirm)
        channels = [f"c:{number}" for number in range(1000)]
        await asyncio.gather(*(bus.listen(channel, heard.hear, heard.confirm) for channel in channels))
        assert (bus.is_hearing, heard.confirmations, again.confirmations) == (True, 1000, 0)
        assert await valkey.command("CLIENT", "KILL", "TYPE", "pubsub") == 1
        await until(lambda: again.confirmations == 1, "hearing again")
        assert bus.is_hearing
        assert heard.confirmations == 2000
        assert await publish(valkey, "c:999") == 1
        await until(lambda: heard.data == [b"x"], "heard on the new connection")


async def test_the_bus_survives_a_restart_of_valkey() -> None:
    async with own_server() as (server, valkey, bus):
        heard, again = Heard(), Heard()
        bus.heard_again.append(again.confirm)
        await asyncio.wait_for(bus.listen("a", heard.hear, heard.confirm), PATIENCE)
        server.kill()
        await until(lambda: not bus.is_hearing, "noticed")
        late = bus.listen("late", heard.hear)
        server.start()
        await until(lambda: again.confirmations == 1, "hearing again")
        await asyncio.wait_for(late, PATIENCE)
        assert (bus.is_hearing, heard.confirmations) == (True, 2)
        assert await publish(valkey, "a") == await publish(valkey, "late") == 1


async def test_a_hung_valkey_is_noticed_and_heard_again_when_it_goes_on() -> None:
    async with own_server(canary_seconds=0.05) as (server, valkey, bus):
        heard, again = Heard(), Heard()
        bus.heard_again.append(again.confirm)
        await asyncio.wait_for(bus.listen("a", heard.hear), PATIENCE)
        server.hang()
        await until(lambda: not bus.is_hearing, "noticed")
        server.resume()
        await until(lambda: again.confirmations >= 1 and bus.is_hearing, "hearing again")
        await until_hearing(valkey, "a", heard)


async def until_hearing(valkey: Valkey, channel: str, heard: Heard) -> None:
    """A server that went on may still hold the old connection for a moment."""
    await publish(valkey, channel, b"after")
    await until(lambda: b"after" in heard.data, "heard after the return")


async def test_a_deaf_connection_is_noticed_within_three_seconds_and_replaced(tasks: Tasks) -> None:
    """It looks alive, and Valkey answers everybody else: only the canary tells."""
    with ValkeyServer(tcp=True, appendonly="no") as server:
        async with FaultingProxy(server.port) as proxy:
            valkey = await Valkey.connect(f"redis://127.0.0.1:{proxy.port}")
            bus = Subscriptions(valkey, tasks)
            await bus.start()
            heard, again = Heard(), Heard()
            bus.heard_again.append(again.confirm)
            await asyncio.wait_for(bus.listen("a", heard.hear), PATIENCE)
            of_commands, of_the_bus = proxy.connections
            of_the_bus.impose(BLACKHOLE)
            began = asyncio.get_running_loop().time()
            await until(lambda: not bus.is_hearing, "noticed")
            assert asyncio.get_running_loop().time() - began < 3 + ROOM
            assert await publish(valkey, "a") == 1  # as far as Valkey knows, it was heard
            await until(lambda: again.confirmations == 1 and bus.is_hearing, "hearing again")
            await publish(valkey, "a", b"new")
            await until(lambda: heard.data == [b"new"], "heard on the new connection")
            assert of_commands in proxy.connections
            await bus.close()
            await valkey.close()


async def test_a_refused_connection_is_tried_again_until_it_is_let_in() -> None:
    async with own_server() as (_, valkey, bus):
        await valkey.command("CONFIG", "SET", "requirepass", "changed")
        await valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: not bus.is_hearing, "noticed")
        await valkey.command("CONFIG", "SET", "requirepass", "")
        await until(lambda: bus.is_hearing, "hearing again")


async def test_where_no_connection_lasts_they_are_tried_more_and_more_slowly() -> None:
    async with own_server() as (_, valkey, bus):

        async def made() -> int:
            return int((await valkey.command("INFO", "stats"))["total_connections_received"])

        before = await made()
        await valkey.command("ACL", "SETUSER", "default", "resetchannels")  # which ends those who hear one
        await asyncio.sleep(0.5)  # how many there are in a while is what is looked at
        assert await made() - before < 15
        await valkey.command("ACL", "SETUSER", "default", "allchannels")
        await until(lambda: bus.is_hearing, "hearing again")


async def test_a_refused_canary_is_a_lost_connection() -> None:
    async with own_server() as (_, valkey, bus):
        again = Heard()
        bus.heard_again.append(again.confirm)
        await valkey.command("ACL", "SETUSER", "default", "-spublish")
        await until(lambda: again.confirmations > 0, "connected anew")
        await valkey.command("ACL", "SETUSER", "default", "+spublish")
        await until(lambda: bus.is_hearing, "hearing again")


async def test_a_bus_has_the_clients_password(tasks: Tasks) -> None:
    with ValkeyServer(tcp=True, requirepass="right", appendonly="no") as server:
        valkey = await Valkey.connect(f"redis://:right@127.0.0.1:{server.port}")
        bus = Subscriptions(valkey, tasks)
        await bus.start()
        assert bus.is_hearing
        await bus.close()
        await valkey.close()


async def test_client_and_bus_speak_tls_and_check_the_certificate(tasks: Tasks, tmp_path: Path) -> None:
    certificate = Certificate.for_loopback(tmp_path)
    with ValkeyServer(tcp=True, appendonly="no") as server:
        async with FaultingProxy(server.port, tls=certificate.context()) as proxy:
            trusting = f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={certificate.file}"
            valkey = await Valkey.connect(trusting)
            bus = Subscriptions(valkey, tasks)
            await bus.start()
            assert bus.is_hearing
            await bus.close()
            await valkey.close()
            with pytest.raises(Unavailable, match="certificate"):
                await Valkey.connect(f"rediss://127.0.0.1:{proxy.port}")


async def test_a_bus_whose_valkey_is_away_does_not_start(tasks: Tasks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "START_SECONDS", 0.2)
    with ValkeyServer() as server:
        valkey = await Valkey.connect(server.url, timeout=0.5)
        server.kill()
        bus = Subscriptions(valkey, tasks)
        with pytest.raises(Unavailable):
            await bus.start()
        assert len(tasks) == 0
        await valkey.close()


async def test_closing_cancels_what_still_waits(valkey: Valkey, tasks: Tasks) -> None:
    bus = Subscriptions(valkey, tasks)
    await bus.start()
    waiting = bus.listen("a", Heard().hear)
    await bus.close()
    assert waiting.cancelled()
    assert not bus.is_hearing
    assert len(tasks) == 0


async def test_a_channel_is_known_to_be_heard_from_its_confirmation_until_it_is_left(bus: Subscriptions) -> None:
    assert bus.hearing("a") is None
    confirmed = bus.listen("a", lambda _: None)
    assert bus.hearing("a") is None
    await asyncio.wait_for(confirmed, 5)
    first = bus.hearing("a")
    assert first is not None
    assert first.stands
    bus.leave("a")
    assert not first.stands
    await asyncio.wait_for(bus.listen("a", lambda _: None), 5)
    assert not first.stands, "what was published between was not heard"
    assert bus.hearing("a") is not None


async def test_a_channel_is_known_to_be_heard_anew_once_the_next_connection_has_it_confirmed() -> None:
    async with own_server() as (_, valkey, bus):
        heard = Heard()
        await asyncio.wait_for(bus.listen("a", heard.hear, heard.confirm), 5)
        first = bus.hearing("a")
        assert first is not None
        canary = first.canary
        await valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: heard.confirmations == 2, "it is confirmed again")
        second = bus.hearing("a")
        assert second is not None
        assert not first.stands
        assert second.stands
        assert canary != second.canary
