"""The Traffic Cop's operations as surfaces call them: declared, authorised, strict about their arguments."""

from __future__ import annotations

import json
from typing import Any

import pytest

from foundations.errors import CityError, Forbidden
from foundations.invocation import Invocation, encode
from foundations.operations import ANY_TOKEN, Operation, operations_of
from foundations.telemetry import Counters, Traces
from smart_city.traffic_cop.identities import OPERATOR_IDENTITY, Identities
from smart_city.traffic_cop.limits import Limits
from smart_city.traffic_cop.operations import TrafficCop
from smart_city.vocabulary import Identity

NAMES = {
    "create_session": "traffic_cop.sessions", "validate_session": "traffic_cop.sessions",
    "get_session": "traffic_cop.sessions", "refresh_session": "traffic_cop.sessions",
    "revoke_session": "traffic_cop.sessions", "list_sessions": "traffic_cop.sessions",
    "create_service_token": "traffic_cop.admin", "list_service_tokens": "traffic_cop.admin",
    "revoke_service_token": "traffic_cop.admin", "check_rate_limit": "traffic_cop.observe",
    "get_caller_identity": ANY_TOKEN,
}  # fmt: skip


class Desk:
    """Calls operations by name, with arguments as JSON."""

    def __init__(self, cop: TrafficCop, limits: Limits) -> None:
        self.operations = {operation.name: operation for operation in operations_of(cop, "traffic_cop")}
        self._invoke = Invocation(limits, Counters(), Traces())

    async def call(self, name: str, arguments: object, caller: Identity = OPERATOR_IDENTITY) -> dict[str, Any]:
        return encode(await self._invoke(self.operations[name], caller, json.dumps(arguments)))

    async def refusal(self, name: str, arguments: object, caller: Identity = OPERATOR_IDENTITY) -> CityError:
        with pytest.raises(CityError) as refusal:
            await self.call(name, arguments, caller)
        return refusal.value


@pytest.fixture
def desk(cop: TrafficCop, limits: Limits) -> Desk:
    return Desk(cop, limits)


def service(*scopes: str) -> Identity:
    return Identity(kind="service", subject="~desk", credential="t1", scopes=frozenset(scopes))


def test_all_operations_of_the_contract_are_there(desk: Desk) -> None:
    assert {name: operation.declared.scope for name, operation in desk.operations.items()} == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_each_operation_explains_itself(desk: Desk, name: str) -> None:
    operation: Operation = desk.operations[name]
    assert operation.summary.endswith(".")
    operation.arguments.model_validate_json(json.dumps(operation.declared.example))
    for argument, schema in operation.arguments.model_json_schema()["properties"].items():
        told = schema.get("description") or any("description" in one for one in schema.get("anyOf", ()))
        assert told, f"{argument} is not described"


def test_what_takes_nothing_away_says_so(desk: Desk) -> None:
    declared = {name: operation.declared for name, operation in desk.operations.items()}
    assert {name for name, one in declared.items() if one.destructive} == {
        "revoke_session",
        "revoke_service_token",
    }
    assert {name for name, one in declared.items() if not one.idempotent} == {
        "create_session", "refresh_session", "create_service_token"
    }  # fmt: skip


