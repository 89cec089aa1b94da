"""Sections 3 and 6: the same operations as MCP tools, in both eras, with the same arguments, results and codes."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from mcp import Client

from tests.contract.agents import agent_on, asked, asker_of
from tests.contract.tools import opened, tool
from tests.support.platform import OPERATOR_TOKEN, Instance, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")
Frame = dict[str, Any]

ERAS = pytest.mark.parametrize("era", ["auto", "legacy"])
ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
TOOLS = {
    f"post_office_{name}"
    for name in (
        "get_websocket_endpoint", "publish_to_agent_channel", "send_to_agent", "publish_batch", "send_to_connection",
        "send_to_user", "subscribe_to_channel", "receive_messages", "acknowledge_messages", "reply", "extend_delivery",
        "fail_delivery", "forward_delivery", "get_channel_history", "get_connection_count",
        "get_connections_by_channel", "list_connections", "get_connection", "disconnect", "list_channels",
        "get_queue_status",
    )
} | {
    f"traffic_cop_{name}"
    for name in (
        "create_session", "validate_session", "get_session", "refresh_session", "revoke_session", "list_sessions",
        "create_service_token", "list_service_tokens", "revoke_service_token", "check_rate_limit",
        "get_caller_identity",
    )
}  # fmt: skip


async def refused(client: Client, name: str, **arguments: Any) -> Frame:
    answer = await client.call_tool(name, arguments)
    assert answer.is_error, answer
    assert isinstance(answer.structured_content, dict)
    return answer.structured_content


async def raw(
    town: Instance, body: bytes | Frame | list[Any], token: str = OPERATOR_TOKEN, **headers: str
) -> httpx2.Response:
    """A POST as no client would send it."""
    given = ACCEPT | ({"Authorization": f"Bearer {token}"} if token else {})
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await town.http.post("/mcp", content=content, headers=given)


def rpc(method: str, params: Frame | None = None, number: Any = 1) -> Frame:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}}


@ERAS
async def test_every_operation_is_a_tool_and_says_what_it_does(town: Instance, era: str) -> None:
    async with opened(town, era=era) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) >= TOOLS
    paths = (await town.http.get("/openapi.json", headers=town.operator)).json()["paths"]
    by_http = {path.removeprefix("/soa/").replace("/", "_") for path in paths if path.startswith("/soa/")}
    assert set(tools) == {name.replace("-", "_") for name in by_http}, "what MCP can do HTTP can do, and nothing else"
    for name, described in tools.items():
        assert described.description, name
        assert described.input_schema["type"] == "object"
        assert described.output_schema is not None, name
        assert described.annotations is not None, name
        assert isinstance(described.annotations.read_only_hint, bool), name
    hints = {name: described.annotations for name, described in tools.items()}
    for name in ("post_office_get_channel_history", "post_office_list_channels", "traffic_cop_validate_session"):
        annotations = hints[name]
        assert annotations is not None and annotations.read_only_hint is True
    for name in ("post_office_publish_to_agent_channel", "post_office_disconnect", "traffic_cop_revoke_session"):
        annotations = hints[name]
        assert annotations is not None and annotations.read_only_hint is False


@ERAS
async def test_a_call_gives_what_http_gives(town: Instance, channel: str, era: str) -> None:
    async with opened(town, era=era) as client, asker_of(town) as alice:
        await alice.subscribe(channel)
        sent = await tool(client, "post_office_publish_to_agent_channel", channel=channel, message={"n": 1})
        assert sent["status"] == "published"
        (got,) = await alice.messages(1, channel)
        assert (got["message_id"], got["offset"]) == (sent["message_id"], sent["offset"])
        by_tool = await tool(client, "post_office_get_channel_history", channel=channel)
        by_http = await town.done("post_office.get_channel_history", {"channel": channel})
        assert by_tool == by_http


@ERAS
@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("post_office_publish_to_agent_channel", {"channel": "guide"}, "invalid_argument"),
        ("post_office_publish_to_agent_channel", {"channel": "guide", "message": {}, "x": 1}, "invalid_argument"),
        ("post_office_publish_to_agent_channel", {"channel": 7, "message": {}}, "invalid_argument"),
        ("post_office_publish_to_agent_channel", {"channel": "guide", "message": "text"}, "invalid_argument"),
        ("post_office_publish_to_agent_channel", {"channel": "nowhere", "message": {}}, "unknown_channel"),
        ("post_office_publish_to_agent_channel", {"channel": "user:bob", "message": {}}, "forbidden"),
        ("post_office_get_channel_history", {"channel": "guide", "limit": "5"}, "invalid_argument"),
        ("post_office_get_connection", {"connection_id": "c00000000000000000000"}, "not_found"),
        ("post_office_reply", {"delivery_id": "guide/01938f3a-7c11-7000-8000-000000000000/1", "payload": {}},
         "stale_delivery"),
        ("traffic_cop_validate_session", {"session_token": "ses_x"}, "unauthenticated"),
        ("traffic_cop_create_session", {"user_id": "~bob"}, "invalid_argument"),
    ],
)  # fmt: skip
async def test_a_refusal_has_the_code_of_http(town: Instance, era: str, name: str, arguments: Frame, code: str) -> None:
    service, operation = ("post_office", name[12:]) if name.startswith("post_office_") else ("traffic_cop", name[12:])
    by_http = (await town.call(f"{service}.{operation}", arguments)).json()
    async with opened(town, era=era) as client:
        by_tool = await refused(client, name, **arguments)
    assert by_http["code"] == code
    assert by_tool["code"] == code
    assert by_tool["retryable"] == by_http["retryable"]
    assert by_tool.get("errors") == by_http.get("errors")


@ERAS
async def test_a_tool_that_does_not_exist_is_an_error(town: Instance, era: str) -> None:
    async with opened(town, era=era) as client:
        try:
            answer = await client.call_tool("post_office_fly", {})
            assert answer.is_error
        except Exception as error:  # the protocol may say it, or the tool's result
            assert "fly" in str(error) or "nknown" in str(error)
        assert "guide" in str(await tool(client, "post_office_list_channels"))


@ERAS
async def test_scopes_hold_for_tools(town: Instance, channel: str, era: str) -> None:
    token = await town.service(unique("reports"), "post_office.history")
    async with opened(town, token, era) as client:
        refusal = await refused(client, "post_office_publish_to_agent_channel", channel=channel, message={})
        assert (refusal["code"], refusal["retryable"]) == ("forbidden", False)
        assert (await tool(client, "post_office_get_channel_history", channel=channel))["publications"] == []


@ERAS
async def test_a_session_may_use_tools_for_itself(town: Instance, channel: str, era: str) -> None:
    token = await town.session(unique("alice"), channels={channel: ["history"]})
    async with opened(town, token, era) as client:
        await tool(client, "post_office_get_channel_history", channel=channel)
        assert (await refused(client, "post_office_get_channel_history", channel="guide"))["code"] == "forbidden"
        assert (await refused(client, "post_office_list_channels"))["code"] == "forbidden"


@ERAS
async def test_a_key_makes_a_tool_call_safe_to_repeat(town: Instance, channel: str, era: str) -> None:
    async with opened(town, era=era) as client:
        call = {"channel": channel, "message": {"n": 1}, "key": "k"}
        first = await tool(client, "post_office_publish_to_agent_channel", **call)
        again = await tool(client, "post_office_publish_to_agent_channel", **call)
        assert (again["duplicate"], again["message_id"]) == (True, first["message_id"])
        other = await refused(client, "post_office_publish_to_agent_channel", **(call | {"message": {"n": 2}}))
        assert other["code"] == "conflict"


@ERAS
async def test_an_agent_can_live_by_tools_alone(town: Instance, channel: str, era: str) -> None:
    realm = unique("thinker")
    token = await town.service(realm, "post_office.consume", "post_office.publish", "post_office.observe")
    async with opened(town, token, era) as client, asker_of(town) as alice:
        subscribed = await tool(client, "post_office_subscribe_to_channel", channel=channel, mode="inbox")
        question = await asked(alice, channel, "c-1")
        status = await tool(client, "post_office_get_queue_status", channel=channel)
        assert status["channels"][channel]["depth"] == 1
        got = await tool(client, "post_office_receive_messages", consumer=subscribed["consumer"], max=1, wait_ms=2000)
        (delivery,) = got["deliveries"]
        assert delivery["message"]["message_id"] == question
        await tool(client, "post_office_extend_delivery", delivery_id=delivery["delivery_id"], lease_seconds=60)
        await tool(client, "post_office_reply", delivery_id=delivery["delivery_id"], payload={"message": "thought"})
        answer = await alice.of("chat_response")
        assert (answer["agent"], answer["payload"]) == (realm, {"message": "thought"})
        there = await tool(client, "post_office_get_connections_by_channel", channel=channel)
        assert there["connections"] == [alice.id], "it has sent to the channel"
        async with agent_on(town, channel) as other:
            await alice.ask(channel=channel, payload={"message": "next"})
            assert (await other.of("delivery"))["attempt"] == 1


@pytest.mark.parametrize("token", ["", "nonsense", "svc_" + "x" * 43, "ses_" + "x" * 45])
@pytest.mark.parametrize("method", ["initialize", "tools/list", "tools/call", "ping", "server/discover"])
async def test_without_a_good_token_nothing_is_done(town: Instance, token: str, method: str) -> None:
    response = await raw(town, rpc(method, {"name": "post_office_list_channels", "arguments": {}}), token)
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert response.json()["code"] == "unauthenticated"
    assert "guide" not in response.text


async def test_a_revoked_token_ends_the_next_call(town: Instance) -> None:
    made = await town.done(
        "traffic_cop.create_service_token", {"realm": unique("reports"), "scopes": ["post_office.observe"]}
    )
    async with opened(town, made["token"]) as client:
        await tool(client, "post_office_list_channels")
        await town.done("traffic_cop.revoke_service_token", {"token_id": made["token_id"]})
        response = await raw(town, rpc("tools/list"), made["token"])
        assert response.status_code == 401


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
async def test_a_page_of_another_origin_may_not_call_tools(town: Instance, origin: str) -> None:
    call = rpc("tools/call", {"name": "post_office_list_channels", "arguments": {}})
    response = await raw(town, call, Origin=origin)
    assert response.status_code in {401, 403}, response.text
    assert response.headers.get("access-control-allow-origin") not in {"*", origin}


def error_of(response: httpx2.Response) -> int:
    """The JSON-RPC error's code, whether it came as JSON or as an event."""
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = next(line for line in text.splitlines() if line.startswith("data:"))[5:]
    return int(json.loads(text)["error"]["code"])


