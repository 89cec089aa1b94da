"""The one path on which operations are called."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from foundations.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidArgument,
    RateLimited,
)
from foundations.invocation import Invocation, encode
from foundations.operations import Caller, Operation, Result, operation, operations_of
from foundations.telemetry import Counters, Traces, current_traceparent, is_traceparent, trace_id_of

OPERATOR = Caller(kind="operator", subject="~operator")
SERVICE = Caller(kind="service", subject="~content", scopes=frozenset({"test.use"}))
ALICE = Caller(kind="session", subject="alice")
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Item(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    amount: Annotated[int, Field(ge=0)]


class Told(Result):
    value: Any = None
    other: str | None = None


@dataclass(slots=True)
class Service:
    """Operations to be called, and what they saw."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    contexts: list[str] = field(default_factory=list)

    @operation(scope="test.use", example={})
    async def order(
        self, caller: Caller, items: list[Item], since: datetime | None = None, key: str | None = None
    ) -> Told:
        """Takes an order."""
        return Told(value=[items, since, key])

    @operation(scope="test.use", example={})
    async def keep(self, caller: Caller, payload: dict[str, Any], key: str | None = None) -> Told:
        """Keeps any object."""
        return Told(value=payload)

    @operation(scope="test.use", sessions=True, example={})
    async def greet(self, caller: Caller) -> Told:
        """Greets whoever calls."""
        self.contexts.append(current_traceparent.get())
        return Told(value=caller.subject)

    @operation(scope="test.use", example={}, deadline=0.01)
    async def hang(self, caller: Caller) -> Told:
        """Never ends by itself."""
        self.entered.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    @operation(scope="test.use", example={})
    async def fail(self, caller: Caller, how: str) -> Told:
        """Fails as it is told."""
        raise {"city": Conflict("used"), "time": TimeoutError(), "defect": KeyError("secret")}[how]


class Credit:
    """A bucket with so much in it, and so much more to fetch."""

    def __init__(self, here: int = 0, there: int = 0) -> None:
        self.here, self.there = here, there

    def spend(self, n: int = 1) -> bool:
        if self.here < n:
            return False
        self.here -= n
        return True

    async def refill(self, n: int = 1) -> None:
        if self.there < n:
            raise RateLimited("too many calls", retry_after=2.0)
        self.there -= n


class Credits:
    """One bucket a subject."""

    def __init__(self, credit: Credit) -> None:
        self._credit = credit
        self.asked: list[tuple[str, str, str]] = []

    def credit(self, caller: Caller, limit: str, operation: str = "") -> Credit:
        self.asked.append((caller.subject, limit, operation))
        return self._credit


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
def operations(service: Service) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations_of(service, "test")}


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def invoke(counters: Counters) -> Invocation:
    return Invocation(Credits(Credit(here=1000)), counters, Traces())


async def invalid(invoke: Invocation, called: Operation, raw: bytes | str, key: str = "") -> InvalidArgument:
    with pytest.raises(InvalidArgument) as caught:
        await invoke(called, SERVICE, raw, key=key)
    return caught.value


# Validation


async def test_arguments_arrive_as_the_types_they_are_declared(
    invoke: Invocation, operations: dict[str, Operation]
) -> None:
    raw = b'{"items": [{"amount": 2}], "since": "2026-11-20T07:00:00Z"}'
    told = await invoke(operations["order"], SERVICE, raw)
    assert told == Told(value=[[Item(amount=2)], datetime(2026, 11, 20, 7, tzinfo=UTC), None])


@pytest.mark.parametrize("raw", [b"", "", b"{}"])
async def test_no_arguments_at_all_are_an_empty_object(
    invoke: Invocation, operations: dict[str, Operation], raw: bytes | str
) -> None:
    assert await invoke(operations["greet"], SERVICE, raw) == Told(value="~content")


