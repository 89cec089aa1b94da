"""Section 3: what every call of an operation over HTTP may rely on, whichever operation it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.contract.shapes import fields, problem
from tests.support.platform import Instance, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")

PUBLISH = "/soa/post-office/publish_to_agent_channel"


async def post(town: Instance, body: bytes | str, path: str = PUBLISH, **headers: str) -> Any:
    given = town.operator | {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return await town.http.post(path, content=body, headers={k: v for k, v in given.items() if v})


async def history(town: Instance, channel: str) -> list[dict[str, Any]]:
    read = await town.done("post_office.get_channel_history", {"channel": channel})
    publications: list[dict[str, Any]] = read["publications"]
    return publications


async def test_a_success_is_200_with_success_and_the_fields_of_the_result(town: Instance, channel: str) -> None:
    response = await town.call("post_office.publish_to_agent_channel", {"channel": channel, "message": {"n": 1}})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["success"] is True
    assert response.json()["status"] == "published"


async def test_a_call_without_a_token_is_refused_and_says_how_to_come_back(town: Instance) -> None:
    response = await town.http.post(PUBLISH, json={"channel": "guide", "message": {}})
    assert problem(response, 401, "unauthenticated")["retryable"] is False
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "authorization",
    ["Bearer", "Bearer nonsense", "Bearer svc_" + "x" * 43, "Bearer ses_" + "x" * 43, "Basic YTpi",
     "Bearer op_" + "x" * 43, "Bearer svc_" + "x" * 1000, "bearer", "Digest x", "Bearer a b c"],
)  # fmt: skip
async def test_what_is_no_token_of_ours_is_unauthenticated(town: Instance, authorization: str) -> None:
    response = await post(town, b'{"channel": "guide", "message": {}}', Authorization=authorization)
    problem(response, 401, "unauthenticated")


async def test_the_scheme_of_authorization_is_read_in_any_case(town: Instance, channel: str) -> None:
    """RFC 9110: authentication schemes are case-insensitive."""
    token = town.operator["Authorization"].removeprefix("Bearer ")
    response = await post(town, json.dumps({"channel": channel, "message": {}}), Authorization=f"bearer {token}")
    assert response.status_code == 200, response.text


async def test_a_wrong_scope_is_forbidden(town: Instance) -> None:
    token = await town.service(unique("reports"), "post_office.history")
    response = await town.call(
        "post_office.publish_to_agent_channel", {"channel": "guide", "message": {}}, Authorization=f"Bearer {token}"
    )
    problem(response, 403, "forbidden")


@pytest.mark.parametrize("channel", ["pillar:nobody_knows", "nothing", "guide:x", "pillar"])
async def test_a_channel_that_does_not_exist_is_unknown(town: Instance, channel: str) -> None:
    response = await town.call("post_office.publish_to_agent_channel", {"channel": channel, "message": {}})
    problem(response, 404, "unknown_channel")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"channel": "guide", "message": {}, "colour": "red"}, "colour"),
        ({"message": {}}, "channel"),
        ({"channel": "guide"}, "message"),
        ({"channel": 7, "message": {}}, "channel"),
        ({"channel": None, "message": {}}, "channel"),
        ({"channel": ["guide"], "message": {}}, "channel"),
        ({"channel": "guide", "message": "text"}, "message"),
        ({"channel": "guide", "message": []}, "message"),
        ({"channel": "guide", "message": None}, "message"),
        ({"channel": "guide", "message": {}, "key": 5}, "key"),
        ({"channel": "guide", "message": {}, "key": "k" * 65}, "key"),
        ({"channel": "guide", "message": {}, "realm": 5}, "realm"),
    ],
)
async def test_arguments_that_break_the_declaration_are_named(
    town: Instance, arguments: dict[str, Any], field: str
) -> None:
    response = await town.call("post_office.publish_to_agent_channel", arguments)
    refusal = problem(response, 422, "invalid_argument")
    assert fields(refusal) == {field}
    assert refusal["retryable"] is False


async def test_every_wrong_field_is_named_at_once(town: Instance) -> None:
    response = await town.call("post_office.publish_to_agent_channel", {"channel": 1, "message": 2, "other": 3})
    assert fields(problem(response, 422, "invalid_argument")) == {"channel", "message", "other"}


@pytest.mark.parametrize("value", ["1", 1.5, True, [1], -1, 10**30])
async def test_a_number_is_not_guessed_from_something_else(town: Instance, value: Any) -> None:
    response = await town.call("post_office.get_channel_history", {"channel": "guide", "limit": value})
    assert fields(problem(response, 422, "invalid_argument")) == {"limit"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b" ", b"hello", b"{", b'{"channel": "guide", "message": {}', b"[]", b'"text"', b"7", b"null", b"true",
        b'{"channel": "guide", "message": {"n": NaN}}', b'{"channel": "guide", "message": {"n": Infinity}}',
        b'{"channel": "guide", "message": {},}', b"{'channel': 'guide'}", b"channel=guide&message=x",
        b'\xff\xfe{"channel": "guide", "message": {}}', b'{"channel": "guide", "message": {"m": "\xff"}}',
        b'{"channel": "guide", "message": {}} {}', b"[" * 100_000, b'{"a":' * 100_000, b"\x00" * 100,
    ],
    ids=lambda body: repr(body[:24]),
)  # fmt: skip
async def test_a_body_that_is_no_json_object_gets_a_clear_error(town: Instance, body: bytes) -> None:
    """The contract leaves open which of the two codes it is."""
    response = await post(town, body)
    assert response.status_code in {400, 422}, response.text
    refusal = problem(response, response.status_code, response.json()["code"])
    assert refusal["code"] in {"invalid_argument", "invalid_message"}


async def test_a_refused_body_leaves_nothing_in_the_log(town: Instance, channel: str) -> None:
    for body in (
        f'{{"channel": "{channel}", "message": {{"n": NaN}}}}', f'{{"channel": "{channel}", "message": {{}}, "x": 1}}',
        f'{{"channel": "{channel}", "message": {{}}}} trailing',
    ):  # fmt: skip
        assert (await post(town, body)).status_code in {400, 422}
    assert await history(town, channel) == []


@pytest.mark.parametrize(
    "message",
    [
        {}, {"deep": [[[[[[[[]]]]]]]]}, {"": ""}, {"n": 0, "f": 1.5, "e": 1e300, "t": True, "z": None},
        {"text": "\u0000 \u2028 \ud7ff \U0001f600 \\ \" </script>"}, {"big": 2**53 - 1, "negative": -(2**53 - 1)},
        {"type": "ack", "offset": 7, "epoch": "e", "channel": "other"}, {"$bytes": "AAAA"},
        {"long": "x" * 200_000},
    ],
    ids=lambda message: repr(message)[:24],
)  # fmt: skip
async def test_any_object_becomes_the_payload_as_it_is(town: Instance, channel: str, message: dict[str, Any]) -> None:
    async with town.connected(await town.session(unique("reader"))) as reader:
        await reader.subscribe(channel)
        await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": message})
        (got,) = await reader.messages(1, channel)
    assert got["payload"] == message
    assert got["channel"] == channel
    (kept,) = await history(town, channel)
    assert kept["payload"] == message


async def test_a_lone_surrogate_harms_nobody_but_perhaps_its_sender(town: Instance, channel: str) -> None:
    """JSON can name what UTF-8 cannot carry: it is refused, or it arrives as it was written."""
    async with town.connected(await town.session(unique("reader"))) as reader:
        await reader.subscribe(channel)
        response = await post(town, f'{{"channel": "{channel}", "message": {{"m": "\\ud800"}}}}')
        assert response.status_code in {200, 400, 422}, response.text
        await town.done("post_office.publish_to_agent_channel", {"channel": channel, "message": {"last": True}})
        frames = await reader.messages(2 if response.status_code == 200 else 1, channel)
        assert frames[-1]["payload"] == {"last": True}
    assert (await history(town, channel))[-1]["payload"] == {"last": True}


async def test_a_body_above_the_message_limit_is_too_large(town: Instance) -> None:
    body = json.dumps({"channel": "guide", "message": {"m": "x" * (5 << 20)}})
    assert problem(await post(town, body), 413, "too_large")["retryable"] is False


async def test_a_message_that_no_socket_could_carry_is_not_published(town: Instance, channel: str) -> None:
    """What is published reaches every subscriber, so it has to fit into a frame of theirs."""
    async with town.connected(await town.session(unique("reader"))) as reader:
        await reader.subscribe(channel)
        arguments = {"channel": channel, "message": {"m": "x" * ((4 << 20) - 200)}}
        response = await post(town, json.dumps(arguments))
        if response.status_code == 200:
            (got,) = await reader.messages(1, channel)
            assert got["payload"] == arguments["message"]
        else:
            problem(response, 413, "too_large")
        await reader.nothing_but_pong()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
async def test_an_operation_is_called_with_post_only(town: Instance, method: str) -> None:
    response = await town.http.request(method, PUBLISH, headers=town.operator)
    assert response.status_code == 405
    assert "POST" in response.headers["allow"]
    assert response.json()["success"] is False


@pytest.mark.parametrize("path", ["/soa/post-office/no_such", "/soa/nobody/publish", "/soa", "/nowhere", "/ws/x"])
async def test_what_is_not_there_is_not_found_in_the_same_shape(town: Instance, path: str) -> None:
    problem(await town.http.post(path, json={}, headers=town.operator), 404, "not_found")


async def test_a_page_of_another_origin_cannot_publish_with_a_browsers_cookie(town: Instance, channel: str) -> None:
    """A form can post ``text/plain`` without asking first, and the browser adds the cookie."""
    token = await town.session(unique("alice"))
    response = await post(
        town, json.dumps({"channel": channel}), "/soa/post-office/get_channel_history", Authorization="",
        Cookie=f"session_token={token}", Origin="https://evil.example", Content_Type="text/plain",
    )  # fmt: skip
    assert response.status_code in {401, 403}, response.text
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1:1"])
async def test_no_page_of_another_origin_is_told_that_it_may(town: Instance, origin: str) -> None:
    response = await town.http.request(
        "OPTIONS", PUBLISH, headers={"Origin": origin, "Access-Control-Request-Method": "POST",
                                     "Access-Control-Request-Headers": "authorization"},
    )  # fmt: skip
    assert response.headers.get("access-control-allow-origin") not in {"*", origin}


async def test_a_ws_address_without_an_upgrade_says_what_it_wants(town: Instance) -> None:
    response = await town.http.get("/ws", params={"session_token": "secret-token"})
    assert response.status_code == 426
    assert len(response.json()["detail"].split()) > 3
    assert "secret-token" not in response.text


async def test_no_error_repeats_a_token(town: Instance) -> None:
    secret = "ses_" + "s3cret" * 7
    calls = [
        await town.call("traffic_cop.validate_session", {"session_token": secret}),
        await town.call("traffic_cop.validate_session", {"session_token": [secret]}),
        await town.call("post_office.get_websocket_endpoint", {"session_token": secret, "realm": "operator"}),
        await town.call("traffic_cop.refresh_session", {"session_token": secret}),
        await post(town, b"{}", Authorization=f"Bearer {secret}"),
    ]
    for response in calls:
        assert response.status_code >= 400
        assert "s3cret" not in response.text
