"""The page of settings is the one the classes make."""

from __future__ import annotations

from pathlib import Path

from compose.settings_page import page


def test_the_page_is_up_to_date() -> None:
    """If not: ``make pages``."""
    assert (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8") == page()


def test_every_setting_is_described() -> None:
    """If not: write the field's docstring, in the class that has the field."""
    rows = [line.split("|")[1:-1] for line in page().splitlines() if line.startswith("| `")]

    assert len(rows) > 100
    assert [name.strip() for name, _default, *note in rows if not "|".join(note).strip()] == []
