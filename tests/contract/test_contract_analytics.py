"""Section 6, ``get_traffic_analytics``: the figures are those of what was done, from all instances, and stay few."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
import redis.asyncio

from tests.contract.raw import text, upgraded
from tests.contract.shapes import problem
from tests.contract.tools import opened, tool
from tests.contract.watching import eventually
from tests.support.platform import PATIENT, Instance, Platform, unique
from tests.support.valkey import ValkeyServer
from tests.support.waiting import ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]
QUICK: Frame = {"traffic_seconds": 0.2, "operation_rates": "traffic_cop.get_traffic_analytics=1000/10000"}
PUBLISH = "post_office.publish_to_agent_channel"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def busy(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    """An instance that writes its figures down often."""
    names = ",".join(f"field{n}" for n in range(40))
    async with AsyncExitStack() as stack:
        yield await Platform(valkey_server, stack, **PATIENT).start(pillars=names, **QUICK)


async def figures(city: Instance, **arguments: Any) -> Frame:
    return await city.done("traffic_cop.get_traffic_analytics", arguments)


async def once(city: Instance, fits: Callable[[Frame], bool], what: str) -> Frame:
    """The figures, when they say so; they are a little old."""

    async def look() -> Frame:
        return await figures(city)

    return await eventually(look, fits, what)


def requests(found: Frame, operation: str) -> int:
    return int(found["operations"].get(operation, {"total": {"count": 0}})["total"]["count"])


def messages(found: Frame, channel: str) -> int:
    return int(found["channels"].get(channel, {"total": {"count": 0}})["total"]["count"])


def refusals(found: Frame, kind: str, name: str) -> dict[str, int]:
    counts: dict[str, int] = found[kind].get(name, {"total": {"refusals": {}}})["total"]["refusals"]
    return counts


@in_town
async def test_requests_of_http_and_tools_are_counted_each_once(busy: Instance) -> None:
    name = "post_office.get_queue_status"
    before = requests(await figures(busy), name)
    for _ in range(7):
        await busy.done(name)
    async with opened(busy) as client:
        for _ in range(5):
            await tool(client, "post_office_get_queue_status")
    found = await once(busy, lambda seen: requests(seen, name) >= before + 12, "twelve more")
    assert requests(found, name) == before + 12
    assert not refusals(found, "operations", name)


@in_town
async def test_refusals_are_counted_by_their_code(busy: Instance) -> None:
    name = "post_office.send_to_connection"
    gone = {"connection_id": "c00000000000000000000", "message": {}}
    for _ in range(3):
        problem(await busy.call(name, gone), 404, "not_found")
    for _ in range(4):
        problem(await busy.call(name, {"connection_id": "c0"}), 422, "invalid_argument")
    token = await busy.service(unique("nobody"))
    for _ in range(2):
        problem(await busy.call(name, gone, Authorization=f"Bearer {token}"), 403, "forbidden")
    expected = {"not_found": 3, "invalid_argument": 4, "forbidden": 2}
    found = await once(busy, lambda seen: refusals(seen, "operations", name) == expected, str(expected))
    assert requests(found, name) == 9
    steps = found["operations"][name]["refusals"]
    assert {code: sum(counts) for code, counts in steps.items()} == expected


@in_town
async def test_a_channels_messages_are_those_that_were_logged_or_queued(busy: Instance) -> None:
    channel = "pillar:field1"
    token = await busy.session(unique("alice"), channels={channel: ["publish", "send", "subscribe"]})
    async with busy.connected(token) as alice:
        for n in range(6):
            assert (await alice.ask(type="publish", channel=channel, payload={"n": n}))["status"] == "published"
        for n in range(5):
            assert (await alice.ask(channel=channel, payload={"n": n}))["status"] == "queued"
        for _ in range(3):
            await alice.ask(type="publish", channel=channel, payload={"once": 1}, key="k")
    for n in range(4):
        await busy.done(PUBLISH, {"channel": channel, "message": {"n": n}})
    items = [{"channel": channel, "message": {"n": n}} for n in range(10)]
    await busy.done("post_office.publish_batch", {"items": items})
    expected = 6 + 5 + 1 + 4 + 10
    found = await once(busy, lambda seen: messages(seen, channel) >= expected, f"{expected} messages")
    assert messages(found, channel) == expected
    assert sum(found["channels"][channel]["messages"]) == expected


@in_town
async def test_a_channels_refusals_are_counted_by_their_code(busy: Instance) -> None:
    channel = "pillar:field2"
    token = await busy.session(unique("alice"), channels={channel: ["subscribe"]})
    async with busy.connected(token) as alice:
        for _ in range(4):
            assert (await alice.ask(type="publish", channel=channel, payload={}))["code"] == "forbidden"
            assert (await alice.ask(channel=channel, payload={}))["code"] == "forbidden"
    found = await once(busy, lambda seen: bool(refusals(seen, "channels", channel)), "refusals")
    found = await once(busy, lambda seen: refusals(seen, "channels", channel) == {"forbidden": 8}, "eight")
    assert messages(found, channel) == 0


@in_town
async def test_every_list_has_a_value_for_each_minute_and_sums_to_the_total(busy: Instance) -> None:
    for n in range(20):
        await busy.done(PUBLISH, {"channel": "pillar:field3", "message": {"n": n}})
    found = await once(busy, lambda seen: messages(seen, "pillar:field3") == 20, "twenty")
    steps = len(found["minutes"])
    assert steps >= 1
    assert found["minutes"] == sorted(found["minutes"])
    assert found["from"] <= found["minutes"][0] <= found["minutes"][-1] <= found["to"]
    bounds = found["bucket_bounds_ms"]
    assert bounds == sorted(set(bounds))
    for kind, counted in (("operations", "requests"), ("channels", "messages")):
        for name, column in found[kind].items():
            assert len(column[counted]) == steps, name
            assert sum(column[counted]) == column["total"]["count"], name
            for code, counts in column["refusals"].items():
                assert len(counts) == steps
                assert sum(counts) == column["total"]["refusals"][code], name
            for values in column["latency_ms"].values():
                assert len(values) == steps
            for low, middle, high in zip(*(column["latency_ms"][p] for p in ("p50", "p95", "p99")), strict=True):
                assert (low is None) == (middle is None) == (high is None)
                assert low is None or 0 < low <= middle <= high
            assert len(column["total"]["buckets"]) == len(bounds) + 1
            assert sum(column["total"]["buckets"]) <= column["total"]["count"] + sum(
                column["total"]["refusals"].values()
            )
    assert sum(found["operations"][PUBLISH]["total"]["buckets"]) == requests(found, PUBLISH)


@in_town
async def test_a_latency_is_that_of_the_call(busy: Instance) -> None:
    consumer = await busy.done("post_office.subscribe_to_channel", {"channel": "pillar:field4", "mode": "inbox"})
    name = "post_office.receive_messages"
    for _ in range(3):
        await busy.done(name, {"consumer": consumer["consumer"], "max": 1, "wait_ms": 400})
    found = await once(busy, lambda seen: requests(seen, name) == 3, "three")
    assert 250 <= found["operations"][name]["total"]["p50_ms"] <= 1000


@in_town
async def test_private_logs_are_no_names(busy: Instance) -> None:
    users = [unique("secretive") for _ in range(30)]
    before = messages(await figures(busy), "user:*")
    for user in users:
        await busy.done("post_office.send_to_user", {"user_id": user, "message": {}})
    async with busy.connected(await busy.session(users[0])) as alice:
        await busy.done("post_office.send_to_connection", {"connection_id": alice.id, "message": {}})
        found = await once(
            busy, lambda seen: messages(seen, "user:*") >= before + 30 and messages(seen, "connection:*") >= 1, "thirty"
        )
        assert "secretive" not in str(found)
        assert alice.id not in str(found)


@in_town
@pytest.mark.parametrize(
    "since", ["yesterday", "", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-11-20", "\x00"]
)
async def test_a_since_that_is_no_time_gone_by_is_refused(busy: Instance, since: str) -> None:
    answer = await busy.call("traffic_cop.get_traffic_analytics", {"since": since})
    if answer.status_code == 200:
        assert since == "2026-11-20", "a day may be taken for its beginning"
    else:
        problem(answer, 422, "invalid_argument")


@in_town
async def test_what_is_older_than_a_day_is_not_kept(busy: Instance) -> None:
    now = datetime.now(UTC)
    for days in (1, 2, 400):
        since = (now - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        found = await figures(busy, since=since)
        began = datetime.fromisoformat(found["from"].replace("Z", "+00:00"))
        assert now - began < timedelta(days=1, hours=1, minutes=1)
        assert len(found["minutes"]) <= 1500


@in_town
@pytest.mark.parametrize("resolution", [0, -60, 1, 10**12, 59, "60", 0.5, None])
async def test_an_odd_resolution_is_refused_or_bounded(busy: Instance, resolution: Any) -> None:
    answer = await busy.call("traffic_cop.get_traffic_analytics", {"resolution": resolution})
    assert answer.status_code in {200, 422}, answer.text
    if answer.status_code == 200:
        assert len(answer.json()["minutes"]) <= 1500


@in_town
async def test_only_who_may_observe_sees_it(busy: Instance) -> None:
    name = "traffic_cop.get_traffic_analytics"
    for scopes, status in ((["traffic_cop.observe"], 200), (["post_office.observe"], 403), ([], 403)):
        token = await busy.service(unique("watcher"), *scopes)
        assert (await busy.call(name, Authorization=f"Bearer {token}")).status_code == status, scopes
    session = await busy.session(unique("alice"), channels={"*": ["subscribe", "send", "history", "publish"]})
    problem(await busy.call(name, Authorization=f"Bearer {session}"), 403, "forbidden")


async def test_instances_are_summed_and_one_that_leaves_is_not_forgotten(platform: Platform) -> None:
    east = await platform.start(**QUICK)
    async with platform.instance(traffic_seconds=60) as west:
        for n in range(8):
            await west.done(PUBLISH, {"channel": "guide", "message": {"n": n}})
        for n in range(5):
            await east.done(PUBLISH, {"channel": "guide", "message": {"n": n}})
    found = await once(
        east, lambda seen: messages(seen, "guide") >= 13, "thirteen, of which eight are of one that left"
    )
    assert messages(found, "guide") == requests(found, PUBLISH) == 13


async def test_many_at_once_are_counted_exactly(platform: Platform) -> None:
    cities = [
        await platform.start(**QUICK, user_messages_per_second=100_000, user_messages_burst=100_000) for _ in "ab"
    ]
    count = 600

    async def talk(city: Instance) -> None:
        token = await city.session(unique("alice"), channels={"guide": ["publish"]})
        async with upgraded(city.url, token) as raw:
            frames = [
                text({"type": "publish", "channel": "guide", "payload": {"n": n}, "id": str(n)}) for n in range(count)
            ]
            sending = asyncio.create_task(raw.send(b"".join(frames), 20))
            for _ in range(count):
                assert (await raw.json(20))["status"] == "published"
            await sending

    async with asyncio.TaskGroup() as group:
        for city in cities * 2:
            group.create_task(talk(city))
    found = await once(cities[0], lambda seen: messages(seen, "guide") >= 4 * count, "all of them")
    assert messages(found, "guide") == 4 * count
    assert sum(found["channels"]["guide"]["total"]["buckets"]) == 4 * count


async def test_invented_names_do_not_become_columns_or_keys(platform: Platform, valkey_server: ValkeyServer) -> None:
    """A million names would fill the store and bury the figures; an invented one is nobody's figure."""
    city = await platform.start(**QUICK, user_messages_per_second=100_000, user_messages_burst=100_000)
    token = await city.session(unique("mallory"), channels={"*": ["subscribe", "send", "history", "publish"]})
    names = [f"pillar:made-up-{n}" for n in range(1500)] + ["x" * 200, "guide|1", "guide\n", "user:a", "a:b", "*"]
    async with upgraded(city.url, token) as raw:
        frames = [text({"type": "publish", "channel": name, "payload": {}, "id": "1"}) for name in names]
        frames += [text({"channel": name, "payload": {}, "id": "1"}) for name in names]
        frames += [text({"type": f"type-{n}", "id": "1"}) for n in range(500)]
        sending = asyncio.create_task(raw.send(b"".join(frames), 20))
        for _ in frames:
            assert (await raw.json(20))["type"] == "error"
        await sending
    for n in range(150):
        assert (await city.call(f"post_office.made_up_{n}")).status_code == 404
        assert (await city.call(PUBLISH, {"channel": f"pillar:invented{n}", "message": {}})).status_code == 404
    async with opened(city) as client:
        for n in range(20):
            try:
                assert (await client.call_tool(f"post_office_fly_{n}", {})).is_error
            except Exception as error:
                assert "fly" in str(error) or "nknown" in str(error)
    for n in range(120):
        await city.done("post_office.send_to_user", {"user_id": f"somebody{n}", "message": {}})
    found = await once(city, lambda seen: messages(seen, "user:*") >= 120, "it has counted")
    for name in ("made-up", "made_up", "invented", "fly", "type-", "somebody"):
        assert name not in str(found), name
    assert len(found["channels"]) <= 110
    assert len(found["operations"]) <= 110
    store = redis.asyncio.Redis(unix_socket_path=str(valkey_server.socket), decode_responses=True)
    async with store:
        keys = [key async for key in store.scan_iter(match=f"{platform.prefix}*", count=1000)]
    named = [key for key in keys if any(word in key for word in ("made-up", "made_up", "invented", "fly", "type-"))]
    assert not named, named[:5]


async def test_counting_outlives_an_outage_of_the_store(platform: Platform) -> None:
    with ValkeyServer() as own:
        async with AsyncExitStack() as stack:
            city = await Platform(own, stack).start(**QUICK)
            for n in range(5):
                await city.done(PUBLISH, {"channel": "guide", "message": {"n": n}})
            own.hang()
            began = time.monotonic()
            answer = await city.call("traffic_cop.get_traffic_analytics")
            assert answer.status_code == 503, answer.text
            assert time.monotonic() - began < 5 + ROOM
            own.resume()

            async def back() -> int:
                return (await city.call("traffic_cop.get_traffic_analytics")).status_code

            await eventually(back, lambda status: status == 200, "it is back", 10)
            found = await once(city, lambda seen: messages(seen, "guide") >= 5, "nothing was forgotten")
            assert messages(found, "guide") == 5, "and nothing counted twice"
