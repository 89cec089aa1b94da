"""Operations are declared once: a typed async method marked with ``@operation`` on a service.

The declaration says who may call it, how long it may take and what it changes; from the method's signature
come the strict argument model, the JSON schemas and the documentation. Calling one is `foundations.invocation`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from foundations.rates import Rate
from foundations.written import Written

LONG_SECONDS = 15.0
"""An operation that may take longer than this waits for something."""
CallerKind = Literal["session", "service", "operator"]
HELD = "held"
"""The ``status`` of a result that is promised, and not done yet."""
ANY_TOKEN = ""
"""The scope of what every token may: to ask about itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: a user by session, a backend service by token, or the operator.

    ``subject`` is the user's id, or ``~REALM`` for a service; idempotency keys belong to it. ``credential`` names
    what a revocation names: the session's or the service token's id. It is held to the rates of its subject, and
    within them to its own ``rates``, by the names of limits.
    """

    kind: CallerKind
    subject: str
    credential: str = ""
    scopes: frozenset[str] = frozenset()
    rates: Mapping[str, Rate] = field(default_factory=dict)


class Arguments(BaseModel):
    """The arguments of one call: strict types, and no field that the signature does not name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Result(BaseModel):
    """What an operation returns. Fields that are ``None`` are left out on every surface."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    written: ClassVar[tuple[str, ...]] = ()
    """The fields that hold what is written already."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        cls.written = tuple(name for name, field in cls.model_fields.items() if field.annotation is Written)

    def to_json(self) -> bytes:
        """As surfaces that speak JSON answer it."""
        if not self.written:
            return self.model_dump_json(exclude_none=True).encode()
        rest = self.model_dump_json(exclude_none=True, exclude=set(self.written)).encode()
        fields = [b'"%b":%b' % (name.encode(), getattr(self, name)) for name in self.written]
        return b"{" + b",".join([*fields, rest[1:-1]] if len(rest) > 2 else fields) + b"}"

    @property
    def is_held(self) -> bool:
        """Whether it is promised and not done yet, because a store is away."""
        return getattr(self, "status", "") == HELD


Rule = Mapping[str, Any]
"""What all arguments together have to keep, as a JSON schema."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What ``@operation`` was told."""

    scope: str
    sessions: bool
    read_only: bool
    destructive: bool
    idempotent: bool
    deadline: float
    example: Mapping[str, Any]
    rules: tuple[Rule, ...]
    rate: Rate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of one service, ready to be bound to any surface."""

    service: str
    name: str
    summary: str
    description: str
    arguments: type[Arguments]
    result: type[Result]
    declared: Declaration
    call: Callable[..., Awaitable[Result]] = field(repr=False)

    @property
    def who(self) -> str:
        """Who may call it, for documentation: ``a token with the scope post_office.observe, or a session``."""
        scope = self.declared.scope
        return f"a token with the scope {scope}{', or a session' * self.declared.sessions}" if scope else "any token"

    @property
    def full_name(self) -> str:
        """The operation's name among those of all services: ``post_office.list_channels``."""
        return f"{self.service}.{self.name}"

    @property
    def takes_key(self) -> bool:
        """Whether a call may carry an idempotency key, as argument or as ``Idempotency-Key``."""
        return "key" in self.arguments.model_fields

    @property
    def may_hold(self) -> bool:
        """Whether it may be promised while a store is away, and done later."""
        status = self.result.model_fields.get("status")
        return status is not None and HELD in _words_in(status.annotation)

    @property
    def waits(self) -> bool:
        """Whether it may wait for something: such a call is given up when its caller leaves.

        What it would have taken for somebody who is gone stays for others.
        """
        return self.declared.deadline > LONG_SECONDS

    @property
    def tool_name(self) -> str:
        """The operation's name as an MCP tool: ``post_office_list_channels``."""
        return f"{self.service}_{self.name}"

    @property
    def path(self) -> str:
        """Where HTTP finds it: ``/soa/post-office/list_channels``."""
        return f"/soa/{self.service.replace('_', '-')}/{self.name}"


def _words_in(annotation: object) -> Iterator[object]:
    """The words that a type of literals allows, optional or not."""
    for argument in get_args(annotation):
        yield from _words_in(argument) if get_args(argument) else [argument]


def exactly_one_of(*names: str) -> Rule:
    """The rule that one of these arguments is given, and only one."""
    return {"oneOf": [{"required": [name], "properties": {name: {"not": {"type": "null"}}}} for name in names]}


Method = TypeVar("Method", bound=Callable[..., Awaitable[Result]])
_MARK = "__operation__"


def operation(
    *,
    scope: str,
    example: Mapping[str, Any],
    sessions: bool = False,
    read_only: bool = False,
    destructive: bool = False,
    idempotent: bool = False,
    deadline: float = 10.0,
    rate: Rate | None = None,
    rules: Sequence[Rule] = (),
) -> Callable[[Method], Method]:
    """Declares a service's method as an operation.

    Args:
        scope: what a service token needs, or `ANY_TOKEN`; the operator has every scope.
        example: arguments that a reader can try, in documentation and tests.
        sessions: whether a user's session may call it for itself; the method checks its grants.
        read_only: it changes nothing.
        destructive: it takes something away from somebody.
        idempotent: calling it again with the same arguments changes nothing more.
        deadline: seconds after which the call is given up with `deadline_exceeded`.
        rules: what its arguments have to keep together and the method checks, as schemas for documentation.
        rate: how often one caller may call it; without one, as often as it may call anything.
    """
    declared = Declaration(
        scope=scope, sessions=sessions, read_only=read_only, destructive=destructive,
        idempotent=idempotent or read_only, deadline=deadline, example=example,
        rate=rate, rules=tuple(rules),
    )  # fmt: skip

    def mark(method: Method) -> Method:
        setattr(method, _MARK, declared)
        return method

    return mark


def operations_of(service: object, name: str) -> tuple[Operation, ...]:
    """All operations declared on ``service``, in the order of their declaration; ``name`` is ``post_office``."""
    found = []
    for attribute, function in vars(type(service)).items():
        declared = getattr(function, _MARK, None)
        if isinstance(declared, Declaration):
            found.append(_describe(service, name, attribute, function, declared))
    return tuple(found)


def _describe(
    service: object, service_name: str, name: str, function: Callable[..., Any], declared: Declaration
) -> Operation:
    hints = get_type_hints(function, include_extras=True)
    parameters = list(inspect.signature(function).parameters.values())[2:]  # after self and caller
    fields: dict[str, Any] = {p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in parameters}
    title = "".join(part.capitalize() for part in name.split("_"))
    summary, _, rest = inspect.cleandoc(function.__doc__ or "").partition("\n")
    return Operation(
        service=service_name, name=name, summary=summary.strip(), description=rest.strip(),
        arguments=create_model(title, __base__=Arguments, **fields),
        result=hints["return"], declared=declared, call=getattr(service, name),
    )  # fmt: skip
