"""Arguments that stand in an address: `/api/channels/guide/history?limit=20` as the object that an operation takes.

It only rewrites; what the values are worth, and whether there are such arguments, is the invocation's to say.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from city_hall.surfaces.catalogue import Schema
from foundations.errors import FieldError, InvalidArgument

_INTEGER = re.compile(r"-?[0-9]{1,100}")


def arguments_in(request: Request, schema: Schema) -> bytes:
    """The path's and the query's values as one JSON object; an empty value is one that was not given.

    Raises:
        InvalidArgument: a name that is there twice.
    """
    given: dict[str, Any] = dict(request.path_params)
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidArgument(f"{name[:100]}: is there twice", errors=[FieldError(name[:100], "is there twice")])
        given[name] = value
    return json.dumps({name: _typed(name, value, schema) for name, value in given.items() if value}).encode()


def _typed(name: str, value: str, schema: Schema) -> Any:
    """Addresses know only text; what does not read as the type that is wanted stays text, and is refused as such."""
    field = schema.get("properties", {}).get(name, {})
    kinds = {option.get("type") for option in (field, *field.get("anyOf", ()))}
    if "integer" in kinds and _INTEGER.fullmatch(value):
        return int(value)
    return value


def parameters(path: str, schema: Schema, examples: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same arguments in OpenAPI's words."""
    return [
        _parameter(name, field, path, schema) | ({"example": examples[name]} if name in examples else {})
        for name, field in schema.get("properties", {}).items()
    ]


def _parameter(name: str, field: Mapping[str, Any], path: str, schema: Schema) -> dict[str, Any]:
    where = "path" if f"{{{name}}}" in path else "query"
    options = [option for option in field.get("anyOf", []) if option != {"type": "null"}]
    told = {key: value for key, value in field.items() if key not in {"anyOf", "default", "title", "description"}}
    kind = {**(options[0] if options else {}), **told}
    if field.get("default") is not None:
        kind["default"] = field["default"]
    if where == "query":
        kind = {"anyOf": [kind, {"const": ""}]}
    described = {"description": field["description"]} if "description" in field else {}
    return {
        "name": name, "in": where, "required": where == "path" or name in schema.get("required", ()),
        **described, "schema": kind,
    }  # fmt: skip
