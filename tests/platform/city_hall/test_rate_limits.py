"""Rate limits of the whole platform, as those who hit them see them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from foundations.settings import WrongSetting
from tests.contract.watching import close_code_of
from tests.support.platform import Instance, Platform, unique

SLOW = {"messages": {"per_second": 0.1, "burst": 3}}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def asked(city: Instance, token: str, times: int) -> list[dict[str, Any]]:
    async with city.connected(token) as client:
        return [await client.ask(payload={"n": n}) for n in range(times)]


async def test_a_session_with_rates_of_its_own_is_held_to_them_on_every_instance(platform: Platform) -> None:
    here, there = await platform.start(), await platform.start()
    user = unique("alice")
    slow, other = await here.session(user, rates=SLOW), await here.session(user)
    first, then = await asked(here, slow, 6), await asked(there, slow, 6)
    accepted = [answer for answer in first + then if answer["type"] == "ack"]
    assert 3 <= len(accepted) <= 4, "its burst, and a slice of one on account"
    refused = [answer for answer in first + then if answer["type"] == "error"]
    assert {answer["code"] for answer in refused} == {"rate_limited"}
    assert all("session" in answer["message"] and 1 < answer["retry_after"] <= 20 for answer in refused)
    assert {answer["type"] for answer in await asked(there, other, 6)} == {"ack"}


async def test_a_refreshed_connection_goes_by_the_rates_of_its_new_session(platform: Platform) -> None:
    city = await platform.start()
    user = unique("alice")
    slow, other = await city.session(user, rates=SLOW), await city.session(user)
    async with city.connected(slow) as alice:
        answers = [await alice.ask(type="refresh", session_token=other)]
        answers += [await alice.ask(payload={"n": n}) for n in range(8)]
    assert {answer["type"] for answer in answers} == {"ack"}


async def test_a_grant_with_a_rate_bounds_what_is_sent_to_its_channels(platform: Platform) -> None:
    city = await platform.start()
    slow = {"rights": ["send", "publish"], "rate": {"per_second": 0.1, "burst": 2}}
    token = await city.session(unique("alice"), channels={"pillar:*": slow, "guide": ["send"]})
    async with city.connected(token) as alice:
        answers = [
            await alice.ask(channel="pillar:content", payload={}),
            await alice.ask(type="publish", channel="pillar:insights", payload={}),
            await alice.ask(channel="pillar:content", payload={}),
            await alice.ask(type="publish", channel="pillar:content", payload={}),
        ]
        assert [answer["type"] for answer in answers] == ["ack", "ack", "error", "error"]
        assert {answer["code"] for answer in answers[2:]} == {"rate_limited"}
        assert all("pillar:*" in answer["message"] and answer["retry_after"] > 1 for answer in answers[2:])
        assert [(await alice.ask(payload={"n": n}))["type"] for n in range(4)] == ["ack"] * 4


async def test_what_waits_for_credit_is_sent_in_order(platform: Platform) -> None:
    city = await platform.start()
    bounded = {"rights": ["publish", "subscribe"], "rate": {"per_second": 50, "burst": 40}}
    token = await city.session(unique("alice"), channels={"guide": bounded})
    async with city.connected(token) as alice:
        await alice.subscribe("guide")
        for n in range(30):  # slices of five: most have to fetch credit
            await alice.send(type="publish", channel="guide", payload={"n": n})
        heard = await alice.messages(30, "guide")
    assert [message["payload"]["n"] for message in heard] == list(range(30))


async def test_a_refused_call_says_over_http_which_limit_and_when_to_return(platform: Platform) -> None:
    city = await platform.start(operation_rates="post_office.list_channels=0.5/2")
    reports = await city.service(unique("reports"), "post_office.observe")
    responses = [await city.call("post_office.list_channels", {}, **bearer(reports)) for _ in range(4)]
    assert [response.status_code for response in responses[:2]] == [200, 200]
    refused = responses[-1]
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert "post_office.list_channels" in refused.json()["detail"]
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert refused.headers["ratelimit-policy"] == '"post_office.list_channels";q=2;w=4'
    assert refused.headers["ratelimit"] == f'"post_office.list_channels";r=0;t={refused.headers["retry-after"]}'
    assert (await city.call("post_office.get_queue_status", {}, **bearer(reports))).status_code == 200


async def test_a_declared_rate_holds_without_any_setting(platform: Platform) -> None:
    city = await platform.start()
    calls = [city.call("traffic_cop.get_traffic_analytics") for _ in range(80)]
    codes = sorted({response.status_code for response in await asyncio.gather(*calls)})
    assert codes == [200, 429]


async def test_connecting_in_a_loop_is_slowed_for_one_address_and_for_no_other(platform: Platform) -> None:
    city = await platform.start(
        address_handshakes_per_second=1, address_handshakes_burst=5, trusted_proxies="127.0.0.1"
    )
    token = await city.session(unique("alice"))

    async def code(address: str) -> int:
        """What a handshake from there is closed with; 0 if it is welcome."""
        headers = {**bearer(token), "X-Forwarded-For": address}
        try:
            async with connect(city.ws_url, additional_headers=headers) as socket:
                await socket.recv()
                return 0
        except ConnectionClosed as refused:
            assert refused.rcvd is not None
            assert refused.rcvd.reason.startswith("retry_after=")
            return refused.rcvd.code

    codes = [await code("10.1.1.1") for _ in range(9)]
    assert codes[:5] == [0] * 5
    assert codes[-1] == 1013
    assert await code("10.1.1.2") == 0
    standing = {"subject": "10.1.1.1", "limit": "address.handshakes"}
    assert (await city.done("traffic_cop.check_rate_limit", standing))["remaining"] <= 1


async def test_guessing_tokens_is_slowed_on_every_surface_together(platform: Platform) -> None:
    city = await platform.start(address_failures_per_second=1, address_failures_burst=6)
    guess = bearer("ses_7f" + "x" * 43)
    codes = [(await city.http.get("/api/connections/info", headers=guess)).json()["code"] for _ in range(3)]
    closes = [await close_code_of(city.ws_url, "svc_" + "x" * 43) for _ in range(4)]
    calls = [await city.http.post("/soa/post-office/list_channels", headers=guess) for _ in range(3)]
    assert codes == ["unauthenticated"] * 3
    assert closes[:2] == [4501] * 2
    assert (calls[-1].status_code, calls[-1].json()["code"]) == (429, "rate_limited")
    assert calls[-1].headers["ratelimit-policy"] == '"address.failures";q=6;w=6'
    assert (await city.http.get("/api/connections/info")).json()["code"] == "unauthenticated"  # nothing was tried
    assert (await city.http.get("/health")).status_code == 200


async def test_a_made_up_header_makes_nobody_another(platform: Platform) -> None:
    city = await platform.start(address_failures_per_second=1, address_failures_burst=3)
    answers = [
        await city.http.get("/metrics", headers={**bearer("svc_" + "x" * 43), "X-Forwarded-For": f"10.0.0.{n}"})
        for n in range(8)
    ]
    assert answers[-1].json()["code"] == "rate_limited"


async def test_behind_a_trusted_proxy_each_client_has_its_own_address(platform: Platform) -> None:
    city = await platform.start(
        address_failures_per_second=1, address_failures_burst=3, trusted_proxies="127.0.0.0/8, 10.9.0.0/16"
    )
    guess = bearer("svc_" + "x" * 43)

    async def code(address: str) -> str:
        answer = await city.http.get("/metrics", headers={**guess, "X-Forwarded-For": f"{address}, 10.9.0.2"})
        return str(answer.json()["code"])

    assert [await code("10.1.1.1") for _ in range(8)][-1] == "rate_limited"
    assert await code("10.1.1.2") == "unauthenticated"


async def test_operators_see_the_address_of_the_client_and_not_of_its_proxy(platform: Platform) -> None:
    city = await platform.start(trusted_proxies="127.0.0.1")
    headers = {**bearer(await city.session(unique("alice"))), "X-Forwarded-For": "10.1.1.1"}
    async with connect(city.ws_url, additional_headers=headers) as socket:
        await socket.recv()
        listed = await city.done("post_office.list_connections")
    assert [one["address"] for one in listed["connections"]] == ["10.1.1.1"]


async def test_a_rate_for_an_operation_that_does_not_exist_stops_the_start(platform: Platform) -> None:
    with pytest.raises(WrongSetting, match=r"post_office\.nonsense"):
        await platform.start(operation_rates="post_office.nonsense=1/1")
