"""The page of settings is the one the classes make."""

from __future__ import annotations

from pathlib import Path

from compose.settings_page import page


def test_the_page_is_up_to_date() -> None:
    """If not: ``make pages``."""
    assert (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8") == page()
