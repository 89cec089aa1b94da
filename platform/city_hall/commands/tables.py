"""Tables as all commands draw them: without a frame where there is room, else each row as a block of lines.

What stands in the cells is text and never markup, whoever chose it.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

_ANY_WIDTH = 10_000
PROSE_WIDTH = 24
"""What the last column needs at least, where it holds sentences."""


class Rows:
    """Rows under named columns. The first column is never broken; with ``has_prose`` the last one may be."""

    def __init__(self, *columns: str, title: str = "", has_prose: bool = False) -> None:
        self._columns = columns
        self._title = title
        self._has_prose = has_prose
        self._rows: list[tuple[list[Text], str]] = []

    def add_row(self, *cells: str | Text, style: str = "") -> None:
        """One row; a cell may have several lines."""
        told = [cell if isinstance(cell, Text) else Text(cell) for cell in cells]
        self._rows.append((told, style))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self._title:
            yield Text(self._title, style="bold")
        if self._fits(console, options):
            yield self._table()
        else:
            yield from self._blocks()

    def _fits(self, console: Console, options: ConsoleOptions) -> bool:
        """Whether every cell has the width that it wants, prose a bearable one."""
        wanted = Measurement.get(console, options.update(max_width=_ANY_WIDTH), self._table()).maximum
        if self._has_prose:
            longest = max((cells[-1].cell_len for cells, _ in self._rows), default=0)
            wanted -= max(0, longest - PROSE_WIDTH)
        return wanted <= options.max_width

    def _table(self) -> Table:
        made = Table(box=None, pad_edge=False, header_style="dim")
        for place, column in enumerate(self._columns):
            made.add_column(column, overflow="fold", no_wrap=place == 0)
        for cells, style in self._rows:
            made.add_row(*cells, style=style)
        return made

    def _blocks(self) -> Iterator[RenderableType]:
        """The first cell, and below it the others with their names."""
        width = max(map(len, self._columns[1:]), default=0)
        for cells, style in self._rows:
            yield Text.assemble(cells[0], style=style or "bold", overflow="fold")
            for name, cell in zip(self._columns[1:], cells[1:], strict=True):
                if cell.plain:
                    block = Table.grid(padding=(0, 2))
                    block.add_column(width=width + 2, style="dim")
                    block.add_column(overflow="fold", style=style)
                    block.add_row(f"  {name}", cell)
                    yield block
