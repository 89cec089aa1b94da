"""Sections 5 and 6: who may call which operation, who may hear which channel, and what a realm is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.shapes import problem
from tests.support.platform import Instance, unique

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCOPES = (
    "post_office.publish", "post_office.consume", "post_office.history", "post_office.observe", "post_office.admin",
    "traffic_cop.sessions", "traffic_cop.observe", "traffic_cop.admin", "nurse.observe", "nurse.admin",
)  # fmt: skip
DELIVERY = "guide/01938f3a-7c11-7000-8000-000000000000/1"
NOBODY = "c00000000000000000000"

# operation: arguments that are right in form, the scope, and whether a session may call it for itself
OPERATIONS: dict[str, tuple[dict[str, Any], str, bool]] = {
    "post_office.get_websocket_endpoint": ({"session_token": "ses_x"}, "traffic_cop.sessions", False),
    "post_office.publish_to_agent_channel": ({"channel": "guide", "message": {}}, "post_office.publish", False),
    "post_office.send_to_agent": (
        {"channel": "guide", "message": {}, "reply_to": "guide"}, "post_office.publish", False,
    ),
    "post_office.publish_batch": ({"items": [{"channel": "guide", "message": {}}]}, "post_office.publish", False),
    "post_office.send_to_connection": ({"connection_id": NOBODY, "message": {}}, "post_office.publish", False),
    "post_office.send_to_user": ({"user_id": "alice", "message": {}}, "post_office.publish", False),
    "post_office.subscribe_to_channel": ({"channel": "guide", "mode": "inbox"}, "post_office.consume", False),
    "post_office.receive_messages": ({"consumer": "0" * 20, "wait_ms": 0}, "post_office.consume", False),
    "post_office.acknowledge_messages": (
        {"consumer": "0" * 20, "delivery_ids": [DELIVERY]}, "post_office.consume", False,
    ),
    "post_office.reply": ({"delivery_id": DELIVERY, "payload": {}}, "post_office.consume", False),
    "post_office.extend_delivery": ({"delivery_id": DELIVERY, "lease_seconds": 1}, "post_office.consume", False),
    "post_office.fail_delivery": ({"delivery_id": DELIVERY, "reason": "", "retry": True}, "post_office.consume", False),
    "post_office.forward_delivery": ({"delivery_id": DELIVERY, "channel": "guide"}, "post_office.consume", False),
    "post_office.get_channel_history": ({"channel": "guide"}, "post_office.history", True),
    "post_office.get_connection_count": ({}, "post_office.observe", False),
    "post_office.get_connections_by_channel": ({"channel": "guide"}, "post_office.observe", False),
    "post_office.list_connections": ({}, "post_office.observe", False),
    "post_office.get_connection": ({"connection_id": NOBODY}, "post_office.observe", False),
    "post_office.disconnect": ({"connection_id": NOBODY}, "post_office.admin", False),
    "post_office.list_channels": ({}, "post_office.observe", False),
    "post_office.get_queue_status": ({}, "post_office.observe", False),
    "traffic_cop.create_session": ({"user_id": "alice"}, "traffic_cop.sessions", False),
    "traffic_cop.validate_session": ({"session_token": "ses_x"}, "traffic_cop.sessions", False),
    "traffic_cop.get_session": ({"session_id": "nobody"}, "traffic_cop.sessions", False),
    "traffic_cop.refresh_session": ({}, "traffic_cop.sessions", True),
    "traffic_cop.revoke_session": ({"session_id": "nobody"}, "traffic_cop.sessions", False),
    "traffic_cop.list_sessions": ({"user_id": "alice"}, "traffic_cop.sessions", False),
    "traffic_cop.create_service_token": ({"realm": "any", "scopes": []}, "traffic_cop.admin", False),
    "traffic_cop.list_service_tokens": ({}, "traffic_cop.admin", False),
    "traffic_cop.revoke_service_token": ({"token_id": "0" * 16}, "traffic_cop.admin", False),
    "traffic_cop.check_rate_limit": ({"subject": "alice", "limit": "messages"}, "traffic_cop.observe", False),
}  # fmt: skip


def of_others(operation: str) -> dict[str, Any]:
    """The arguments of whoever has no session and so has to name one."""
    named = {"session_token": "ses_x"} if operation == "traffic_cop.refresh_session" else {}
    return {**OPERATIONS[operation][0], **named}


@pytest.mark.parametrize("operation", OPERATIONS)
class TestOperations:
    async def test_nobody_calls_it_without_a_token(self, town: Instance, operation: str) -> None:
        response = await town.http.post(path_of(operation), json=OPERATIONS[operation][0])
        problem(response, 401, "unauthenticated")

    async def test_its_scope_opens_it_and_all_others_together_do_not(self, town: Instance, operation: str) -> None:
        arguments, scope = of_others(operation), OPERATIONS[operation][1]
        realm = unique("realm")
        right = await town.service(realm, scope)
        wrong = await town.service(realm, *(other for other in SCOPES if other != scope))
        refused = await town.call(operation, arguments, Authorization=f"Bearer {wrong}")
        problem(refused, 403, "forbidden")
        opened = await town.call(operation, arguments, Authorization=f"Bearer {right}")
        assert opened.json().get("code") not in {"unauthenticated", "forbidden"} or "ses_x" in str(arguments)
        assert opened.status_code < 500

    async def test_a_session_calls_it_only_for_itself(self, town: Instance, operation: str) -> None:
        arguments, _, is_open = OPERATIONS[operation]
        token = await town.session(unique("alice"))
        response = await town.call(operation, arguments, Authorization=f"Bearer {token}")
        if is_open:
            assert response.status_code == 200, response.text
        else:
            problem(response, 403, "forbidden")

    async def test_the_operator_may(self, town: Instance, operation: str) -> None:
        arguments = of_others(operation)
        response = await town.call(operation, arguments)
        assert response.status_code < 500
        if "ses_x" not in str(arguments):
            assert response.json().get("code") not in {"unauthenticated", "forbidden"}

    async def test_a_ticket_is_no_bearer_token(self, town: Instance, operation: str) -> None:
        """It is a session's way through one handshake, and must not be spent or useful anywhere else."""
        asked = {"session_token": await town.session(unique("alice")), "realm": "operator", "ticket": True}
        endpoint = await town.done("post_office.get_websocket_endpoint", asked)
        ticket = endpoint["websocket_url"].rpartition("=")[2]
        response = await town.call(operation, OPERATIONS[operation][0], Authorization=f"Bearer {ticket}")
        assert response.status_code in {401, 403}, response.text


