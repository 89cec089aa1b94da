"""Section 6, Post Office: what each operation answers, and what it refuses."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from tests.contract.shapes import TIMESTAMP, UUID7, fields, has_only, is_publication, position, problem, text_of
from tests.contract.watching import eventually
from tests.support.platform import Instance, Platform, unique
from tests.support.waiting import ROOM

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


async def publish(city: Instance, channel: str, *messages: Frame) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": message})
        for message in messages
    ]


async def payloads(city: Instance, channel: str) -> list[Frame]:
    read = await city.done("post_office.get_channel_history", {"channel": channel})
    return [publication["payload"] for publication in read["publications"]]


@in_town
class TestPublishing:
    async def test_a_publication_is_told_with_its_place(self, town: Instance, channel: str) -> None:
        first, second = await publish(town, channel, {"n": 1}, {"n": 2})
        has_only(first, {"status", "channel", "message_id", "offset", "epoch", "subscribers"})
        assert (first["status"], first["channel"]) == ("published", channel)
        assert UUID7.fullmatch(first["message_id"])
        assert second["offset"] == first["offset"] + 1
        assert second["epoch"] == first["epoch"]
        assert first["subscribers"] == 0

    async def test_subscribers_are_counted_a_few_seconds_later_at_most(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"))
        async with town.connected(token) as one, town.connected(token) as two:
            await one.subscribe(channel)
            await two.subscribe(channel)

            async def subscribers() -> int:
                return int((await publish(town, channel, {}))[0]["subscribers"])

            await eventually(subscribers, lambda count: count == 2, "both are counted")

    async def test_it_goes_to_subscribers_and_not_to_the_inbox(self, town: Instance, channel: str) -> None:
        async with town.connected(await town.session(unique("alice"))) as alice:
            await alice.subscribe(channel)
            (told,) = await publish(town, channel, {"n": 1})
            (got,) = await alice.messages(1, channel)
        is_publication(got)
        assert (got["message_id"], position(got)) == (told["message_id"], position(told))
        status = await town.done("post_office.get_queue_status", {"channel": channel})
        assert status["channels"][channel]["depth"] == 0

    async def test_a_batch_has_one_result_an_item_in_their_order(self, town: Instance, channel: str) -> None:
        items = [
            {"channel": channel, "message": {"n": 0}}, {"channel": "nowhere", "message": {}},
            {"channel": "guide", "message": {"n": 0}}, {"channel": channel, "message": {"n": 1}, "key": "k"},
            {"channel": channel, "message": {"n": 1}, "key": "k"},
            {"channel": channel, "message": {"n": 9}, "key": "k"}, {"channel": "user:alice", "message": {}},
            {"channel": channel, "message": {"n": 2}},
        ]  # fmt: skip
        results = (await town.done("post_office.publish_batch", {"items": items}))["results"]
        assert [result["channel"] for result in results] == [item["channel"] for item in items]
        outcome = [result["error"]["code"] if "error" in result else result["status"] for result in results]
        assert outcome == [
            "published", "unknown_channel", "published", "published", "published", "conflict", "forbidden", "published",
        ]  # fmt: skip
        assert results[4]["duplicate"] is True
        assert position(results[4]) == position(results[3])
        assert await payloads(town, channel) == [{"n": 0}, {"n": 1}, {"n": 2}]
        for result in results:
            if "error" in result:
                assert isinstance(result["error"]["message"], str)
                assert "offset" not in result

    async def test_a_large_batch_keeps_the_order_of_each_channel(self, town: Instance, channel: str) -> None:
        items = [{"channel": (channel, "guide")[n % 2], "message": {"n": n}} for n in range(400)]
        results = (await town.done("post_office.publish_batch", {"items": items}))["results"]
        assert [result["status"] for result in results] == ["published"] * 400
        own = [result["offset"] for result in results if result["channel"] == channel]
        assert own == list(range(own[0], own[0] + 200))

    @pytest.mark.parametrize(
        ("arguments", "field"),
        [({}, "items"), ({"items": {}}, "items"), ({"items": [7]}, "items"),
         ({"items": [{"channel": "guide"}]}, "items"),
         ({"items": [{"channel": "guide", "message": {}, "x": 1}]}, "items"),
         ({"items": [{"channel": "guide", "message": {}}], "x": 1}, "x")],
        ids=str,
    )  # fmt: skip
    async def test_a_batch_that_breaks_the_declaration_publishes_nothing(
        self, town: Instance, arguments: Frame, field: str
    ) -> None:
        response = await town.call("post_office.publish_batch", arguments)
        assert fields(problem(response, 422, "invalid_argument")) == {field}


@in_town
class TestSending:
    async def test_to_a_connection_it_reaches_that_one_alone(self, town: Instance) -> None:
        token = await town.session(unique("alice"))
        async with town.connected(token) as one, town.connected(token) as two:
            arguments = {"connection_id": one.id, "message": {"n": 1}}
            sent = await town.done("post_office.send_to_connection", arguments)
            has_only(sent, {"status", "connected"}, {"message_id", "offset", "epoch", "channel"})
            assert (sent["status"], sent["connected"]) == ("published", True)
            (got,) = await one.messages(1, f"connection:{one.id}")
            is_publication(got)
            assert got["payload"] == {"n": 1}
            assert got["offset"] == one.welcome["channels"][f"connection:{one.id}"]["offset"] + 1
            await two.nothing_but_pong()

    async def test_to_a_user_it_reaches_all_connections_with_one_position(self, town: Instance) -> None:
        user = unique("alice")
        token = await town.session(user)
        async with town.connected(token) as one, town.connected(token) as two:
            sent = await town.done("post_office.send_to_user", {"user_id": user, "message": {"n": 1}})
            assert (sent["status"], sent["connected"]) == ("published", True)
            (first,), (second,) = [await client.messages(1, f"user:{user}") for client in (one, two)]
            assert first == second
            assert first["payload"] == {"n": 1}

    async def test_what_a_user_missed_is_there_at_the_next_connection(self, town: Instance) -> None:
        user = unique("alice")
        token = await town.session(user)
        async with town.connected(token) as alice:
            before = alice.welcome["channels"][f"user:{user}"]
        sent = await eventually(
            lambda: town.done("post_office.send_to_user", {"user_id": user, "message": {"n": 1}, "key": "one"}),
            lambda sent: sent["status"] == "published", "published",
        )  # fmt: skip
        assert sent["offset"] == before["offset"] + 1
        async with town.connected(token) as alice:
            ack = await alice.ask(type="subscribe", channels={f"user:{user}": before})
            assert ack["channels"][f"user:{user}"]["missed"] == 1
            (got,) = await alice.messages(1, f"user:{user}")
            assert got["payload"] == {"n": 1}

    async def test_it_says_whether_anybody_is_connected(self, town: Instance) -> None:
        user = unique("alice")
        arguments = {"user_id": user, "message": {}}
        assert (await town.done("post_office.send_to_user", arguments))["connected"] is False
        async with town.connected(await town.session(user)):
            assert (await town.done("post_office.send_to_user", arguments))["connected"] is True

        async def is_connected() -> bool:
            return bool((await town.done("post_office.send_to_user", arguments))["connected"])

        await eventually(is_connected, lambda connected: not connected, "known to be gone")

    @pytest.mark.parametrize("connection", ["nobody", "", "c00000000000000000000", "../x", "x" * 300, "c*"])
    async def test_a_connection_that_never_was_is_not_found(self, town: Instance, connection: str) -> None:
        arguments = {"connection_id": connection, "message": {}}
        response = await town.call("post_office.send_to_connection", arguments)
        assert response.json()["code"] in {"not_found", "invalid_argument"}
        looked = await town.call("post_office.get_connection", {"connection_id": connection})
        assert looked.json()["code"] in {"not_found", "invalid_argument"}

    @pytest.mark.parametrize("user", ["", "a b", "a*", "a:b", "x" * 129])
    async def test_a_user_that_cannot_be_is_refused(self, town: Instance, user: str) -> None:
        response = await town.call("post_office.send_to_user", {"user_id": user, "message": {}})
        assert fields(problem(response, 422, "invalid_argument")) == {"user_id"}


@in_town
class TestHistory:
    async def test_it_reads_from_a_position_on(self, town: Instance, channel: str) -> None:
        said = await publish(town, channel, *({"n": n} for n in range(10)))
        arguments = {"channel": channel, "since": text_of(said[3]), "limit": 4}
        page = await town.done("post_office.get_channel_history", arguments)
        has_only(page, {"publications", "offset", "epoch", "recovered"}, {"channel", "reason", "oldest"})
        assert page["recovered"] is True
        assert [entry["payload"]["n"] for entry in page["publications"]] == [4, 5, 6, 7]
        for entry, told in zip(page["publications"], said[4:8], strict=True):
            is_publication(entry)
            assert (entry["message_id"], position(entry)) == (told["message_id"], position(told))

    async def test_pages_join_without_gap_or_overlap(self, town: Instance, channel: str) -> None:
        await publish(town, channel, *({"n": n} for n in range(25)))
        seen: list[int] = []
        since = "0"
        while True:
            arguments = {"channel": channel, "since": since, "limit": 7}
            page = await town.done("post_office.get_channel_history", arguments)
            if not page["publications"]:
                break
            seen += [entry["payload"]["n"] for entry in page["publications"]]
            since = text_of(page["publications"][-1])
            assert len(seen) <= 25
        assert seen == list(range(25))
        assert text_of(page) == since

    async def test_a_bare_offset_is_taken_in_the_current_epoch(self, town: Instance, channel: str) -> None:
        said = await publish(town, channel, {"n": 0}, {"n": 1})
        arguments = {"channel": channel, "since": str(said[0]["offset"]), "limit": 10}
        page = await town.done("post_office.get_channel_history", arguments)
        assert [entry["payload"]["n"] for entry in page["publications"]] == [1]
        assert page["recovered"] is True

    async def test_pages_lead_back_in_time_to_the_beginning(self, town: Instance, channel: str) -> None:
        await publish(town, channel, *({"n": n} for n in range(20)))
        pages: list[list[int]] = []
        before: int | None = None
        while True:
            arguments = {"channel": channel, "limit": 8} | ({"before": before} if before else {})
            read = await town.done("post_office.get_channel_history", arguments)
            if not read["publications"]:
                break
            pages.append([entry["payload"]["n"] for entry in read["publications"]])
            before = read["publications"][0]["offset"]
        assert pages == [[*range(12, 20)], [*range(4, 12)], [*range(4)]]

    async def test_a_page_goes_forward_or_back(self, town: Instance, channel: str) -> None:
        arguments = {"channel": channel, "since": "0", "before": 5}
        refused = problem(await town.call("post_office.get_channel_history", arguments), 409, "conflict")
        assert fields(refused) == {"before"}

    @pytest.mark.parametrize(("since", "reason"), [("0.nobody", "unknown_epoch"), ("99", "future")])
    async def test_a_position_that_is_not_good_says_why(
        self, town: Instance, channel: str, since: str, reason: str
    ) -> None:
        await publish(town, channel, {})
        arguments = {"channel": channel, "since": since, "limit": 10}
        page = await town.done("post_office.get_channel_history", arguments)
        assert (page["recovered"], page["reason"]) == (False, reason)
        assert page["publications"] == []

    async def test_without_a_position_it_gives_the_newest(self, town: Instance, channel: str) -> None:
        said = await publish(town, channel, *({"n": n} for n in range(5)))
        page = await town.done("post_office.get_channel_history", {"channel": channel, "limit": 2})
        assert position(page) == position(said[-1])
        assert [entry["payload"]["n"] for entry in page["publications"]] == [3, 4]

    @pytest.mark.parametrize(
        ("field", "value"),
        [("since", value) for value in ("x", "-1", "1.5.6", "", " 1", "1.é", 1, {"offset": 1})]
        + [("limit", value) for value in (0, -1, 10**9, "5", 1.5)],
    )
    async def test_a_wrong_argument_is_named(self, town: Instance, field: str, value: Any) -> None:
        response = await town.call("post_office.get_channel_history", {"channel": "guide", field: value})
        assert fields(problem(response, 422, "invalid_argument")) == {field}

    async def test_an_unknown_channel_is_unknown(self, town: Instance) -> None:
        problem(await town.call("post_office.get_channel_history", {"channel": "nowhere"}), 404, "unknown_channel")


class TestWhoIsThere:
    async def test_counts_are_those_of_all_instances(self, platform: Platform) -> None:
        here, there = await platform.start(), await platform.start()
        alice = await here.session(unique("alice"))
        bob = await here.session(unique("bob"))
        async with here.connected(alice) as one, there.connected(alice) as two, there.connected(bob) as three:
            await one.subscribe("guide")
            await two.subscribe("guide", "pillar:content")
            await three.subscribe("pillar:content")

            async def counts() -> Frame:
                return await here.done("post_office.get_connection_count")

            names = (here.settings.instance_id, there.settings.instance_id)
            counted = await eventually(
                counts, lambda seen: seen["global"] == 3 and seen["by_channel"].get("pillar:content") == 2, "counted"
            )
            has_only(counted, {"global", "by_channel", "by_instance", "users"})
            assert counted["users"] == 2
            assert counted["by_channel"]["guide"] == 2
            assert counted["by_instance"] == dict(zip(names, (1, 2), strict=True))
            assert not [name for name in counted["by_channel"] if name.startswith(("user:", "connection:"))]
        await eventually(counts, lambda seen: seen["global"] == 0 and seen["users"] == 0, "all are gone")

    async def test_a_connection_is_described_from_any_instance_and_not_found_once_closed(
        self, platform: Platform
    ) -> None:
        here, there = await platform.start(), await platform.start()
        user = unique("alice")
        async with here.connected(await here.session(user)) as alice:
            await alice.subscribe("guide", "pillar:content")
            told = await there.done("post_office.get_connection", {"connection_id": alice.id})
            has_only(told, {"connection_id", "user_id", "instance_id", "connected_at", "last_heartbeat", "channels"})
            assert (told["connection_id"], told["user_id"]) == (alice.id, user)
            assert told["instance_id"] == here.settings.instance_id
            assert TIMESTAMP.fullmatch(told["connected_at"])
            assert TIMESTAMP.fullmatch(told["last_heartbeat"])
            assert {"guide", "pillar:content"} <= set(told["channels"])

        async def code() -> str:
            response = await there.call("post_office.get_connection", {"connection_id": alice.id})
            return str(response.json().get("code"))

        await eventually(code, lambda code: code == "not_found", "not found once closed")

    async def test_connections_by_channel_are_subscribers_and_those_who_have_sent(self, platform: Platform) -> None:
        here, there = await platform.start(), await platform.start()
        token = await here.session(unique("alice"))
        async with (
            here.connected(token) as subscriber, there.connected(token) as sender, here.connected(token) as neither
        ):  # fmt: skip
            await subscriber.subscribe("guide")
            await sender.ask(channel="guide", payload={"message": "hello"})
            await neither.subscribe("pillar:content")

            async def ids() -> set[str]:
                told = await here.done("post_office.get_connections_by_channel", {"channel": "guide"})
                has_only(told, {"connections"}, {"channel"})
                return set(told["connections"])

            await eventually(ids, lambda ids: ids == {subscriber.id, sender.id}, "both are listed")
            await subscriber.ask(type="unsubscribe", channels=["guide"])
            await eventually(ids, lambda ids: ids == {sender.id}, "the subscriber has left")
        await eventually(ids, lambda ids: ids == set(), "nobody is left")

    async def test_channels_and_queues_are_listed(self, platform: Platform) -> None:
        city = await platform.start()
        agents = {"guide", "pillar:content", "pillar:insights", "pillar:operations", "pillar:business_outcomes"}
        listed = await city.done("post_office.list_channels")
        assert agents <= {entry["channel"] for entry in listed["channels"]}
        async with city.connected(await city.session(unique("alice"))) as alice:
            for n in range(3):
                await alice.ask(channel="guide", payload={"n": n})
        everything = (await city.done("post_office.get_queue_status"))["channels"]
        assert set(everything) == agents
        one = await city.done("post_office.get_queue_status", {"channel": "guide"})
        assert set(one["channels"]) == {"guide"}
        guide = one["channels"]["guide"]
        has_only(guide, {"depth", "capacity", "oldest_age_seconds", "consumers", "circuit"}, {"dead_letters"})
        assert (guide["depth"], guide["capacity"], guide["consumers"]) == (3, 10000, 0)
        assert 0 <= guide["oldest_age_seconds"] < 10
        token = await city.service(unique("agents"), "post_office.consume")
        async with city.connected(token) as agent:
            await agent.ask(type="consume", channel="guide", max=0)
            await agent.ask(type="consume", channel="pillar:content", max=1)

            async def consumers() -> int:
                status = await city.done("post_office.get_queue_status", {"channel": "pillar:content"})
                return int(status["channels"]["pillar:content"]["consumers"])

            await eventually(consumers, lambda count: count == 1, "the agent is counted")

    async def test_disconnecting_closes_on_every_instance(self, platform: Platform) -> None:
        here, there = await platform.start(), await platform.start()
        user = unique("alice")
        token = await here.session(user)
        async with here.connected(token) as one, there.connected(token) as two, there.connected(token) as three:
            await here.done("post_office.disconnect", {"connection_id": two.id, "code": 4500})
            began = time.monotonic()
            assert await two.close_code() == 4500
            assert time.monotonic() - began < 1 + ROOM
            await one.nothing_but_pong()
            await here.done("post_office.disconnect", {"user_id": user})
            codes = await asyncio.gather(one.close_code(), three.close_code())
            assert len(set(codes)) == 1
            assert codes[0] not in {1005, 1006}
        async with here.connected(token):
            pass  # it is no revocation


@in_town
@pytest.mark.parametrize(
    "arguments", [{}, {"connection_id": "c1", "user_id": "alice"}, {"user_id": "alice", "code": 7},
                  {"user_id": "alice", "code": 99999}, {"user_id": "alice", "code": "4500"}],
    ids=str,
)  # fmt: skip
async def test_a_disconnect_that_nobody_could_mean_is_refused(town: Instance, arguments: Frame) -> None:
    problem(await town.call("post_office.disconnect", arguments), 422, "invalid_argument")


async def test_pages_that_lead_back_end_where_a_trimmed_log_begins(platform: Platform) -> None:
    city = await platform.start(history_count=5)
    for n in range(12):
        await city.done("post_office.publish_to_agent_channel", {"channel": "guide", "message": {"n": n}})
    newest = await city.done("post_office.get_channel_history", {"channel": "guide", "limit": 2})
    first = newest["publications"][0]["offset"]
    back = await city.done("post_office.get_channel_history", {"channel": "guide", "limit": 9, "before": first})
    assert [entry["payload"]["n"] for entry in back["publications"]] == [7, 8, 9]
    arguments = {"channel": "guide", "limit": 9, "before": back["publications"][0]["offset"]}
    assert (await city.done("post_office.get_channel_history", arguments))["publications"] == []
