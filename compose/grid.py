"""Tables without lines, which fit a terminal and are complete everywhere else.

In a pipe or a file each row is one line, with all columns and nothing cut. In a terminal an id, a
time or a number is never broken: prose is wrapped between words, and columns without room are left
out, the least needed first. A note says so; ``--wide`` shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from compose.terminal import Terminal, brief, folded, styled
from otel.visible import visible

__all__ = ["Cell", "Grid"]

_GAP = 2
_PROSE = 24  # least width of a prose column
_LONGEST_WORD = 40  # largest width that its longest word can demand; a UUID has 36 characters
_INDENT = "    "

Cell = str | Text
"""The content of a table's cell: a string, or a ``styled`` text."""


@dataclass
class _Column:
    heading: str
    right: bool
    prose: bool
    drop: int
    style: str
    cells: list[Text] = field(default_factory=list)

    def cut(self) -> _Column:
        """Return the column with long cells cut."""
        return replace(self, cells=[_cut(cell) for cell in self.cells])

    def room(self, *, whole: bool) -> int:
        """Return the width that it needs: for its longest cell, or just to break no word."""
        heading = self.heading if whole else max(self.heading.split(), key=len, default="")
        widest = max((cell.cell_len for cell in self.cells), default=0)
        if self.prose and not whole:
            words = (cell_len(word) for cell in self.cells for word in cell.plain.split())
            widest = min(widest, max(_PROSE, min(max(words, default=0), _LONGEST_WORD)))
        return max(widest, cell_len(heading))


def _cut(cell: Text) -> Text:
    short = brief(cell.plain)
    return cell if short == cell.plain else Text(short)


class Grid:
    """A table that is built column by column and row by row.

    ``title`` is printed above it and ``caption`` below. If even the columns that are always shown
    have no room, each row is printed as several lines (stacked).

    Args:
        headings: Columns of ids, times or numbers.
        show_header: Whether the headings are shown.
        stacked: Stack rows rather than leave out a column.
        overflows: Never stack rows: a long row continues in the terminal's next line.
        whole: Cut no long cell.
    """

    def __init__(
        self,
        *headings: str,
        show_header: bool = True,
        stacked: bool = False,
        overflows: bool = False,
        whole: bool = False,
    ) -> None:
        self.title: Cell = ""
        self.caption: Cell = ""
        self._columns: list[_Column] = []
        self._styles: list[str | None] = []
        self._show_header = show_header
        self._stacked = stacked
        self._overflows = overflows
        self._whole = whole
        for heading in headings:
            self.add_column(heading)

    @property
    def row_count(self) -> int:
        """The number of rows."""
        return len(self._styles)

    def add_column(
        self,
        heading: str = "",
        *,
        right: bool = False,
        prose: bool = False,
        drop: int = 0,
        style: str = "",
    ) -> None:
        """Add a column.

        Args:
            heading: The heading.
            right: Align it to the right.
            prose: The column has prose, which may be wrapped; else ids, times or numbers.
            drop: 0: the column is always shown. Columns with the largest value are left out first.
            style: The style of its cells.
        """
        self._columns.append(_Column(heading, right, prose, drop, style))

    def add_row(self, *cells: Cell | None, style: str | None = None) -> None:
        """Add a row of strings and ``styled`` texts."""
        for column, cell in zip(self._columns, cells, strict=True):
            text = cell if isinstance(cell, Text) else Text(visible(cell or ""))
            column.cells.append(text)
        self._styles.append(style)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines, without trailing blanks."""
        width = options.max_width if isinstance(console, Terminal) and console.fits else None
        every = (
            [column.cut() for column in self._columns]
            if width and not self._whole
            else self._columns
        )
        columns = self._columns_for(every, width)
        if self.title:
            yield _line(self.title, "bold", width)
        if columns is None:
            yield from self._stack(every, width or 0)
        elif self.row_count or self._show_header:
            widths = _widths(columns, width)
            table = self._table(columns, widths)
            room = options.update(max_width=sum(widths) + _GAP * len(widths), no_wrap=False)
            for line in Segment.split_lines(console.render(table, room)):
                yield from _stripped(line)
                yield Segment.line()
            if left_out := [column.heading for column in every if column not in columns]:
                yield _line(
                    styled((f"(--wide shows also: {', '.join(left_out)})", "dim")), "", width
                )
        if self.caption:
            yield _line(self.caption, "", width)

    def _columns_for(self, every: list[_Column], width: int | None) -> list[_Column] | None:
        """Return the columns that fit into ``width``; ``None`` to stack the rows."""
        columns = list(every)
        if width is None or _total(columns, whole=True) <= width:
            return columns
        if self._stacked and _total(columns) > width:
            return None
        while _total(columns) > width and any(column.drop for column in columns):
            columns.remove(max(columns, key=lambda column: column.drop))
        return columns if self._overflows or _total(columns) <= width else None

    def _table(self, columns: Sequence[_Column], widths: Sequence[int]) -> Table:
        table = Table(box=None, pad_edge=False, show_header=self._show_header)
        for column, width in zip(columns, widths, strict=True):
            table.add_column(
                Text(column.heading),
                width=width,
                justify="right" if column.right else "left",
                overflow="fold",
                style=column.style,
            )
        for number, style in enumerate(self._styles):
            cells: list[RenderableType] = []
            for column, width in zip(columns, widths, strict=True):
                cell = column.cells[number]
                cells.append(folded(cell, width) if cell.cell_len > width else cell)
            table.add_row(*cells, style=style)
        return table

    def _stack(self, columns: Sequence[_Column], width: int) -> RenderResult:
        for number, style in enumerate(self._styles):
            cells = [
                (column.heading, column.cells[number]) for column in columns if column.cells[number]
            ]
            lines = [Text.assemble(f"{name}: " if name else "", cell) for name, cell in cells]
            if not self._show_header and len(lines) > 1:
                lines[:2] = [Text.assemble(lines[0], " " * _GAP, lines[1])]
            for place, line in enumerate(lines):
                shown = Text.assemble(_INDENT, line) if place else line
                shown.stylize(style or "")
                yield folded(shown, width)


def _line(text: Cell, style: str, width: int | None) -> Text:
    line = text if isinstance(text, Text) else Text(visible(text), style=style)
    return line if width is None else folded(line, width)


def _total(columns: Sequence[_Column], *, whole: bool = False) -> int:
    return sum(column.room(whole=whole) for column in columns) + _GAP * (len(columns) - 1)


def _widths(columns: Sequence[_Column], width: int | None) -> list[int]:
    """Return each column's width. Prose columns share the remaining width, the shortest first."""
    if width is None or _total(columns, whole=True) <= width:
        return [column.room(whole=True) for column in columns]
    widths = [column.room(whole=False) for column in columns]
    left = max(0, width - _total(columns))
    prose = [number for number, column in enumerate(columns) if column.prose]
    prose.sort(key=lambda number: columns[number].room(whole=True))
    for done, number in enumerate(prose):
        wanted = columns[number].room(whole=True) - widths[number]
        more = min(left // (len(prose) - done), wanted)
        widths[number] += more
        left -= more
    return widths


def _stripped(line: list[Segment]) -> list[Segment]:
    """Return the line without trailing blanks."""
    kept = list(line)
    while kept and not kept[-1].text.strip(" "):
        kept.pop()
    if kept:
        kept[-1] = Segment(kept[-1].text.rstrip(" "), kept[-1].style)
    return kept
