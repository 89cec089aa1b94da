"""JSON that is written already, as a field of a result: it goes out as it is where JSON goes out.

It checks nothing; whoever puts it there has it from where it was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema, from_json


class Written(bytes):
    """A JSON value as text. A field that holds one is declared ``Annotated[Written, Shape(list[int])]``."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The type that documentation shows, and that readers get who want values instead of text."""

    type: Any

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        read = core_schema.plain_serializer_function_ser_schema(
            from_json, return_schema=handler.generate_schema(self.type)
        )
        return core_schema.is_instance_schema(Written, serialization=read)
