"""Results with a field that is written already."""

from __future__ import annotations

import json
from typing import Annotated

import pytest
from pydantic import ValidationError

from foundations.invocation import encode
from foundations.operations import Result
from foundations.written import Shape, Written


class Page(Result):
    """What a log has, say."""

    items: Annotated[Written, Shape(list[dict[str, int]])]
    offset: int | None = None


class Bare(Result):
    """Nothing beside."""

    items: Annotated[Written, Shape(list[int])]


def test_what_is_written_goes_out_as_it_is() -> None:
    assert Page(items=Written(b'[{"n": 1}]'), offset=3).to_json() == b'{"items":[{"n": 1}],"offset":3}'
    assert Bare(items=Written(b"[1, 2]")).to_json() == b'{"items":[1, 2]}'
    assert Page(items=Written(b"[]")).to_json() == b'{"items":[]}'


def test_readers_of_values_get_values() -> None:
    page = Page(items=Written(b'[{"n":1}]'), offset=3)
    assert encode(page) == json.loads(page.to_json()) == {"items": [{"n": 1}], "offset": 3}


def test_documentation_shows_the_shape() -> None:
    class Plain(Result):
        """What a log has, say."""

        items: list[dict[str, int]]
        offset: int | None = None

    shown = Page.model_json_schema(mode="serialization")
    assert shown["properties"] == Plain.model_json_schema(mode="serialization")["properties"]
    assert shown["required"] == ["items"]


def test_only_what_is_written_is_taken_for_it() -> None:
    with pytest.raises(ValidationError):
        Bare(items=b"[1]")  # type: ignore[arg-type]  # that is the point
