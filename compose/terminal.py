"""Terminal output of the commands; text from outside can't act as control codes.

A message's id, a server's error or an operator's reason must not control the terminal, colour it,
or end the command. So strings are never parsed as Rich's markup, invisible characters are written
as escapes, and only ``styled`` adds colours. All output of a command goes through this module
(``tests/hostile/terminal`` looks for ways around it).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

import typer
from rich.cells import cell_len
from rich.console import (
    Console,
    ConsoleOptions,
    Group,
    JustifyMethod,
    OverflowMethod,
    RenderableType,
)
from rich.highlighter import JSONHighlighter
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from otel.visible import visible, visible_json

__all__ = [
    "Part",
    "Terminal",
    "brief",
    "confirm",
    "folded",
    "milliseconds",
    "paragraph",
    "progress_bar",
    "run_bar",
    "styled",
]

Part = str | tuple[str, str]
"""A string, or a string with its style."""

_CELL = 500  # largest number of characters in a cell or a name


class Terminal(Console):
    """A console that prints strings as plain text: no markup, emoji codes or highlighting.

    A string is printed as one line, with line feeds escaped. For several lines, print them one by
    one, or as a ``paragraph``.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.wide = False
        """Whether tables are shown in full width, even in a narrower terminal (``--wide``)."""
        self.notes_as_json = False
        """Whether each text is printed as a JSON object on one line (``--json``)."""

    @property
    def fits(self) -> bool:
        """Whether output must fit the width of the terminal: in a terminal, without ``--wide``."""
        return self.is_terminal and not self.wide

    def print(self, *objects: Any, **options: Any) -> None:
        """Print objects; in a terminal, wrap lines between words."""
        if self.notes_as_json:
            self._note(*objects)
            return
        super().print(*(self.fitted(shown) for shown in objects), **options)

    def fitted(self, shown: Any) -> Any:
        """Return texts, also those in a group, with their lines wrapped between words."""
        return _wrapped(shown, self.width) if self.fits else shown

    def _note(self, *objects: Any) -> None:
        texts = (str(shown.plain if isinstance(shown, Text) else shown) for shown in objects)
        if text := " ".join(texts).strip():
            self.json_line({"level": "note", "message": text})

    def json_line(self, value: object) -> None:
        """Print a JSON object on one line."""
        super().print(Text(visible_json(json.dumps(value, ensure_ascii=False))))

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
        """Return a string as plain text; Rich calls it for printed strings, cells and titles."""
        return Text(visible(text), style=style, justify=justify, overflow=overflow)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the segments with control codes escaped, also those of Rich's own ``Text``."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n" or segment.text.isprintable():
                yield segment
            else:
                yield Segment(visible(segment.text, lines=True), segment.style)

    def json(self, value: object, *, indent: int | None = 2) -> None:
        """Print JSON; on one line if ``indent`` is ``None``."""
        text = visible_json(json.dumps(value, ensure_ascii=False, indent=indent))
        shown = Text(text, no_wrap=True)
        if self.is_terminal:
            JSONHighlighter().highlight(shown)
        super().print(shown)


def _wrapped(shown: Any, width: int) -> Any:
    """Return texts wrapped to ``width`` between words; return other objects unchanged."""
    if isinstance(shown, str):
        shown = Text(visible(shown))
    if isinstance(shown, Group):
        return Group(*(_wrapped(renderable, width) for renderable in shown.renderables))
    if not isinstance(shown, Text) or shown.no_wrap or shown.cell_len <= width:
        return shown
    lines = Text()
    for number, line in enumerate(shown.split("\n", allow_blank=True)):
        lines.append("\n" if number else "").append_text(folded(line, width))
    return lines


def folded(line: Text, width: int) -> Text:
    """Wrap a line between words and keep its indent; a word wider than ``width`` stays whole."""
    indent = re.match(r" *", line.plain)[0]  # type: ignore[index]  # it matches everything
    breaks: list[int] = []
    at = 0
    for word in re.finditer(r"\S+", line.plain):
        before = cell_len(line.plain[at : word.end()]) + (len(indent) if breaks else 0)
        if before > width and word.start() > len(indent):
            breaks.append(word.start())
            at = word.start()
    parts = line.divide(breaks)
    folded = Text()
    for number, part in enumerate(parts):
        part.rstrip()
        folded.append(f"\n{indent}" if number else "").append_text(part)
    return folded


def brief(text: str, most: int = _CELL) -> str:
    """Return ``text``; if it is longer than ``most``, its beginning and its length."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def milliseconds(moment: str) -> str:
    """Return an RFC 3339 time in UTC cut to milliseconds, the resolution of Redis's entry ids."""
    whole, point, rest = moment.partition(".")
    return f"{whole}.{rest[:3]}Z" if point and rest.endswith("Z") else moment


def styled(*parts: Part) -> Text:
    """Return one line made of strings and ``(string, style)`` pairs."""
    text = Text()
    for part in parts:
        written, style = (part, None) if isinstance(part, str) else part
        text.append(visible(brief(written, 20 * _CELL)), style)
    return text


def paragraph(text: str) -> Text:
    """Return text with several lines, which is not wrapped."""
    return Text(visible(text, lines=True), no_wrap=True)


def confirm(question: str) -> None:
    """Ask a yes-or-no question; any answer but yes ends the command with status 1."""
    typer.confirm(visible(question), abort=True, err=True)


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return styled(task.description)


class _Counts(ProgressColumn):
    def render(self, task: Task) -> Text:
        return styled(*task.fields["counts"])


def progress_bar(console: Console) -> Progress:
    """Return a progress bar with a label, the finished share and an estimate of the time left."""
    columns = (_Description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def run_bar(console: Console, *, estimated: bool) -> Progress:
    """Return a progress bar with a label, each task's ``counts``, and the elapsed time.

    Args:
        console: The terminal that shows it.
        estimated: Show an estimate of the remaining time too.
    """
    left = [TimeRemainingColumn()] if estimated else []
    columns = (_Description(), BarColumn(bar_width=24), _Counts(), TimeElapsedColumn(), *left)
    return Progress(*columns, console=console, transient=True)
