"""What the command writes to a terminal: every text in it is text, whoever wrote it.

A message's id, an error of a server, a reason that somebody typed: none of them may steer the
terminal, colour it, or end the command. So strings are never read as Rich's markup here and what
can't be seen is written out; what we colour ourselves is made by :func:`styled`. Everything that a
command shows goes through this module (``tests/hostile/terminal`` looks for ways around it).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, JustifyMethod, OverflowMethod, RenderableType
from rich.highlighter import JSONHighlighter
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from otel.visible import visible, visible_json

__all__ = ["Grid", "Terminal", "brief", "confirm", "framed", "paragraph", "progress_bar", "styled"]

_CELL = 500  # characters of a table's cell: more than anybody reads there


class Terminal(Console):
    """A console whose strings are text: no markup, no emoji codes, no colours guessed.

    A string is one line: a line feed in it is written out too. Lines of our own are printed one by
    one, or as a :func:`paragraph`.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def render_str(
        self,
        text: str,
        *,
        style: str | Style = "",
        justify: JustifyMethod | None = None,
        overflow: OverflowMethod | None = None,
        emoji: bool | None = None,  # noqa: ARG002
        markup: bool | None = None,  # noqa: ARG002
        highlight: bool | None = None,  # noqa: ARG002
        highlighter: Any = None,  # noqa: ARG002
    ) -> Text:
        """Return a string as Rich shows it, wherever one stands: printed, in a cell, in a title."""
        return Text(visible(text), style=style, justify=justify, overflow=overflow)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what is written. Nothing unseen leaves here, were it in a ``Text`` of Rich's."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n" or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text, lines=True), segment.style)

    def json(self, value: object, *, indent: int | None = 2) -> None:
        """Print JSON; on one line where ``indent`` is ``None``."""
        text = visible_json(json.dumps(value, ensure_ascii=False, indent=indent))
        shown = Text(text)
        if self.is_terminal:
            JSONHighlighter().highlight(shown)
        self.print(shown)


class Grid(Table):
    """A table without lines, whose cells are cut after some hundred characters.

    ``whole`` cuts none.
    """

    def __init__(self, *headings: str, whole: bool = False, **options: Any) -> None:
        super().__init__(*headings, **{"box": None, "pad_edge": False, **options})
        self._whole = whole

    def add_row(
        self,
        *renderables: RenderableType | None,
        style: str | Style | None = None,
        end_section: bool = False,
    ) -> None:
        """Add a row; strings and :func:`styled` texts are its cells."""
        cells = renderables if self._whole else [_cut(cell) for cell in renderables]
        super().add_row(*cells, style=style, end_section=end_section)


def _cut(cell: RenderableType | None) -> RenderableType | None:
    return brief(cell) if isinstance(cell, str) else cell


def brief(text: str, most: int = _CELL) -> str:
    """Return ``text``, or its beginning and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def styled(*parts: str | tuple[str, str]) -> Text:
    """Return one line put together from strings and ``(string, style)`` pairs."""
    text = Text()
    for part in parts:
        written, style = (part, None) if isinstance(part, str) else part
        text.append(visible(brief(written, 20 * _CELL)), style)
    return text


def paragraph(text: str) -> Text:
    """Return text that keeps its line feeds."""
    return Text(visible(text, lines=True))


def framed(content: RenderableType, title: str) -> Panel:
    """Return ``content`` in a frame."""
    return Panel(content, title=styled(title), border_style="green", expand=False)


def confirm(question: str) -> None:
    """Ask for a yes; anything else ends the command with status 1."""
    typer.confirm(visible(question), abort=True)


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return styled(task.description)


def progress_bar(console: Console) -> Progress:
    """Return a bar with what is done, how far it is, and how long it may take."""
    columns = (_Description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)
