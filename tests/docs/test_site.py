"""The documentation site can't be built with a fault that its reader would meet."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from docs.site.build import Site, SiteError

ROOT = Path(__file__).parents[2]
_LEFT = {"docs", "build", ".git", ".venv"}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return the site of a copy of this checkout whose pages can be broken."""
    for path in ROOT.iterdir():
        if path.name not in _LEFT:
            (tmp_path / path.name).symlink_to(path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    return Site(tmp_path)


@pytest.mark.parametrize(
    ("page", "fault", "told"),
    [
        ("docs/faq.md", "[gone](gone.md)", "there is no gone.md"),
        ("docs/faq.md", "[gone](concepts.md#gone)", "faq.md"),
        ("docs/nowhere.md", "# Nowhere", "nowhere.md is 1 times among the pages and 0 times"),
        ("docs/faq.md", "Text\n- without an empty line", "a list begins after an empty line"),
        ("docs/site/pages/reference/client.md", "::: crossfade.Gone", "crossfade.Gone"),
    ],
)
def test_a_fault_ends_the_build(
    site: Site, tmp_path: Path, page: str, fault: str, told: str
) -> None:
    with (tmp_path / page).open("a", encoding="utf-8") as file:
        file.write(f"\n{fault}\n")
    with pytest.raises(SiteError) as refused:
        site.build()
    assert told in str(refused.value)