@pytest.mark.parametrize(
    ("arguments", "field_name"),
    [
        ({}, "items"),
        ({"items": [], "unknown": 1}, "unknown"),
        ({"items": [{"amount": 1}, {"amount": "1"}]}, "items.1.amount"),
        ({"items": [{"amount": -1}]}, "items.0.amount"),
        ({"items": {}}, "items"),
        ({"items": [], "since": 5.5}, "since"),
        ({"items": [], "key": 1}, "key"),
    ],
)
async def test_every_wrong_argument_is_named(
    invoke: Invocation, operations: dict[str, Operation], arguments: dict[str, Any], field_name: str
) -> None:
    error = await invalid(invoke, operations["order"], json.dumps(arguments))
    assert [wrong.field for wrong in error.errors] == [field_name]
    assert field_name in error.message


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"nonsense", b"[", b'{"items": [}', b"[" * 5000])
@pytest.mark.parametrize("key", ["", "k1"])
async def test_what_is_not_json_is_refused(
    invoke: Invocation, operations: dict[str, Operation], raw: bytes, key: str
) -> None:
    error = await invalid(invoke, operations["order"], raw, key)
    assert error.errors == ()


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
@pytest.mark.parametrize("key", ["", "k1"])
async def test_what_only_javascript_takes_for_a_number_is_refused(
    invoke: Invocation, operations: dict[str, Operation], constant: str, key: str
) -> None:
    await invalid(invoke, operations["keep"], f'{{"payload": {{"n": [{constant}]}}}}', key)
    told = await invoke(operations["keep"], SERVICE, f'{{"payload": {{"n": "{constant}"}}}}', key=key)
    assert told == Told(value={"n": constant})


async def test_text_that_cannot_be_written_as_utf8_is_refused(
    invoke: Invocation, operations: dict[str, Operation]
) -> None:
    await invalid(invoke, operations["keep"], '{"payload": {"text": "\ud800"}}')


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"text"', b"null"])
@pytest.mark.parametrize("key", ["", "k1"])
async def test_what_is_not_an_object_is_refused(
    invoke: Invocation, operations: dict[str, Operation], raw: bytes, key: str
) -> None:
    error = await invalid(invoke, operations["order"], raw, key)
    assert error.errors == ()


async def test_a_body_that_is_wrong_everywhere_is_answered_briefly(
    invoke: Invocation, operations: dict[str, Operation]
) -> None:
    error = await invalid(invoke, operations["greet"], json.dumps({f"{n}" * 500: n for n in range(1000)}))
    assert len(error.errors) == 20
    assert all(len(wrong.field) == 100 for wrong in error.errors)
    assert "999 more" in error.message


# The idempotency key


async def test_a_key_beside_the_arguments_becomes_one_of_them(
    invoke: Invocation, operations: dict[str, Operation]
) -> None:
    for raw in ('{"items": []}', '{"items": [], "key": null}', '{"items": [], "key": "k1"}'):
        assert await invoke(operations["order"], SERVICE, raw, key="k1") == Told(value=[[], None, "k1"])


@pytest.mark.parametrize(("written", "is_whole"), [("2.0", True), ("2e0", True), ("2.5", False), ('"2"', False)])
async def test_a_whole_number_is_an_integer_however_it_is_written(
    invoke: Invocation, operations: dict[str, Operation], written: str, is_whole: bool
) -> None:
    """By JSON Schema, which tells clients what they may send."""
    raw = f'{{"items": [{{"amount": {written}}}]}}'
    if is_whole:
        assert (await invoke(operations["order"], SERVICE, raw)).value[0][0].amount == 2  # type: ignore[attr-defined]
    else:
        assert [wrong.field for wrong in (await invalid(invoke, operations["order"], raw)).errors] == ["items.0.amount"]


async def test_two_different_keys_are_refused(invoke: Invocation, operations: dict[str, Operation]) -> None:
    with pytest.raises(Conflict) as caught:
        await invoke(operations["order"], SERVICE, '{"items": [], "key": "k2"}', key="k1")
    assert [wrong.field for wrong in caught.value.errors] == ["key"]


async def test_an_operation_without_a_key_needs_none(invoke: Invocation, operations: dict[str, Operation]) -> None:
    assert await invoke(operations["greet"], SERVICE, b"", key="k1") == Told(value="~content")


# Rights and limits


@pytest.mark.parametrize(
    ("caller", "name"),
    [
        (ALICE, "order"),
        (Caller(kind="service", subject="~x"), "order"),
        (Caller(kind="service", subject="~x", scopes=frozenset({"test.admin"})), "greet"),
    ],
)
async def test_who_may_not_call_is_told_the_scope_and_nothing_else(
    invoke: Invocation, operations: dict[str, Operation], caller: Caller, name: str
) -> None:
    with pytest.raises(Forbidden) as caught:
        await invoke(operations[name], caller, b"not even json")
    assert "test.use" in caught.value.message


