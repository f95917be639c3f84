"""The page of commands is the one the command line makes."""

from __future__ import annotations

from pathlib import Path

from typer.main import get_command

from compose.cli import application
from compose.cli_page import leaves, page

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_up_to_date() -> None:
    """If not: ``make pages``."""
    text = PAGE.read_text("utf-8")
    assert text == page(text)


def test_the_shape_of_each_json_is_told() -> None:
    shapes = PAGE.read_text("utf-8").partition("## JSON")[2].partition("## Completion")[0]
    for name, command in leaves(get_command(application())):
        if any("--json" in param.opts for param in command.params):
            assert f"`{name}`" in shapes or f"`{name.split()[-1]}`" in shapes, name
