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
        ("docs/nowhere.md", "# Nowhere", "nowhere.md is 1 times among the pages and 0 times"),
        ("docs/faq.md", "Text\n- without an empty line", "a list begins after an empty line"),
    ],
)
def test_a_fault_ends_the_build(
    site: Site, tmp_path: Path, page: str, fault: str, told: str
) -> None:
    _append(tmp_path / page, fault)
    with pytest.raises(SiteError) as refused:
        site.build()
    assert told in str(refused.value)


def test_zensical_ends_the_build_and_names_every_page_with_a_fault(
    site: Site, tmp_path: Path
) -> None:
    """One build for both: it takes ten seconds of processor time."""
    _append(tmp_path / "docs/faq.md", "[gone](concepts.md#gone)")
    _append(tmp_path / "docs/site/pages/reference/client.md", "::: crossfade.Gone")
    with pytest.raises(SiteError) as refused:
        site.build()
    assert "faq.md" in str(refused.value)
    assert "crossfade.Gone" in str(refused.value)


def _append(page: Path, text: str) -> None:
    with page.open("a", encoding="utf-8") as file:
        file.write(f"\n{text}\n")
