"""Text is text: in strings, cells, titles, bars and JSON; escaped once, and whole."""

from __future__ import annotations

import ast
import io
import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Group
from rich.text import Text

import compose
from compose.grid import Grid
from compose.terminal import Terminal, brief, paragraph, progress_bar, styled
from otel.visible import visible, visible_json
from tests.support.hostile_text import WORST, hostile_texts

# The categories of what can't be seen: control, format, surrogate, line and paragraph separator.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def unseen(text: str) -> list[str]:
    """Return the characters that must not reach a terminal, except line feeds."""
    return [
        character
        for character in text
        if character != "\n" and unicodedata.category(character) in _UNSEEN
    ]


@settings(derandomize=True, database=None)
@given(st.text(max_size=50) | hostile_texts())
def test_whatever_is_shown_can_be_seen(text: str) -> None:
    assert not unseen(visible(text))
    assert "\n" not in visible(text)
    assert visible(text, lines=True).count("\n") == text.count("\n")


@settings(derandomize=True, database=None)
@given(
    st.recursive(
        st.none() | st.integers() | st.text() | hostile_texts(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_json_means_the_same_and_can_be_seen(value: object) -> None:
    text = visible_json(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert not unseen(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31m", r"\x1b[31m"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\x9b\x7f\0", r"\x9b\x7f\x00"),
        ("\u202eabc\u2066", "<U+202E>abc<U+2066>"),
        ("\u200b\u2028\ufeff\U000e0041", "<U+200B><U+2028><U+FEFF><U+E0041>"),
        ("\udcff", "<U+DCFF>"),
        ("é 日本語 👩 עברית \u00a0", "é 日本語 👩 עברית \u00a0"),
    ],
)
def test_what_can_not_be_seen_is_written_out(text: str, shown: str) -> None:
    assert visible(text) == shown


def _terminal(width: int = 400) -> tuple[Terminal, io.StringIO]:
    terminal, written = Terminal(), io.StringIO()
    terminal.file, terminal.width = written, width
    return terminal, written


@pytest.mark.parametrize("text", [r"\[/x]", "[/]", "[bold]", ":smile:", "[link=x]y[/link]", WORST])
def test_text_is_shown_as_it_is_wherever_it_stands(text: str) -> None:
    terminal, written = _terminal(20 * len(text))
    grid = Grid("head")
    grid.title = grid.caption = text
    grid.add_row(text)
    grid.add_row(styled((text, "red")))
    for shape in (text, styled("a ", (text, "bold")), grid, Group(text, grid)):
        terminal.print(shape)
    with progress_bar(terminal) as bar:
        bar.add_task(text, total=1)
    shown = written.getvalue()
    assert not unseen(shown)
    assert shown.count(visible(text)) >= 11


def test_what_others_make_of_rich_is_safe_too() -> None:
    terminal, written = _terminal()
    terminal.print(Text("a\x1b[6n\u202e"), Group(Text("\x9b")))
    assert written.getvalue() == "a\\x1b[6n<U+202E>\n\\x9b\n"


def test_a_paragraph_keeps_its_lines_and_a_string_is_one() -> None:
    terminal, written = _terminal()
    terminal.print("a\nerror: b")
    terminal.print(paragraph("a\nb\x07"))
    assert written.getvalue() == "a\\nerror: b\na\nb\\x07\n"


def test_a_long_cell_is_cut_in_a_terminal_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal, written = _terminal()
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    grid = Grid("a")
    grid.add_row("x" * 1_000_000)
    terminal.print(grid)
    assert "(1,000,000 characters)" in " ".join(written.getvalue().split())
    assert len(written.getvalue()) < 2000
    assert brief("short") == "short"
    monkeypatch.setenv("TTY_COMPATIBLE", "0")
    piped, whole = _terminal()
    piped.print(grid)
    assert "x" * 1_000_000 in whole.getvalue()


def _calls(folder: Path) -> Iterator[tuple[Path, str]]:
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                yield path, ast.unparse(node.func)
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and "[/]" in node.value
            ):
                yield path, "markup"  # nothing would read it
            if isinstance(node, ast.ImportFrom) and node.module in {"rich.text", "rich.table"}:
                yield path, node.module


def test_there_is_no_way_around_it() -> None:
    folder = Path(compose.__file__).parent
    around = {
        "print", "typer.echo", "typer.secho", "typer.confirm", "typer.prompt", "Console",
        "sys.stdout.write", "sys.stderr.write", "rich.text", "rich.table", "markup",
        "Text.from_markup",
    }  # fmt: skip
    found = {
        (path.relative_to(folder).as_posix(), name)
        for path, name in _calls(folder)
        if name in around
    }
    # What makes the environment, the dashboards and a page of the documentation says constants.
    allowed = {
        "terminal.py",
        "grid.py",
        "bootstrap.py",
        "dashboards/__main__.py",
        "settings_page.py",
    }
    assert not {call for call in found if call[0] not in allowed}