def path_of(operation: str) -> str:
    service, _, name = operation.partition(".")
    return f"/soa/{service.replace('_', '-')}/{name}"


REALM_ARGUMENTS: dict[str, dict[str, Any]] = {
    "post_office.publish_to_agent_channel": {"channel": "guide", "message": {}},
    "post_office.send_to_agent": {"channel": "guide", "message": {}, "reply_to": "guide"},
    "post_office.subscribe_to_channel": {"channel": "guide", "mode": "inbox"},
}


@pytest.mark.parametrize("operation", REALM_ARGUMENTS)
async def test_a_realm_is_the_tokens_and_no_other(town: Instance, operation: str) -> None:
    realm = unique("reports")
    token = await town.service(realm, "post_office.publish", "post_office.consume")
    bearer = f"Bearer {token}"
    arguments = REALM_ARGUMENTS[operation]
    await town.done(operation, {**arguments, "realm": realm}, Authorization=bearer)
    await town.done(operation, arguments, Authorization=bearer)
    for other in ("operator", "content", f"~{realm}", realm.upper(), ""):
        response = await town.call(operation, {**arguments, "realm": other}, Authorization=bearer)
        assert response.status_code in {403, 422}, response.text
        assert response.json()["code"] in {"forbidden", "invalid_argument"}
    problem(await town.call(operation, {**arguments, "realm": "content"}, Authorization=bearer), 403, "forbidden")


async def test_the_operator_may_name_any_realm(town: Instance, channel: str) -> None:
    async with town.connected(await town.session(unique("alice"))) as alice:
        await alice.subscribe(channel)
        arguments = {"channel": channel, "message": {}, "realm": "content"}
        await town.done("post_office.publish_to_agent_channel", arguments)
        (got,) = await alice.messages(1)
    assert got["sender"]["id"] == "content"


