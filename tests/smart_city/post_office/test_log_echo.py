"""What an instance appends to a log that it hears itself: the bus brings it to others, and to nobody in vain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from foundations.errors import Unavailable
from foundations.supervision import Tasks
from foundations.valkey import Script, Subscriptions, Valkey
from foundations.valkey.client import Argument, Then
from smart_city.post_office.log import ChannelLog, Stretch
from smart_city.post_office.log.bus import bus_channel, parse
from smart_city.post_office.log.echo import Echo, Heard
from tests.support.logs import ROOMY, an_entry
from tests.support.valkey import ValkeyServer
from tests.support.waiting import eventually, until

pytestmark = pytest.mark.on_both_loops

END = b'{"v":1,"t":"end"}\n'


class Site:
    """One instance's log and bus. ``believed`` is what it takes for heard here, though that may be over."""

    def __init__(self, valkey: Valkey, tasks: Tasks) -> None:
        self.valkey = valkey
        self.bus = Subscriptions(valkey, tasks)
        self.believed: Heard | None = None
        self.announced: list[Stretch] = []
        self.log = ChannelLog(valkey, tasks, ROOMY, self.announced.append, heard_here=self._hearing)
        self.payloads: list[bytes] = []

    def _hearing(self, channel: str) -> Heard | None:
        return self.believed or self.bus.hearing(channel)

    async def listen(self, *channels: str) -> None:
        for channel in channels:
            await self.bus.listen(bus_channel(channel), self.payloads.append)

    async def publish(self, *channels: str) -> None:
        """On all of them in one call of the script, where they live in one slot."""
        done: list[object] = []
        for channel in channels:
            self.log.append(channel, an_entry(), done.append)
        await until(lambda: len(done) == len(channels), "all is logged")

    async def heard(self, channel: str) -> list[object]:
        """Everything that was published on a channel until now, as it arrived over the bus."""
        await self.valkey.command("SPUBLISH", self.valkey.key(bus_channel(channel)), END)
        await until(lambda: END in self.payloads, "the end is heard")
        return [parse(channel, payload) for payload in self.payloads if payload != END]

    async def is_heard_by_one(self, channel: str) -> None:
        """Waits until the store would tell one instance alone."""
        name = self.valkey.key(bus_channel(channel))

        async def is_one() -> bool:
            return bool((await self.valkey.command("PUBSUB", "SHARDNUMSUB", name))[1] == 1)

        await eventually(is_one, "one hears it")


class Forgetful(Valkey):
    """A client that loses every first reply, after the script was carried out."""

    def __init__(self, like: Valkey) -> None:
        super().__init__(like.store, url=like.url, prefix=like.prefix, timeout=like.timeout)
        self.lost = 0

    def begin(
        self, script: Script, keys: Sequence[str], args: Sequence[Argument], then: Then, *, seconds: float
    ) -> bool:
        def lose(reply: object) -> None:
            self.lost += 1
            then(Unavailable(f"the connection ended before this came: {reply!r}"))

        return super().begin(script, keys, args, lose, seconds=seconds)


@pytest.fixture
async def sites(valkey: Valkey, tasks: Tasks) -> AsyncIterator[tuple[Site, Site]]:
    here, there = Site(valkey, tasks), Site(valkey, tasks)
    await here.bus.start()
    await there.bus.start()
    yield here, there
    await here.bus.close()
    await there.bus.close()


async def test_who_hears_a_log_alone_is_not_told_by_the_bus_what_it_appended(sites: tuple[Site, Site]) -> None:
    here, _ = sites
    await here.listen("guide")
    await here.publish("guide")
    assert await here.heard("guide") == []
    assert len(here.announced) == 1


async def test_whoever_else_hears_it_is_told_and_of_no_other_log(sites: tuple[Site, Site]) -> None:
    here, there = sites
    await here.listen("guide", "pillar:content")
    await there.listen("guide")
    await here.publish("guide", "pillar:content")
    assert await there.heard("guide") == here.announced[:1]
    assert await here.heard("guide") == here.announced[:1]


async def test_a_log_that_is_heard_elsewhere_alone_is_published_beside_one_that_is_heard_here(
    sites: tuple[Site, Site],
) -> None:
    here, there = sites
    await here.listen("guide")
    await there.listen("pillar:content")
    await here.publish("guide", "pillar:content")
    assert await there.heard("pillar:content") == here.announced[1:]


async def test_others_learn_of_what_was_appended_while_the_last_one_here_left(sites: tuple[Site, Site]) -> None:
    here, there = sites
    await here.listen("guide")
    await there.listen("guide")
    here.believed = here.bus.hearing(bus_channel("guide"))
    here.bus.leave(bus_channel("guide"))
    await here.is_heard_by_one("guide")
    await here.publish("guide")
    await until(lambda: bool(there.payloads), "it is heard there")
    [heard], [announced] = await there.heard("guide"), here.announced
    assert heard == Stretch("guide", announced.epoch, 1, 1, None, 1)


async def test_a_connection_that_is_gone_hears_nothing_whatever_is_believed(sites: tuple[Site, Site]) -> None:
    here, there = sites
    await here.listen("guide")
    await there.listen("guide")
    here.believed = here.bus.hearing(bus_channel("guide"))
    await here.bus.close()
    await here.is_heard_by_one("guide")
    await here.publish("guide")
    assert (await there.heard("guide"))[:1] == here.announced


async def test_what_was_not_published_is_announced_here_also_when_the_reply_is_lost(
    valkey: Valkey, tasks: Tasks
) -> None:
    forgetful = Forgetful(valkey)
    here = Site(forgetful, tasks)
    await here.bus.start()
    await here.listen("guide")
    await valkey.ping()
    await here.publish("guide")  # teaches the server the script
    await here.publish("guide")
    assert [stretch.last for stretch in here.announced] == [1, 2]
    assert forgetful.lost == 2
    assert await here.heard("guide") == []
    await here.bus.close()


async def test_where_replies_wait_for_replicas_the_bus_tells_everybody(tasks: Tasks) -> None:
    with ValkeyServer() as server:
        valkey = await Valkey.connect(server.url, ack_replicas=1)
        bus = Subscriptions(valkey, tasks)
        await bus.start()
        await bus.listen(bus_channel("guide"), lambda _: None)
        assert bus.hearing(bus_channel("guide")) is not None
        assert Echo(valkey, tasks, bus.hearing).heard(["guide"]) == {}
        await bus.close()
        await valkey.close()


@dataclass
class Known:
    """What is heard on the connection of this canary."""

    canary: bytes
    stands: bool = True


async def test_one_call_asks_for_the_hearers_of_one_connection(valkey: Valkey, tasks: Tasks) -> None:
    known = {"log:{a}": Known(b"one"), "log:{b}": Known(b"two"), "log:{c}": Known(b"one")}
    assert Echo(valkey, tasks, known.get).heard("abcd") == {"a": known["log:{a}"], "c": known["log:{c}"]}