@pytest.mark.parametrize("body", [b"", b"hello", b"{", b"[" * 100_000, b"\xff\xfe"], ids=lambda body: repr(body[:8]))
async def test_what_is_no_json_is_a_parse_error(town: Instance, body: bytes) -> None:
    response = await raw(town, body)
    assert response.status_code == 400, response.text
    assert error_of(response) == -32700


@pytest.mark.parametrize(
    "body",
    [{}, [], {"jsonrpc": "1.0", "id": 1, "method": "tools/list"}, {"jsonrpc": "2.0", "id": 1}, 7,
     {"jsonrpc": "2.0", "id": 1, "method": 7}],
    ids=str,
)  # fmt: skip
async def test_what_is_no_request_is_refused(town: Instance, body: Any) -> None:
    response = await raw(town, json.dumps(body).encode())
    assert 400 <= response.status_code < 500, response.text
    assert (await town.http.get("/health/live")).status_code == 200


async def test_a_method_that_does_not_exist_is_not_found(town: Instance) -> None:
    response = await raw(town, rpc("tools/fly"))
    assert response.status_code < 500
    assert error_of(response) == -32601


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_other_methods_are_not_taken(town: Instance, method: str) -> None:
    response = await town.http.request(method, "/mcp", headers=ACCEPT | town.operator)
    assert response.status_code in {400, 405, 406}
    assert response.status_code != 500


async def test_a_body_above_the_limit_is_refused(town: Instance) -> None:
    call = rpc("tools/call", {"name": "post_office_publish_to_agent_channel",
                              "arguments": {"channel": "guide", "message": {"m": "x" * (6 << 20)}}})  # fmt: skip
    response = await raw(town, call)
    assert response.status_code == 413 or "too_large" in response.text, response.text[:300]


async def test_no_answer_repeats_a_token(town: Instance) -> None:
    secret = "ses_" + "s3cret" * 8
    async with opened(town) as client:
        refusal = await client.call_tool("traffic_cop_validate_session", {"session_token": secret})
        wrong = await client.call_tool("traffic_cop_validate_session", {"session_token": [secret]})
    assert "s3cret" not in str(refusal) + str(wrong)