@pytest.mark.parametrize("caller", [OPERATOR, SERVICE, ALICE])
async def test_operator_scope_and_declared_sessions_may_call(
    invoke: Invocation, operations: dict[str, Operation], caller: Caller
) -> None:
    assert await invoke(operations["greet"], caller, b"") == Told(value=caller.subject)


async def test_each_call_costs_one_credit_of_its_caller(operations: dict[str, Operation]) -> None:
    limits = Credits(Credit(here=1, there=1))
    invoke = Invocation(limits, Counters(), Traces())
    await invoke(operations["greet"], ALICE, b"")
    await invoke(operations["greet"], ALICE, b"")
    with pytest.raises(RateLimited) as caught:
        await invoke(operations["greet"], ALICE, b"")
    assert caught.value.retry_after == 2.0
    assert limits.asked == [("alice", "calls", "test.greet")] * 3


async def test_malformed_calls_cost_credit_and_forbidden_ones_none(operations: dict[str, Operation]) -> None:
    credit = Credit(here=2)
    invoke = Invocation(Credits(credit), Counters(), Traces())
    with pytest.raises(Forbidden):
        await invoke(operations["order"], ALICE, b"{}")
    assert credit.here == 2
    with pytest.raises(InvalidArgument):
        await invoke(operations["order"], SERVICE, b"{")
    assert credit.here == 1


# Deadline and failures


async def test_a_call_that_takes_too_long_is_given_up(
    invoke: Invocation, operations: dict[str, Operation], service: Service
) -> None:
    with pytest.raises(DeadlineExceeded):
        await invoke(operations["hang"], SERVICE, b"")
    assert service.entered.is_set()


async def test_a_cancelled_call_is_cancelled_and_no_failure(
    invoke: Invocation, operations: dict[str, Operation], service: Service, counters: Counters
) -> None:
    call = asyncio.create_task(invoke(operations["hang"], SERVICE, b""))
    await service.entered.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert counters.operation("test.hang").refusals == {}


async def test_a_refusal_of_the_service_passes_as_it_is(invoke: Invocation, operations: dict[str, Operation]) -> None:
    with pytest.raises(Conflict):
        await invoke(operations["fail"], SERVICE, b'{"how": "city"}')


@pytest.mark.parametrize("how", ["defect", "time"])
async def test_a_defect_is_logged_and_says_nothing_of_the_inside(
    invoke: Invocation, operations: dict[str, Operation], how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(Internal) as caught:
        await invoke(operations["fail"], SERVICE, json.dumps({"how": how}))
    assert "secret" not in caught.value.message
    (record,) = caplog.records
    assert record.exc_info is not None
    assert "test.fail" in record.getMessage()


# Telling


async def test_calls_refusals_and_latencies_are_counted_by_operation(
    invoke: Invocation, operations: dict[str, Operation], counters: Counters
) -> None:
    await invoke(operations["greet"], ALICE, b"")
    for raw in (b"[]", b"{", b'{"how": "city"}'):
        with pytest.raises((InvalidArgument, Conflict)):
            await invoke(operations["fail"], SERVICE, raw)
    greeted, failed = counters.operation("test.greet"), counters.operation("test.fail")
    assert (greeted.count, greeted.refusals, greeted.latency.count) == (1, {}, 1)
    assert (failed.count, failed.refusals) == (3, {"invalid_argument": 2, "conflict": 1})
    assert failed.latency.count == 3


async def test_a_call_continues_the_trace_of_its_caller_or_begins_one(
    invoke: Invocation, operations: dict[str, Operation], service: Service
) -> None:
    await invoke(operations["greet"], ALICE, b"", traceparent=PARENT)
    await invoke(operations["greet"], ALICE, b"", traceparent="nonsense")
    continued, begun = service.contexts
    assert trace_id_of(continued) == trace_id_of(PARENT)
    assert continued != PARENT
    assert is_traceparent(begun)
    assert trace_id_of(begun) != trace_id_of(PARENT)
    assert current_traceparent.get() == ""


def test_a_result_leaves_out_its_own_nones_and_keeps_those_of_payloads() -> None:
    assert encode(Told(value={"a": None, "at": datetime(2026, 1, 1, tzinfo=UTC)})) == {
        "value": {"a": None, "at": "2026-01-01T00:00:00Z"}
    }
