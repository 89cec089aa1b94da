"""The catalogue's schemas, and the page made from them."""

from __future__ import annotations

import json
from typing import Literal

import pytest
from pydantic import BaseModel

from city_hall.surfaces.catalogue import Catalogue, Entry
from city_hall.surfaces.docs import operations_page
from foundations.operations import Caller, Operation, Result, operation, operations_of
from tests.support.example_city import ExampleService


class Leaf(BaseModel):
    name: str


class Branch(BaseModel):
    leaves: list[Leaf]
    other: Leaf | None = None


class Endless(Result):
    inner: list[Endless]


class Shape(Result):
    branch: Branch | None = None
    size: int | str | None = None
    many: int = 3
    kind: Literal["<b>", "c"]


class Shapes:
    @operation(scope="x", example={"branch": {"leaves": []}, "kind": "<b>"})
    async def draw(self, caller: Caller, branch: Branch, kind: Literal["<b>", "c"] = "c") -> Shape:
        """Draws <i>one</i> shape."""
        return Shape(kind=kind)


class Recursion:
    @operation(scope="x", example={})
    async def recur(self, caller: Caller) -> Endless:
        """Never ends."""
        return Endless(inner=[])


def entries(service: object, name: str) -> dict[str, Entry]:
    return {entry.operation.name: entry for entry in Catalogue(operations_of(service, name))}


def test_operations_keep_their_order_and_are_found_as_tools() -> None:
    operations = operations_of(ExampleService(), "example")
    catalogue = Catalogue(operations)
    assert [entry.operation for entry in catalogue] == list(operations)
    assert len(catalogue) == len(operations)
    found = catalogue.tool("example_echo")
    assert found is not None
    assert found.operation.path == "/soa/example/echo"
    assert catalogue.tool("example_unknown") is None


def test_two_operations_of_one_name_are_a_mistake() -> None:
    operations: tuple[Operation, ...] = operations_of(ExampleService(), "example")
    with pytest.raises(ValueError, match="example_echo"):
        Catalogue([*operations, *operations])


def test_schemas_contain_no_references() -> None:
    entry = entries(Shapes(), "shapes")["draw"]
    for schema in (entry.input_schema, entry.output_schema):
        assert "$ref" not in json.dumps(schema)
        assert "$defs" not in schema
    leaf = entry.input_schema["properties"]["branch"]["properties"]["leaves"]["items"]
    assert leaf["properties"]["name"]["type"] == "string"


def test_a_shape_that_contains_itself_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="Endless"):
        entries(Recursion(), "recursion")


def test_a_result_is_described_as_it_is_sent() -> None:
    schema = entries(Shapes(), "shapes")["draw"].output_schema
    properties = schema["properties"]
    assert properties["success"] == {"type": "boolean", "const": True}
    assert set(schema["required"]) == {"success", "kind"}
    assert properties["branch"]["type"] == "object"
    assert "default" not in properties["branch"]
    assert properties["size"]["anyOf"] == [{"type": "integer"}, {"type": "string"}]
    assert properties["many"]["default"] == 3
    assert schema["additionalProperties"] is False


def test_the_page_shows_types_and_escapes_what_it_shows() -> None:
    shown = operations_page(Catalogue(operations_of(Shapes(), "shapes")))
    assert "Draws &lt;i&gt;one&lt;/i&gt; shape." in shown
    assert "integer or string" in shown
    assert "&quot;&lt;b&gt;&quot; | &quot;c&quot;" in shown
    assert "<b>" not in shown
    listed = operations_page(Catalogue(operations_of(ExampleService(), "example")))
    assert "array of string" in listed
    assert "<p>None.</p>" in listed
    assert "or a session" in listed
