"""Tables: whole where there is room, in blocks where there is none, and what is in them is never markup."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from city_hall.commands.tables import Rows


def drawn(rows: Rows, width: int) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(rows)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def connections() -> Rows:
    rows = Rows("connection", "user", "on", title="Connections: 1")
    rows.add_row("c9614c77cad15552f0d23", "~business_outcomes", "pillar:content\npillar:insights")
    return rows


def test_with_room_it_is_a_table() -> None:
    assert drawn(connections(), 80) == [
        "Connections: 1",
        "connection             user                on",
        "c9614c77cad15552f0d23  ~business_outcomes  pillar:content",
        "                                           pillar:insights",
    ]


def test_without_room_each_row_is_a_block() -> None:
    assert drawn(connections(), 50) == [
        "Connections: 1",
        "c9614c77cad15552f0d23",
        "  user  ~business_outcomes",
        "  on    pillar:content",
        "        pillar:insights",
    ]


@pytest.mark.parametrize("width", [20, 50, 80])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_cut(width: int) -> None:
    lines = drawn(connections(), width)
    assert max(map(len, lines)) <= width
    assert "~business_outcomes" in "".join(line.strip() for line in lines)


def test_sentences_are_wrapped_in_their_column() -> None:
    rows = Rows("part", "what is wrong", has_prose=True)
    rows.add_row("valkey", "disconnected: Valkey cannot be reached: nobody listens there any more")
    assert all(line.startswith((" " * 8, "part", "valkey  ")) for line in drawn(rows, 50))


def test_what_is_told_is_no_markup() -> None:
    rows = Rows("part", "said")
    rows.add_row("valkey", "[red]x[/blue]")
    rows.add_row("colons", ":x:")
    rows.add_row("other", Text("fine", style="green"))
    assert {"valkey  [red]x[/blue]", "colons  :x:"} <= set(drawn(rows, 80))
