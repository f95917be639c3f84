"""The page of routes and keys is the one that the code makes."""

from __future__ import annotations

from pathlib import Path

from docs.site.access import page


def test_the_page_is_up_to_date() -> None:
    """If not: ``make pages``, and read what the changed rows state."""
    assert (Path(__file__).parents[2] / "docs" / "access.md").read_text("utf-8") == page()
