"""Operations on addresses of their own: a channel's log in pages, for what can only GET."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import httpx2
import pytest
import pytest_asyncio

from tests.contract.shapes import problem
from tests.support.platform import PATIENT, Instance, Platform, unique
from tests.support.valkey import ValkeyServer

pytestmark = pytest.mark.asyncio(loop_scope="module")
PATH = "/api/channels/{}/history"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def town(valkey_server: ValkeyServer) -> AsyncIterator[Instance]:
    async with AsyncExitStack() as stack:
        city = await Platform(valkey_server, stack, **PATIENT).start()
        items = [{"channel": "guide", "message": {"n": n}} for n in range(1, 8)]
        await city.done("post_office.publish_batch", {"items": items})
        yield city


async def get(town: Instance, channel: str = "guide", token: str = "", **query: str | int) -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} if token else town.operator
    return await town.http.get(PATH.format(channel), params=query, headers=headers)


async def test_pages_lead_from_one_to_the_next(town: Instance) -> None:
    seen, since = [], "0"
    for _ in range(3):
        page = (await get(town, since=since, limit=3)).json()
        assert page["success"] is True
        assert page["recovered"] is True
        seen += [publication["payload"]["n"] for publication in page["publications"]]
        since = f"{page['offset']}.{page['epoch']}"
    assert seen == [1, 2, 3, 4, 5, 6, 7]


async def test_it_is_the_operation_on_an_address_of_its_own(town: Instance) -> None:
    called = await town.done("post_office.get_channel_history", {"channel": "guide", "limit": 2})
    assert (await get(town, limit=2)).json() == called
    assert (await get(town, limit=2, since="")).json() == called


@pytest.mark.parametrize(
    ("query", "field"),
    [({"limit": "many"}, "limit"), ({"limit": "0"}, "limit"), ({"limit": "9" * 5000}, "limit"),
     ({"since": "x"}, "since"), ({"nonsense": "1"}, "nonsense"), ({"channel": "guide"}, "channel")],
    ids=["no number", "too little", "too much", "no position", "unknown", "twice"],
)  # fmt: skip
async def test_what_is_no_argument_is_refused_by_name(town: Instance, query: dict[str, str], field: str) -> None:
    response = await town.http.get(PATH.format("guide"), params=query, headers=town.operator)
    problem(response, 422, "invalid_argument")
    assert response.json()["errors"][0]["field"] == field


async def test_an_address_leads_back_in_time_too(town: Instance) -> None:
    page = (await get(town, before=4, limit=2)).json()
    assert [publication["payload"]["n"] for publication in page["publications"]] == [2, 3]
    problem(await get(town, before=4, since="0"), 409, "conflict")


async def test_nobody_on_the_way_keeps_a_page(town: Instance) -> None:
    assert (await get(town)).headers["cache-control"] == "no-store"


async def test_a_page_says_where_the_log_begins(town: Instance) -> None:
    assert (await get(town, before=4, limit=2)).json()["oldest"] == 1


async def test_rights_are_those_of_the_operation(town: Instance) -> None:
    user = unique("alice")
    alice = await town.session(user, channels={"guide": ["subscribe"]})
    problem(await get(town, token=alice), 403, "forbidden")
    assert (await get(town, f"user:{user}", alice)).status_code == 200
    problem(await get(town, "user:bob", alice), 403, "forbidden")
    problem(await get(town, "nowhere"), 404, "unknown_channel")
    problem(await town.http.get(PATH.format("guide")), 401, "unauthenticated")
    reader = await town.service(unique("reader"), "post_office.history")
    assert (await get(town, token=reader)).status_code == 200


async def test_a_head_request_has_the_head_of_the_page(town: Instance) -> None:
    answer = await town.http.head(PATH.format("guide"), headers=town.operator)
    assert (answer.status_code, answer.content) == (200, b"")


async def test_the_document_describes_its_arguments(town: Instance) -> None:
    document = (await town.http.get("/openapi.json", headers=town.operator)).json()
    told = document["paths"]["/api/channels/{channel}/history"]["get"]["parameters"]
    assert {(p["name"], p["in"], p["required"]) for p in told} == {
        ("channel", "path", True), ("since", "query", False), ("limit", "query", False), ("before", "query", False),
    }  # fmt: skip
    assert (
        "text/event-stream" in document["paths"]["/api/channels/{channel}/events"]["get"]["responses"]["200"]["content"]
    )
