"""The one path on which every surface calls an operation: authorise, limit, validate, time, call, translate.

It knows operations and callers, and neither transports nor services: what HTTP, MCP and whatever comes later
add is only where the bytes come from and how an answer or a `CityError` is written down.
"""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter
from typing import Any, Protocol

from pydantic import ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from foundations.errors import (
    CityError,
    Conflict,
    DeadlineExceeded,
    FieldError,
    Forbidden,
    Internal,
    InvalidArgument,
)
from foundations.json_bounds import why_unreadable
from foundations.operations import ANY_TOKEN, Arguments, Caller, Operation, Result
from foundations.telemetry import Counters, Span, Traces, current_traceparent, is_sampled

_log = logging.getLogger(__name__)
_LIMIT = "calls"
_ERRORS_TOLD = 20
"""A body may break its declaration in a hundred thousand places; the first ones help."""
_NAME_TOLD = 100
"""Characters of an unknown field's name that are repeated."""
_WORDS = {"missing": "is required", "extra_forbidden": "is not an argument of this operation"}


class Credit(Protocol):
    """What a caller may still do, under all limits that it is held to."""

    def spend(self, n: int = 1) -> bool:
        """Takes from the credit that lies here; false when there is too little."""
        ...

    async def refill(self, n: int = 1) -> None:
        """Fetches credit and takes ``n``; raises `RateLimited` when there is none."""
        ...


class Limits(Protocol):
    """Where credit is kept."""

    def credit(self, caller: Caller, limit: str, operation: str = "") -> Credit:
        """What ``caller`` has under the limit of this name, and under that of ``operation`` if it is named."""
        ...


class Invocation:
    """Calls operations for callers.

    Authorisation and the rate limit come before validation, so that what a caller may not do costs nothing
    and malformed bodies are no way around the limit.
    """

    def __init__(self, limits: Limits, counters: Counters, traces: Traces) -> None:
        self._limits = limits
        self._counters = counters
        self._traces = traces

    async def __call__(
        self, operation: Operation, caller: Caller, raw: bytes | str, *, key: str = "", traceparent: str = ""
    ) -> Result:
        """Calls ``operation`` with the JSON object in ``raw``; nothing at all counts as an empty object.

        ``key`` is the idempotency key that came beside the arguments, ``traceparent`` the caller's context;
        the call's own is in `current_traceparent` while it runs.

        Raises:
            CityError: every refusal and every failure; a defect of ours is logged and becomes `Internal`.
        """
        counters = self._counters.operation(operation.full_name)
        counters.count += 1
        own = self._traces.begin(traceparent)
        span = self._span(operation, own, traceparent) if self._traces.is_on and is_sampled(own) else None
        context = current_traceparent.set(own)
        began, code = perf_counter(), ""
        try:
            return await self._invoke(operation, caller, raw, key)
        except CityError as error:
            code = error.code
            counters.refused(code)
            raise
        finally:
            counters.latency.observe(perf_counter() - began)
            current_traceparent.reset(context)
            if span is not None:
                span.end(code)

    def _span(self, operation: Operation, context: str, parent: str) -> Span | None:
        """The span of a call; who calls and with what is not told."""
        attributes = {"rpc.system": "smart_city", "rpc.service": operation.service, "rpc.method": operation.name}
        return self._traces.start(operation.full_name, "server", attributes, context=context, parent=parent)

    async def _invoke(self, operation: Operation, caller: Caller, raw: bytes | str, key: str) -> Result:
        _authorise(operation, caller)
        credit = self._limits.credit(caller, _LIMIT, operation.full_name)
        if not credit.spend():
            await credit.refill()
        arguments = _validated(operation, raw, key)
        try:
            async with asyncio.timeout(operation.declared.deadline) as deadline:
                return await operation.call(caller, **_values(arguments))
        except CityError:
            raise
        except Exception as error:  # supervised: whatever a service lets slip must not leave this place
            if isinstance(error, TimeoutError) and deadline.expired():
                raise DeadlineExceeded(
                    f"{operation.name} took longer than {operation.declared.deadline:g} seconds"
                ) from None
            _log.exception("%s.%s failed", operation.service, operation.name)
            raise Internal("something went wrong here; the log of this instance has the details") from error