async def test_the_sender_of_a_publication_is_the_tokens_realm(town: Instance, channel: str) -> None:
    realm = unique("reports")
    bearer = f"Bearer {await town.service(realm, 'post_office.publish')}"
    async with town.connected(await town.session(unique("alice"))) as alice:
        await alice.subscribe(channel)
        message = {"sender": {"kind": "user", "id": "bob"}, "realm": "operator"}
        await town.done(
            "post_office.publish_to_agent_channel", {"channel": channel, "message": message}, Authorization=bearer
        )
        (got,) = await alice.messages(1)
    assert (got["sender"]["kind"], got["sender"]["id"]) == ("service", realm)
    assert got["payload"] == message


class TestGrants:
    async def test_without_channels_a_session_has_the_agent_channels_and_cannot_publish(self, town: Instance) -> None:
        user = unique("alice")
        token = await town.session(user)
        agents = ["guide", "pillar:content", "pillar:insights", "pillar:operations", "pillar:business_outcomes"]
        async with town.connected(token) as alice:
            heard = await alice.subscribe(*agents, f"user:{user}", f"connection:{alice.id}")
            assert all("error" not in outcome for outcome in heard.values())
            for channel in agents:
                assert (await alice.ask(channel=channel, payload={}))["status"] == "queued"
                refused = await alice.ask(type="publish", channel=channel, payload={})
                assert refused["code"] == "forbidden"
                read = await town.call(
                    "post_office.get_channel_history", {"channel": channel}, Authorization=f"Bearer {token}"
                )
                assert read.status_code == 200

    @pytest.mark.parametrize(
        ("right", "able"),
        [("subscribe", "subscribe"), ("send", "send"), ("history", "history"), ("publish", "publish")],
    )
    async def test_each_right_gives_that_and_nothing_else(
        self, town: Instance, channel: str, right: str, able: str
    ) -> None:
        token = await town.session(unique("alice"), channels={channel: [right]})
        async with town.connected(token) as alice:
            heard = (await alice.subscribe(channel))[channel]
            sent = await alice.ask(channel=channel, payload={})
            published = await alice.ask(type="publish", channel=channel, payload={})
        arguments = {"channel": channel}
        read = await town.call("post_office.get_channel_history", arguments, Authorization=f"Bearer {token}")
        codes = {
            "subscribe": heard.get("error", {}).get("code"), "send": sent.get("code"),
            "publish": published.get("code"), "history": read.json().get("code"),
        }  # fmt: skip
        wanted = dict.fromkeys(codes, "forbidden") | {able: None}
        if right == "subscribe":
            wanted["history"] = codes["history"]  # whether hearing from a position is reading history is left open
        assert codes == wanted

    async def test_a_star_at_the_end_stands_for_every_ending(self, town: Instance, channel: str) -> None:
        token = await town.session(unique("alice"), channels={"pillar:field*": ["subscribe"]})
        async with town.connected(token) as alice:
            heard = await alice.subscribe(channel, "pillar:content", "guide")
        assert "error" not in heard[channel]
        assert heard["pillar:content"]["error"]["code"] == "forbidden"
        assert heard["guide"]["error"]["code"] == "forbidden"

    @pytest.mark.parametrize("pattern", ["*:content", "pi*:content", "pillar:*t", "pillar:**", "p*llar:*", "gui?e", ""])
    async def test_a_star_elsewhere_is_refused(self, town: Instance, pattern: str) -> None:
        arguments = {"user_id": unique("alice"), "channels": {pattern: ["subscribe"]}}
        problem(await town.call("traffic_cop.create_session", arguments), 422, "invalid_argument")

    @pytest.mark.parametrize("rights", [["fly"], ["SUBSCRIBE"], "subscribe", [7], [None], {"subscribe": True}, None])
    async def test_rights_that_do_not_exist_are_refused(self, town: Instance, rights: Any) -> None:
        arguments = {"user_id": unique("alice"), "channels": {"guide": rights}}
        problem(await town.call("traffic_cop.create_session", arguments), 422, "invalid_argument")

    @pytest.mark.parametrize(
        "pattern", ["user:{}", "user:*", "u*", "*", "connection:*", "connection:{}", "user:{}*", "c*"]
    )
    async def test_the_logs_of_others_are_never_granted(self, town: Instance, pattern: str) -> None:
        bob = unique("bob")
        async with town.connected(await town.session(bob)) as theirs:
            name = pattern.format(bob if pattern.startswith("user") else theirs.id)
            arguments = {"user_id": unique("mallory"), "channels": {name: ["subscribe", "history", "publish", "send"]}}
            created = await town.call("traffic_cop.create_session", arguments)
            if created.status_code != 200:
                problem(created, 422, "invalid_argument")
                return
            token = created.json()["session_token"]
            async with town.connected(token) as mallory:
                for channel in (f"user:{bob}", f"connection:{theirs.id}"):
                    assert (await mallory.subscribe(channel))[channel]["error"]["code"] == "forbidden"
                    published = await mallory.ask(type="publish", channel=channel, payload={})
                    assert published["code"] == "forbidden"
                    read = await town.call(
                        "post_office.get_channel_history", {"channel": channel}, Authorization=f"Bearer {token}"
                    )
                    problem(read, 403, "forbidden")
            await theirs.nothing_but_pong()

    async def test_the_own_logs_stay_whatever_is_granted(self, town: Instance) -> None:
        user = unique("alice")
        token = await town.session(user, channels={})
        async with town.connected(token) as alice:
            heard = await alice.subscribe(f"user:{user}", f"connection:{alice.id}")
            assert all("error" not in outcome for outcome in heard.values())
            await town.done("post_office.send_to_user", {"user_id": user, "message": {"n": 1}})
            (got,) = await alice.messages(1, f"user:{user}")
            assert got["payload"] == {"n": 1}
            guide = (await alice.subscribe("guide"))["guide"]
            assert guide["error"]["code"] == "forbidden"
            arguments = {"channel": f"user:{user}"}
            read = await town.done("post_office.get_channel_history", arguments, Authorization=f"Bearer {token}")
            assert [entry["payload"] for entry in read["publications"]] == [{"n": 1}]

    async def test_a_user_whose_name_begins_like_another_sees_nothing_of_them(self, town: Instance) -> None:
        user = unique("al")
        longer = f"{user}.ice"
        async with (
            town.connected(await town.session(user)) as short,
            town.connected(await town.session(longer)) as long,
        ):
            assert (await short.subscribe(f"user:{longer}"))[f"user:{longer}"]["error"]["code"] == "forbidden"
            assert (await long.subscribe(f"user:{user}"))[f"user:{user}"]["error"]["code"] == "forbidden"
            await town.done("post_office.send_to_user", {"user_id": longer, "message": {}})
            await long.messages(1)
            await short.nothing_but_pong()

    async def test_a_services_scope_history_opens_no_private_log(self, town: Instance) -> None:
        """Section 5: ``user:ID`` is for that user's connections, never grantable to others."""
        bob = unique("bob")
        token = await town.service(unique("reports"), "post_office.history")
        async with town.connected(await town.session(bob)) as theirs, town.connected(token) as service:
            await town.done("post_office.send_to_user", {"user_id": bob, "message": {"secret": True}})
            for channel in (f"user:{bob}", f"connection:{theirs.id}"):
                assert (await service.subscribe(channel))[channel]["error"]["code"] == "forbidden"
                read = await town.call(
                    "post_office.get_channel_history", {"channel": channel}, Authorization=f"Bearer {token}"
                )
                problem(read, 403, "forbidden")

    @pytest.mark.parametrize("channel", ["user:alice", "connection:c1"])
    async def test_private_logs_are_not_published_to(self, town: Instance, channel: str) -> None:
        response = await town.call("post_office.publish_to_agent_channel", {"channel": channel, "message": {}})
        problem(response, 403, "forbidden")


async def test_a_service_without_scopes_may_connect_and_nothing_else(town: Instance) -> None:
    realm = unique("nothing")
    async with town.connected(await town.service(realm)) as service:
        assert service.welcome["user_id"] == f"~{realm}"
        assert set(service.welcome["channels"]) == {f"user:~{realm}", f"connection:{service.id}"}
        assert (await service.subscribe("guide"))["guide"]["error"]["code"] == "forbidden"


async def test_the_operator_connects_like_any_service(town: Instance) -> None:
    token = town.operator["Authorization"].removeprefix("Bearer ")
    async with town.connected(token) as operator:
        assert operator.welcome["user_id"] == "~operator"
        assert "error" not in (await operator.subscribe("guide"))["guide"]
        assert (await operator.ask(type="publish", channel="guide", payload={}))["status"] == "published"
