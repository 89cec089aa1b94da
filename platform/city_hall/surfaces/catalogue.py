"""All operations of all services with the JSON schemas that surfaces show, derived from their declarations.

It binds nothing and calls nothing; HTTP, MCP, the documentation and the tests walk the same catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from foundations.operations import Operation

Schema = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """One operation, what it takes and what it answers.

    Schemas contain no references: many readers of tool schemas do not follow them.
    """

    operation: Operation
    input_schema: Schema
    output_schema: Schema

    @classmethod
    def of(cls, operation: Operation) -> Entry:
        """Derives the schemas of ``operation``."""
        return cls(
            operation,
            inlined(operation.arguments.model_json_schema()),
            _answered(inlined(operation.result.model_json_schema(mode="serialization"))),
        )


class Catalogue:
    """The operations in the order in which their services were given."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._by_tool: dict[str, Entry] = {}
        for operation in operations:
            if operation.tool_name in self._by_tool:
                raise ValueError(f"{operation.tool_name} is declared twice")
            self._by_tool[operation.tool_name] = Entry.of(operation)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._by_tool.values())

    def __len__(self) -> int:
        return len(self._by_tool)

    def tool(self, name: str) -> Entry | None:
        """The operation behind the tool ``post_office_list_channels``, if there is one."""
        return self._by_tool.get(name)


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """``schema`` with every reference replaced by what it names."""
    definitions = schema.pop("$defs", {})
    whole: dict[str, Any] = _resolved(schema, definitions, ())
    return whole


def _resolved(node: Any, definitions: Mapping[str, Any], within: tuple[str, ...]) -> Any:
    if isinstance(node, list):
        return [_resolved(item, definitions, within) for item in node]
    if not isinstance(node, dict):
        return node
    reference = node.get("$ref")
    if not isinstance(reference, str):
        return {key: _resolved(value, definitions, within) for key, value in node.items()}
    name = reference.rpartition("/")[2]
    if name in within:
        raise ValueError(f"{name} contains itself; operations take and answer finite shapes")
    beside = {key: value for key, value in node.items() if key != "$ref"}
    return _resolved({**definitions[name], **beside}, definitions, (*within, name))


def _answered(schema: dict[str, Any]) -> dict[str, Any]:
    """A result as surfaces send it: with ``success``, and without ``null`` for what is left out."""
    properties = {name: _present(value) for name, value in schema.get("properties", {}).items()}
    return {
        **schema,
        "properties": {"success": {"type": "boolean", "const": True}, **properties},
        "required": ["success", *schema.get("required", [])],
    }


def _present(schema: dict[str, Any]) -> dict[str, Any]:
    options = [option for option in schema.get("anyOf", []) if option != {"type": "null"}]
    rest = {key: value for key, value in schema.items() if key not in {"anyOf", "default"}}
    if "default" in schema and schema["default"] is not None:
        rest["default"] = schema["default"]
    if len(options) == 1:
        return {**options[0], **rest}
    return {**rest, "anyOf": options} if options else rest