async def test_an_operation_answers_in_json(desk: Desk) -> None:
    created = await desk.call("create_session", {"user_id": "alice", "ttl_seconds": 60})
    assert set(created) == {"session_id", "session_token", "user_id", "status", "expires_at"}
    shown = await desk.call("validate_session", {"session_token": created["session_token"]})
    assert "session_token" not in shown
    token = await desk.call("create_service_token", {"realm": "content", "scopes": []})
    assert set(token) == {
        "token_id",
        "realm",
        "scopes",
        "created_at",
        "token",
    }  # one that does not end has no end


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("create_session", {}, "user_id"),
        ("create_session", {"user_id": 7}, "user_id"),
        ("create_session", {"user_id": "~operator"}, "user_id"),
        ("create_session", {"user_id": "alice\n"}, "user_id"),
        ("create_session", {"user_id": "alice", "ttl_seconds": "60"}, "ttl_seconds"),
        ("create_session", {"user_id": "alice", "ttl_seconds": 0}, "ttl_seconds"),
        ("create_session", {"user_id": "alice", "ttl_seconds": 10**9}, "ttl_seconds"),
        ("create_session", {"user_id": "alice", "ttl_seconds": True}, "ttl_seconds"),
        ("create_session", {"user_id": "alice", "context": []}, "context"),
        ("create_session", {"user_id": "alice", "channels": {"guide": ["reed"]}}, "channels.guide.0"),
        ("create_session", {"user_id": "alice", "channels": {"guide": "send"}}, "channels.guide"),
        ("create_session", {"user_id": "alice", "channels": {"a b": ["send"]}}, "channels.a b"),
        (
            "create_session",
            {"user_id": "alice", "channels": {"guide": {"rights": ["reed"], "rate": {"per_second": 1, "burst": 1}}}},
            "channels.guide.rights.0",
        ),
        ("create_session", {"user_id": "alice", "channels": {"guide": {"rights": ["send"]}}}, "channels.guide.rate"),
        (
            "create_session",
            {"user_id": "alice", "rates": {"shouts": {"per_second": 1, "burst": 1}}},
            "rates.shouts.[key]",
        ),
        (
            "create_session",
            {"user_id": "alice", "rates": {"calls": {"per_second": 0, "burst": 1}}},
            "rates.calls.per_second",
        ),
        ("create_session", {"user_id": "alice", "rates": {"calls": {"per_second": 1}}}, "rates.calls.burst"),
        ("create_session", {"user_id": "alice", "nonsense": 1}, "nonsense"),
        ("list_sessions", {"user_id": "alice", "limit": 501}, "limit"),
        ("create_service_token", {"realm": "operator", "scopes": []}, "realm"),
        ("create_service_token", {"realm": "~content", "scopes": []}, "realm"),
        ("create_service_token", {"realm": "content", "scopes": "post_office.publish"}, "scopes"),
        ("create_service_token", {"realm": "content", "scopes": ["nonsense"]}, "scopes"),
        ("check_rate_limit", {"subject": "{alice}", "limit": "calls"}, "subject"),
        ("revoke_session", {}, "session_id"),
    ],
)
async def test_wrong_arguments_are_refused_and_named(
    desk: Desk, name: str, arguments: dict[str, Any], field: str
) -> None:
    refusal = await desk.refusal(name, arguments)
    assert refusal.code == "invalid_argument"
    assert [error.field for error in refusal.errors] == [field]


@pytest.mark.parametrize(("name", "scope"), [item for item in NAMES.items() if item[1] != ANY_TOKEN])
async def test_each_operation_needs_its_scope(desk: Desk, name: str, scope: str) -> None:
    example = dict(desk.operations[name].declared.example)
    others = {
        "post_office.admin",
        "nurse.admin",
        "traffic_cop.sessions",
        "traffic_cop.admin",
        "traffic_cop.observe",
    }
    assert isinstance(await desk.refusal(name, example, service(*others - {scope})), Forbidden)
    try:
        await desk.call(name, example, service(scope, "post_office.publish"))
    except CityError as refusal:
        assert refusal.code in {"not_found", "unauthenticated"}  # the example's session is nobody's


async def test_a_token_without_any_scope_may_ask_about_itself(desk: Desk) -> None:
    told = await desk.call("get_caller_identity", {}, service())
    assert told == {"kind": "service", "id": "desk", "credential": "t1", "scopes": [], "channels": {}}


async def test_a_session_may_only_refresh_itself(desk: Desk, identities: Identities) -> None:
    created = await desk.call("create_session", {"user_id": "alice"})
    caller = await identities.identify(created["session_token"])
    renewed = await desk.call("refresh_session", {}, caller)
    assert renewed["session_id"] == created["session_id"]
    for name in NAMES.keys() - {"refresh_session", "get_caller_identity"}:
        assert (await desk.refusal(name, desk.operations[name].declared.example, caller)).code == "forbidden"


async def test_calls_are_limited(desk: Desk, limits: Limits) -> None:
    caller = service("traffic_cop.observe")
    await limits.bucket(caller.subject, "calls").refill(20)
    refusal = await desk.refusal("check_rate_limit", {"subject": "alice", "limit": "calls"}, caller)
    assert refusal.code == "rate_limited"
    assert 0 < (refusal.retry_after or 0) <= 0.5
