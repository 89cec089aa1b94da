"""Section 3: the history of a channel as pages over HTTP, the same as the operation's."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from tests.contract.shapes import has_only, position, problem, text_of
from tests.support.platform import OPERATOR_TOKEN, Instance, Platform, unique

in_town = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]


async def say(city: Instance, channel: str, *numbers: int) -> list[Frame]:
    return [
        await city.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": n}})
        for n in numbers
    ]


async def read(city: Instance, channel: str, token: str = OPERATOR_TOKEN, **query: Any) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return await city.http.get(f"/api/channels/{channel}/history", params=query, headers=headers)


async def page(city: Instance, channel: str, token: str = OPERATOR_TOKEN, **query: Any) -> Frame:
    response = await read(city, channel, token, **query)
    assert response.status_code == 200, response.text
    answer: Frame = response.json()
    return answer


def numbers(page: Frame) -> list[int]:
    return [entry["payload"]["n"] for entry in page["publications"]]


@in_town
class TestPages:
    async def test_a_page_is_what_the_operation_gives(self, town: Instance, channel: str) -> None:
        said = await say(town, channel, *range(8))
        for arguments in ({}, {"limit": 3}, {"since": text_of(said[2])}, {"since": text_of(said[2]), "limit": 3}):
            by_route = await page(town, channel, **arguments)
            by_operation = await town.done("post_office.get_channel_history", {"channel": channel, **arguments})
            assert by_route == by_operation
        has_only(by_route, {"publications", "offset", "epoch", "oldest", "recovered"}, {"channel", "reason"})

    async def test_pages_follow_one_another_without_a_gap(self, town: Instance, channel: str) -> None:
        said = await say(town, channel, *range(23))
        seen: list[int] = []
        since = f"0.{said[0]['epoch']}"
        while found := (await page(town, channel, since=since, limit=5))["publications"]:
            assert len(found) <= 5
            seen += [entry["payload"]["n"] for entry in found]
            since = text_of(found[-1])
        assert seen == list(range(23))

    async def test_a_pages_own_position_leads_to_the_next_page_or_to_what_is_live(
        self, town: Instance, channel: str
    ) -> None:
        await say(town, channel, *range(4))
        whole = await page(town, channel, since="0")
        assert numbers(whole) == [0, 1, 2, 3]
        assert position(whole) == position(whole["publications"][-1])
        await say(town, channel, 4)
        assert numbers(await page(town, channel, since=text_of(whole))) == [4]

    async def test_an_empty_channel_is_an_empty_page(self, town: Instance, channel: str) -> None:
        empty = await page(town, channel)
        assert empty["publications"] == []
        await say(town, channel, 1)
        assert numbers(await page(town, channel, since=text_of(empty))) == [1]

    @pytest.mark.parametrize(
        ("since", "reason"), [("3.nobody", "unknown_epoch"), ("900", "future"), (f"{2**53 - 1}", "future")]
    )
    async def test_a_position_that_is_not_good_says_why_and_gives_nothing_old(
        self, town: Instance, channel: str, since: str, reason: str
    ) -> None:
        said = await say(town, channel, 0, 1)
        answer = await page(town, channel, since=since)
        assert (answer["recovered"], answer["reason"], answer["publications"]) == (False, reason, [])
        assert position(answer) == position(said[-1])

    @pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5", "9" * 30, "1e3", "0x10", " 5", "٣", "true"])
    async def test_a_limit_that_is_no_number_of_entries_is_refused(
        self, town: Instance, channel: str, limit: str
    ) -> None:
        refusal = problem(await read(town, channel, limit=limit), 422, "invalid_argument")
        assert {error["field"].rpartition(".")[2] for error in refusal["errors"]} == {"limit"}

    @pytest.mark.parametrize(
        "since",
        ["-1", "x", "1.5.6", ".x", "1e3", "+1", " 1", "9" * 30, "1.\x00", "1.é", "1." + "x" * 500, "\ud7ff", "{}"],
    )
    async def test_what_is_no_position_is_refused(self, town: Instance, channel: str, since: str) -> None:
        by_route = await read(town, channel, since=since)
        by_operation = await town.call("post_office.get_channel_history", {"channel": channel, "since": since})
        assert by_route.status_code == by_operation.status_code, (by_route.text, by_operation.text)
        assert by_route.status_code in {200, 422}
        if by_route.status_code == 200:
            assert by_route.json()["recovered"] is False
        else:
            problem(by_route, 422, "invalid_argument")

    async def test_the_same_argument_twice_or_an_unknown_one_is_refused_or_of_no_matter(
        self, town: Instance, channel: str
    ) -> None:
        await say(town, channel, 0, 1, 2)
        for query in ("limit=1&limit=2", "since=0&since=1", "lmit=1", "limit=1;since=0", "channel=guide", "&&&="):
            response = await town.http.get(f"/api/channels/{channel}/history?{query}", headers=town.operator)
            assert response.status_code in {200, 422}, response.text
            if response.status_code == 200:
                assert set(numbers(response.json())) <= {0, 1, 2}

    @pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
    @pytest.mark.parametrize("what", ["history", "events"])
    async def test_other_methods_are_not_taken(self, town: Instance, channel: str, method: str, what: str) -> None:
        response = await town.http.request(method, f"/api/channels/{channel}/{what}", headers=town.operator)
        assert response.status_code == 405
        assert "GET" in response.headers["allow"]

    async def test_a_range_of_names_is_no_name(self, town: Instance) -> None:
        for name in ("pillar:*", "*", "guide,pillar:content", "guide%2Fhistory"):
            response = await read(town, name)
            assert 400 <= response.status_code < 500, name


@in_town
class TestRights:
    async def test_without_a_good_token_there_is_nothing(self, town: Instance, channel: str) -> None:
        for token in ("", "nonsense", "ses_nobody", "svc_" + "x" * 43):
            problem(await read(town, channel, token), 401, "unauthenticated")
            problem(await read(town, "nowhere", token), 401, "unauthenticated")

    @pytest.mark.parametrize("rights", [["subscribe"], ["send", "publish"]], ids=str)
    async def test_without_the_right_it_is_forbidden(self, town: Instance, channel: str, rights: list[str]) -> None:
        token = await town.session(unique("bob"), channels={channel: rights})
        problem(await read(town, channel, token), 403, "forbidden")

    async def test_with_it_it_is_given(self, town: Instance, channel: str) -> None:
        await say(town, channel, 1)
        token = await town.session(unique("bob"), channels={channel: ["history"]})
        assert numbers(await page(town, channel, token)) == [1]
        service = await town.service(unique("reader"), "post_office.history")
        assert numbers(await page(town, channel, service)) == [1]

    @pytest.mark.parametrize("scopes", [[], ["post_office.publish"], ["post_office.consume"], ["traffic_cop.sessions"]])
    async def test_another_scope_is_not_enough(self, town: Instance, channel: str, scopes: list[str]) -> None:
        problem(await read(town, channel, await town.service(unique("reader"), *scopes)), 403, "forbidden")

    async def test_logs_of_others_are_never_given(self, town: Instance) -> None:
        alice, bob = unique("alice"), unique("bob")
        token = await town.session(alice)
        await town.done("post_office.send_to_user", {"user_id": alice, "message": {"n": 1}})
        assert numbers(await page(town, f"user:{alice}", token, since="0")) == [1]
        async with town.connected(await town.session(bob)) as victim:
            problem(await read(town, f"user:{bob}", token), 403, "forbidden")
            problem(await read(town, f"connection:{victim.id}", token), 403, "forbidden")

    async def test_a_channel_that_does_not_exist_is_not_found(self, town: Instance) -> None:
        problem(await read(town, "nowhere"), 404, "unknown_channel")
        problem(await read(town, "pillar:nothing"), 404, "unknown_channel")


async def test_pages_lead_back_in_time(platform: Platform) -> None:
    city = await platform.start()
    said = await say(city, "guide", *range(10))
    answer = await page(city, "guide", before=said[6]["offset"], limit=3)
    assert numbers(answer) == [3, 4, 5]
    problem(await read(city, "guide", before=0), 422, "invalid_argument")
    problem(await read(city, "guide", before=5, since="0"), 409, "conflict")


async def test_a_trimmed_position_says_so(platform: Platform) -> None:
    city = await platform.start(history_count=10)
    said = await say(city, "guide", *range(60))
    answer = await page(city, "guide", since=text_of(said[2]))
    assert (answer["recovered"], answer["reason"], answer["publications"]) == (False, "trimmed", [])


async def test_pages_that_are_read_while_others_write_have_no_gap(platform: Platform) -> None:
    city = await platform.start()
    writing = asyncio.create_task(say(city, "guide", *range(150)))
    seen: list[int] = []
    since = "0"
    async with asyncio.timeout(20):
        while len(seen) < 150:
            found = await page(city, "guide", since=since, limit=7)
            seen += numbers(found)
            since = text_of(found["publications"][-1]) if found["publications"] else since
    await writing
    assert seen == list(range(150))
