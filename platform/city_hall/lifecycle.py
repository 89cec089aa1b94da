"""The life of one instance: opened in the order of need, closed in the reverse, whatever fails in between.

It knows in which order the parts begin and end, and which of them hear what; how each is built is `container`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from dependency_injector import providers

from city_hall import fleet_parts
from city_hall.container import City
from foundations.errors import CityError, Unavailable
from foundations.settings import Settings, connections_possible
from foundations.supervision import Tasks
from foundations.valkey import Valkey
from smart_city.post_office.answers import Answers
from smart_city.post_office.fleet import Fleet
from smart_city.post_office.fleet.registry import Registry
from smart_city.post_office.inbox import Inbox
from smart_city.post_office.log import ChannelLog, Stretch

_log = logging.getLogger("smart_city.lifecycle")

IDENTITIES_BUS = "bus:identities"
STORE_PATIENCE_SECONDS = 15.0


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[City]:
    """The city of one instance, ready to serve; on leaving it hands back what it held.

    Raises:
        Held: another living process has this instance's name.
        WrongStore: the store cannot be trusted with what is kept.
        Unavailable: the store does not answer.
    """
    async with AsyncExitStack() as stack:
        possible = connections_possible(settings.max_connections)
        if possible < settings.max_connections:
            level = logging.WARNING if "max_connections" in settings.model_fields_set else logging.INFO
            _log.log(level, "the limit of open files allows %d connections", possible)
        valkey = await _connected(settings)
        stack.push_async_callback(valkey.close)
        tasks = Tasks("city")
        stack.push_async_callback(tasks.close)
        city = City(
            settings=providers.Object(settings.model_copy(update={"max_connections": possible})),
            valkey=providers.Object(valkey),
            tasks=providers.Object(tasks),
        )
        stack.push_async_callback(city.traces().close, settings.traces_flush_seconds)
        await _begin(city, stack)
        yield city


async def _connected(settings: Settings) -> Valkey:
    """The store; one that is just being started is waited for."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + STORE_PATIENCE_SECONDS
    is_waiting = False
    while True:
        try:
            return await Valkey.connect(
                settings.valkey_url,
                prefix=settings.valkey_key_prefix,
                timeout=settings.valkey_timeout_seconds,
                ack_replicas=settings.ack_replicas,
            )
        except Unavailable as error:
            if loop.time() > give_up:
                raise
            if not is_waiting:
                _log.warning("waiting up to %.0f s for the store: %s", STORE_PATIENCE_SECONDS, error)
            is_waiting = True
            await asyncio.sleep(0.2)


async def _begin(city: City, stack: AsyncExitStack) -> None:
    """Starts the parts in the order of need; each is pushed onto the stack that ends it."""
    lease = city.instance_lease()
    lease.taken.append(lambda _: city.draining().wanted.set())
    await lease.acquire()
    stack.push_async_callback(lease.release)
    city.tasks().start("loop lag", city.loop_lag().watch)
    recorder = city.recorder()
    recorder.start()
    stack.push_async_callback(_quietly, "record traffic", recorder.close)
    subscriptions = city.subscriptions()
    await subscriptions.start()
    stack.push_async_callback(subscriptions.close)
    await _wire(city)
    fleet, registry, log = city.fleet(), city.registry(), city.log()
    await fleet.start()
    stack.push_async_callback(_quietly, "leave the fleet", lambda: _leave(registry, fleet))
    registry.start()
    city.windows().start()
    stack.push_async_callback(_flush, log, city.inbox(), city.answers(), city.settings().stop_seconds)
    dispatcher = city.dispatcher()
    await dispatcher.start()
    stack.push_async_callback(dispatcher.close)
    city.hub().start(city.settings().tail_check_seconds, fleet_parts.private_tail_check_seconds(city.settings()))
    city.credentials().start()
    stack.push_async_callback(city.gateway().drain)


async def _wire(city: City) -> None:
    """Who hears what: needs run one way, so the parts know nothing of one another."""
    gateway, hub, fleet = city.gateway(), city.hub(), city.fleet()
    subscriptions, identities, credentials = city.subscriptions(), city.identities(), city.credentials()
    counters, counted_as = city.counters(), city.channels().counted_as

    def count(stretch: Stretch) -> None:
        appended = stretch.last - stretch.first + 1
        counters.appended += appended
        counters.channel(counted_as(stretch.channel)).count += appended

    def count_questions(channel: str, queued: int) -> None:
        counters.channel(channel).count += queued

    city.announcer().listeners += [count, hub.accept]
    city.announcer().ahead.append(hub.tell_ahead)
    city.inbox().listeners.append(count_questions)
    subscriptions.heard_again += [hub.check_tails, credentials.check]

    def revoked(payload: bytes) -> None:
        identities.forget(payload)
        credentials.hear(payload)

    await subscriptions.listen(IDENTITIES_BUS, revoked)
    registry, takeovers = city.registry(), city.takeovers()
    registry.took_over.append(takeovers.tell)
    registry.overtaken.append(gateway.overtaken)
    takeovers.heard.append(registry.overtake)
    takeovers.heard_again.append(registry.claim_again)
    await takeovers.start()
    fleet.lapsed += [city.succession().lapsed, lambda _: hub.check_tails()]
    fleet.returned += [registry.claim_again, hub.check_tails]
    fleet.responders |= {
        "count": lambda _: gateway.count(),
        "connections_of_channel": lambda about: gateway.connections_on(about["channel"]),
        "connections": lambda about: gateway.census(**about),
        "disconnect": lambda about: gateway.disconnect(
            about["code"], connection_id=about["connection_id"], user_id=about["user_id"]
        ),
    }


async def _leave(registry: Registry, fleet: Fleet) -> None:
    """Leaves nothing behind; otherwise the lease runs out, so that others take it out.

    Raises:
        Unavailable: the store did not take all of it.
    """
    await registry.release()
    await fleet.leave()


async def _flush(log: ChannelLog, inbox: Inbox, answers: Answers, seconds: float) -> None:
    """Waits until everything that was accepted is in the store.

    Raises:
        Unavailable: not in time; what is not there is lost with this process.
    """
    flushing = (log.flush(seconds), inbox.flush(seconds), answers.flush(seconds))
    publications, questions, words = await asyncio.gather(*flushing)
    if publications or questions or words:
        raise Unavailable(
            f"{publications} publications, {questions} questions and {words} words of agents could not be stored "
            f"within {seconds:g} s, and are lost"
        )


async def _quietly(what: str, end: Callable[[], object]) -> None:
    """Ends a part; with the store away, what it would have taken out goes with its lease."""
    try:
        ending = end()
        if asyncio.iscoroutine(ending):
            await ending
    except CityError as error:
        _log.warning("could not %s: %s", what, error)