def encode(result: Result) -> dict[str, Any]:
    """A result as JSON-ready values; fields that are ``None`` are left out, inside of payloads they stay."""
    return result.model_dump(mode="json", exclude_none=True)


def _authorise(operation: Operation, caller: Caller) -> None:
    scope = operation.declared.scope
    if caller.kind == "operator":
        return
    if caller.kind == "session" and not operation.declared.sessions:
        raise Forbidden(f"a session may not call {operation.name}: it needs a token with the scope {scope}")
    if caller.kind == "service" and scope != ANY_TOKEN and scope not in caller.scopes:
        raise Forbidden(f"{operation.name} needs a token with the scope {scope}")


def _validated(operation: Operation, raw: bytes | str, key: str) -> Arguments:
    if isinstance(raw, str):
        raw = raw.encode(errors="surrogatepass")  # what is no text is refused as no JSON
    _refuse_unreadable(raw)
    if key and operation.takes_key:
        raw = _with_key(raw, key)
    try:
        return operation.arguments.model_validate_json(raw or b"{}")
    except ValidationError as error:
        rewritten = _with_whole_numbers(raw, error)
        if rewritten is None:
            raise _explained(error) from None
    try:
        return operation.arguments.model_validate_json(rewritten)
    except ValidationError as error:
        raise _explained(error) from None


def _with_whole_numbers(raw: bytes, error: ValidationError) -> bytes | None:
    """The arguments with 72 for the 72.0 that was refused, an integer by JSON Schema; None where there was none."""
    wrong = [
        problem for problem in error.errors(include_url=False, include_context=False)
        if problem["type"] == "int_type" and isinstance(problem["input"], float) and problem["input"].is_integer()
    ]  # fmt: skip
    if not wrong:
        return None
    arguments = from_json(raw)
    for problem in wrong:
        *path, last = problem["loc"]
        place = arguments
        for part in path:
            place = place[part]
        place[last] = int(problem["input"])
    return to_json(arguments)


def _values(arguments: Arguments) -> dict[str, Any]:
    """The validated values by name, nested models left as they are (a dump would make them plain)."""
    return {name: getattr(arguments, name) for name in type(arguments).model_fields}


def _refuse_unreadable(raw: bytes) -> None:
    """NaN, Infinity, and what not every reader can take: the parser would, and payloads carry it on."""
    if why := why_unreadable(raw):
        raise InvalidArgument(f"the arguments cannot be passed on: {why}")
    if b"NaN" in raw or b"Infinity" in raw:
        try:
            from_json(raw, allow_inf_nan=False)
        except ValueError as error:
            raise InvalidArgument(f"the arguments are not JSON: {error}") from None


def _with_key(raw: bytes, key: str) -> bytes:
    """The arguments with the key that came beside them; what is no object is left to validation."""
    try:
        arguments = from_json(raw or b"{}")
    except ValueError:
        return raw
    if not isinstance(arguments, dict) or arguments.get("key") == key:
        return raw
    if arguments.get("key") is not None:
        told = "differs from the Idempotency-Key that came with the call"
        raise Conflict(f"key {told}", errors=[FieldError("key", told)])
    return to_json(arguments | {"key": key})


def _explained(error: ValidationError) -> InvalidArgument:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    if first["type"] == "json_invalid":
        return InvalidArgument(f"the arguments are not JSON: {first['msg'].removeprefix('Invalid JSON: ')}")
    if not first["loc"]:
        return InvalidArgument("the arguments must be one JSON object")
    errors = [FieldError(_path(problem), _words(problem)) for problem in problems[:_ERRORS_TOLD]]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidArgument(f"{errors[0].field}: {errors[0].message}{more}", errors=errors)


def _path(problem: ErrorDetails) -> str:
    return ".".join(str(part)[:_NAME_TOLD] for part in problem["loc"])


def _words(problem: ErrorDetails) -> str:
    message = problem["msg"]
    return _WORDS.get(problem["type"], message[:1].lower() + message[1:])
